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

"""Servers with a template are counted as they come and go."""

from nova_ext.live import present
from tests import base


class PresentTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.patch(present.time, 'monotonic', lambda: self.now)
        self.present = present.Present()

    def test_unknown_at_first(self):
        self.assertTrue(self.present)
        self.assertIn('a', self.present)

    def test_none(self):
        self.present.listed([])
        self.assertFalse(self.present)
        self.assertNotIn('a', self.present)

    def test_comes_and_goes(self):
        self.present.listed([])
        self.present.arrives('a')
        self.assertTrue(self.present)
        self.assertIn('a', self.present)
        # Nova does not list it yet.
        self.present.listed([])
        self.assertIn('a', self.present)
        self.present.listed(['a', 'b'])
        self.present.listed(['b'])
        self.assertEqual((False, True), ('a' in self.present,
                                         'b' in self.present))
        self.present.listed([])
        self.assertFalse(self.present)

    def test_one_that_never_came(self):
        self.present.listed([])
        self.present.arrives('a')
        self.now += present.ARRIVAL
        self.present.listed([])
        self.assertFalse(self.present)
