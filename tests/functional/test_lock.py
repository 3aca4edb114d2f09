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

"""How much is asked of others under Nova's resource lock.

Nobody else is served meanwhile.  ``KONGMING_TEST_SHOW=1`` has the calls
printed.
"""

import os

from tests.embedded import locked
from tests.functional import test_boot
from tests.functional import test_life

#: kind -> calls, at most.
NATIVE = {locked.CONDUCTOR: 5, locked.DATABASE: 12, locked.LIBVIRT: 2,
          locked.PLACEMENT: 18}
TEMPLATE = {locked.CONDUCTOR: 10, locked.DATABASE: 19, locked.LIBVIRT: 4,
            locked.PLACEMENT: 16}
CHANGE = {locked.CONDUCTOR: 8, locked.DATABASE: 12, locked.LIBVIRT: 2,
          locked.PLACEMENT: 8}


class LockTest(test_life.LifeBase):

    def setUp(self):
        super().setUp()
        self.hosts()
        # What is read once only has been.
        for flavor in (self._create_flavor(vcpu=1, extra_spec=(
                test_boot.PINNED)), self.flavor({'pin.0': '0:2'}, vcpus=1)):
            self.boot(flavor)
        self._until(lambda: True, 1)
        self.locked = self.useFixture(locked.Locked())

    def assertAtMost(self, most, what):
        self._until(lambda: True, 1)
        found = self.locked.numbers()
        if os.environ.get('KONGMING_TEST_SHOW'):
            print(f'{what}: {found}\n{self.locked.table()}')
        self.assertEqual({}, {
            kind: number for kind, number in found.items()
            if number > most[kind]}, self.locked.table())

    def test_native_boot(self):
        flavor = self._create_flavor(vcpu=2, extra_spec=test_boot.PINNED)
        self.locked.clear()
        self.boot(flavor)
        self.assertAtMost(NATIVE, 'native boot')

    def test_template_boot(self):
        flavor = self.flavor(test_life.TEMPLATE)
        self.locked.clear()
        self.boot(flavor)
        self.assertAtMost(TEMPLATE, 'template boot')

    def test_live_change(self):
        server = self.boot(self.flavor(
            {**test_life.TEMPLATE, 'grant': 'template'}))
        self.api.post_server_metadata(
            server['id'], {'kongming:pin.0': '0:15'})
        self._until(lambda: True, 1)
        # Nova has counted it as active.
        self.audit()
        self.locked.clear()
        self.reconcile()
        self.assertEqual({10, 15}, self.owned()[1])
        self.assertAtMost(CHANGE, 'live change')
