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
"""Which pCPUs of a server have power."""

from kongming.intent import merge
from kongming.live import power
from kongming.live import threads
from kongming.template import template
from tests import base

OWNED = threads.Owned({0: 4, 1: 5}, frozenset({6}))


def intent(**overlay):
    profile = template.Profile(**overlay)
    return merge.Intent(template.Template(profiles={'night': profile}),
                        'night')


class PowerTest(base.TestCase):

    def check(self, up, down, problem, asked, strategy, emulator=(4,)):
        found = power.wanted(
            threads.Threads(dict.fromkeys((0, 1), frozenset({4})),
                            frozenset(emulator)),
            OWNED, intent(power=asked), strategy)
        self.assertEqual((up, down), (set(found.up), set(found.down)))
        self.assertIn(problem, found.problem)
        self.assertEqual(bool(problem), bool(found.problem))

    def test_what_is_owned_is_on(self):
        self.check({4, 5, 6}, set(), '', None, 'cpu_state')
        self.check({4, 5, 6}, set(), '', None, '')

    def test_what_a_profile_leaves(self):
        self.check({4}, {5, 6}, '', 'off', 'cpu_state')
        self.check({4}, {5, 6}, '', 'low', 'governor')
        self.check({4, 6}, {5}, '', 'low', 'governor', (6,))

    def test_another_strategy(self):
        self.check({4, 5, 6}, set(), 'profile.night.power: \'off\' needs '
                   '[libvirt] cpu_power_management_strategy = cpu_state; '
                   'this host has governor', 'off', 'governor')
        self.check({4, 5, 6}, set(), 'needs [libvirt] cpu_power_management '
                   'and cpu_power_management_strategy = governor', 'low', '')
