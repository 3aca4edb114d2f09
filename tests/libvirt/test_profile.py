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

"""Profiles and lending with real domains, by what /proc says."""

from tests.embedded import cloud
from tests.libvirt import boot


class ProfileTest(boot.Base, cloud.LibvirtCloud):

    def setUp(self):
        super().setUp()
        #: One pCPU of cpu_shared_set.
        self.shared = min(self.cpu_sets()[0])

    def say(self, server, profile):
        self.api.post_server_metadata(server['id'], {
            'kongming:profile': profile})
        self.ring(server)

    def ring(self, server):
        self.api.api_get(f'/servers/{server["id"]}/diagnostics')
        self.settle()

    def assertOn(self, server, *pcpus):
        self.assertEqual({0: frozenset(pcpus)}, self.threads(server))

    def test_day_and_night(self):
        lender = self.boot(image='busy', pin_0=f'0:{self.pcpu}',
                           profile_night_pin_0=f'0~{self.shared}',
                           profile_night_lend='true', grant='profile')
        borrower = self.boot(image='busy', borrow='host', native={
            'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1'})
        self.ring(lender)
        self.assertOn(lender, self.pcpu)
        self.assertOn(borrower, self.shared)
        for _night in range(2):
            self.say(lender, 'night')
            self.assertOn(lender, self.shared)
            self.assertOn(borrower, self.shared, self.pcpu)
            self.assertEqual({self.pcpu}, self.owned())
            self.say(lender, 'auto')
            self.assertOn(borrower, self.shared)
            self.assertOn(lender, self.pcpu)
        self.say(lender, 'night')
        # Nova defines it as it owns; the borrower is gone before.
        self._reboot_server(lender, hard=True)
        self.assertOn(borrower, self.shared)
        self.ring(lender)
        self.assertOn(lender, self.shared)
        self.assertOn(borrower, self.shared, self.pcpu)
        self._delete_server(lender)
        self.ring(borrower)
        self.assertOn(borrower, self.shared)
        self.audit()
        self.assertEqual(set(), self.owned())
