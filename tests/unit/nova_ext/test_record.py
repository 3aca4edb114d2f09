#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""What can not be recorded now is recorded later, once and in order."""

from nova import exception

from nova_ext.live import record
from tests import base


class Change:
    """Stands for a change of which a part is recorded each time."""

    def __init__(self, test, name, errors=()):
        self.test, self.name, self.errors = test, name, list(errors)

    def log(self, error=None):
        self.test.logged.append(self.name)

    def end(self, error=None):
        if self.errors:
            raise self.errors.pop(0)
        self.test.recorded.append((self.name, error))


class RecordsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.logged, self.recorded = [], []
        self.records = record.Records()

    def test_nobody_is_asked_before_the_flush(self):
        self.records.end(Change(self, 'a'), 'why')
        self.assertEqual((['a'], []), (self.logged, self.recorded))
        self.records.flush()
        self.records.flush()
        self.assertEqual([('a', 'why')], self.recorded)

    def test_in_order_when_it_can_be_done(self):
        self.records.end(Change(self, 'a', [TimeoutError(), TimeoutError()]))
        self.records.end(Change(self, 'b'))
        for _ in range(2):
            self.records.flush()
            self.assertEqual([], self.recorded)
        self.records.flush()
        self.assertEqual([('a', None), ('b', None)], self.recorded)
        self.assertEqual(['a', 'b'], self.logged)

    def test_a_server_that_is_gone_is_in_nobodys_way(self):
        self.records.end(Change(self, 'a', [
            exception.InstanceActionNotFound(request_id='r',
                                             instance_uuid='u')]))
        self.records.end(Change(self, 'b'))
        self.records.flush()
        self.assertEqual([('b', None)], self.recorded)
