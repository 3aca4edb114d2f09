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

from kongming.fit import demand
from kongming.fit import lint
from kongming.fit import relax
from kongming.host import usage
from kongming.template import guest
from kongming.template import template
from tests import base


def host(taken=(), **fields):
    return usage.HostState([
        usage.NodeState(n, frozenset(range(8 * n, 8 * n + 8)),
                        frozenset(taken) & set(range(8 * n, 8 * n + 8)),
                        siblings=[{8 * n + i, 8 * n + i + 1}
                                  for i in range(0, 8, 2)],
                        memory_mib=1024, **fields) for n in range(2)])


def asked(vcpus=4, memory=512, hw=None, **specs):
    return demand.Demand(
        guest.from_flavor(vcpus, memory, {
            'hw:cpu_policy': 'dedicated', **(hw or {})}),
        template.decode({f'kongming:{key.replace("_", ".")}': value
                         for key, value in specs.items()}))


class RelaxTest(base.TestCase):

    def check(self, text, state, wanted, **kwargs):
        self.assertEqual(text, relax.relax(state, wanted, **kwargs))

    def test_as_few_pins_as_possible(self):
        self.check('without the pin(s) of vCPU 1-2', host({3, 4}),
                   asked(node_0='0', pin_0='0-3:2-5'))

    def test_node(self):
        self.check('without node.0', host(range(6)), asked(node_0='0'))

    def test_thread_policy(self):
        self.check('with hw:cpu_thread_policy=prefer instead of require',
                   host({0, 2, 4, 6, 8, 10, 12, 14}),
                   asked(hw={'hw:cpu_thread_policy': 'require'}))

    def test_fewer_vcpus(self):
        self.check('with 2 dedicated vCPU(s) less in cell 0, and no pins',
                   host(set(range(16)) - {3, 9, 10}), asked())

    def test_less_memory(self):
        self.check('with 1024 MiB in cell 0, and no pins', host(),
                   asked(memory=2048))

    def test_nothing_alone_would_do(self):
        self.check(None, host(range(16)), asked())


class LintTest(base.TestCase):

    def check(self, words, wanted, state=None):
        found = list(lint.lint(wanted, state))
        self.assertTrue(any(words in text for text in found), found)

    def test_clean(self):
        self.assertEqual([], list(lint.lint(
            asked(pin_0='0-3:0-3'), host())))

    def test_profiles_by_load(self):
        for specs, words in (
                ({'x': 'use<15% and use>20%'},
                 'profile x: use<15% and use>20% exclude each other'),
                ({'x': 'use<15% until 15.5%'},
                 'profile x: use<15% until 15.5% ends at 15.5%, so near'),
                ({'x': 'wait>5% hold 0s'},
                 'profile x: it lowers wait by itself, and wait>5% hold 0s '
                 'holds for no more than 0s'),
                ({'a': 'use<30%', 'b': 'use<15%'},
                 'profile b is never active by its conditions: profile a')):
            self.check(words, asked(**{
                key: value for name, when in specs.items() for key, value in (
                    (f'profile_{name}_when', when),
                    (f'profile_{name}_qos', '0:weight=9'))}))

    def test_profiles_by_load_that_are_meant_so(self):
        for specs in ({'x': 'use<15% for 10m'}, {'x': 'wait>5%'},
                      {'x': 'use>15% and use<60%'},
                      {'a': 'use<15%', 'b': 'use<30%'},
                      {'a': 'use<30% for 1h', 'b': 'use<15% for 5m'},
                      {'a': '22:00-06:00 and use<30%', 'b': 'use<15%'},
                      {'x': 'use<0.5% until 1%'}):
            self.assertEqual([], list(lint.lint(asked(**{
                key: value for name, when in specs.items() for key, value in (
                    (f'profile_{name}_when', when),
                    (f'profile_{name}_qos', '0:weight=9'))}))), specs)

    def test_balance(self):
        for specs in ({'pin_0': '0-3:0-3'}, {'node_0': '0'},
                      {'profile_x_pin_0': '0-3~0', 'profile_x_when': 'wait>5%'
                       }):
            self.check('balance has nothing to move',
                       asked(balance='node', **specs))
        self.assertEqual([], list(lint.lint(asked(
            balance='node', profile_x_pin_0='0-3~v0-1',
            profile_x_when='use<15%'))))

    def test_profiles(self):
        self.check('profile x is never active', asked(profile_x_qos='0:weight'
                                                                    '=9'))
        self.check('profile x changes nothing', asked(
            profile_x_when='22:00-06:00'))
        self.check('there is no profile', asked(grant='profile'))

    def test_tuning(self):
        self.check('a weight has no effect', asked(sched='0:fifo:1',
                                                   qos='0:weight=9'))
        self.check('can starve interrupts', asked(sched='0:fifo:60'))

    def test_two_vcpus_on_one_core_with_isolate(self):
        self.check('vCPUs 0 and 1 are on one core', asked(
            hw={'hw:cpu_thread_policy': 'isolate'}, pin_0='0-1:2-3'), host())

    def test_emulator_on_a_dedicated_vcpus_pcpu(self):
        self.check('emulator: pCPU 2 is the one of dedicated vCPU 0',
                   asked(pin_0='0:2', emulator='2'), host())

    def test_strict_memory_far_from_a_floating_vcpu(self):
        wanted = asked(hw={'hw:cpu_policy': 'mixed',
                           'hw:cpu_dedicated_mask': '0'},
                       pin_0='0:2 1~16-17')
        state = host()
        state.nodes[1].shared = frozenset({16, 17})
        self.check('strictly on node 0, but vCPUs float over node 1', wanted,
                   state)
