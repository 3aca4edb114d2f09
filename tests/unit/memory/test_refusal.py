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

"""What is in the way is said before anything is touched."""

from xml.etree import ElementTree

from kongming.memory import refusal
from tests import base

STRICT = ('<numatune><memory mode="strict" nodeset="0-1"/>'
          '<memnode cellid="0" mode="strict" nodeset="0"/></numatune>')


def of_xml(inside, tune=STRICT):
    return refusal.of_xml(ElementTree.fromstring(
        f'<domain>{tune}{inside}</domain>'))


def found(**fields):
    groups = fields.pop('groups', {'emulator': {0, 1}, 'vcpu0': {0, 1}})
    return refusal.Found(nodes=frozenset(range(4)), groups={
        name: frozenset(nodes) for name, nodes in groups.items()}, **fields)


class RefusalTest(base.TestCase):

    def test_xml(self):
        for inside, words in (
                ('<devices><hostdev type="pci"/></devices>', 'passed through'),
                ('<devices><hostdev type="mdev"/></devices>', '(hostdev)'),
                ('<devices><interface type="hostdev"/></devices>', 'SR-IOV'),
                ('<devices><interface type="vdpa"/></devices>', 'vDPA'),
                ('<launchSecurity type="sev"/>', 'SEV'),
                ('<memoryBacking><hugepages><page size="1048576"/>'
                 '</hugepages></memoryBacking>',
                 'its pages have 1048576 KiB, and pages of at most 2048 KiB '
                 'are moved; only a migration')):
            self.assertIn(words, of_xml(inside))
        for inside in ('', '<devices><interface type="vhostuser"/></devices>',
                       '<memoryBacking><hugepages><page size="2048"/>'
                       '</hugepages><access mode="shared"/></memoryBacking>'):
            self.assertEqual('', of_xml(inside))

    def test_modes(self):
        self.assertIn('not bound to a node', of_xml('', ''))
        for mode in ('preferred', 'interleave'):
            self.assertIn(f"as '{mode}'", of_xml(
                '', STRICT.replace('"strict"', f'"{mode}"', 1)))
        self.assertEqual('', of_xml('', STRICT.replace('strict',
                                                       'restrictive')))

    def test_kernel(self):
        before, after = (0, 1), (0, 3)
        self.assertEqual([], refusal.reasons(found(), before, after))
        for fields, words in (
                ({'devices': ['/dev/vfio/12']}, '/dev/vfio/12 open'),
                ({'pinned_kib': 64}, '64 KiB of its memory are pinned'),
                ({'realtime_is_unlimited': True, 'spinning': ['CPU 1 (7)']},
                 'never sleep (CPU 1 (7))'),
                ({'groups': {'emulator': {0, 1}, 'vcpu0': {0, 2}}},
                 "its thread group vcpu0 is '0,2'"),
                ({'groups': {'emulator': set()}}, "emulator is ''")):
            reason, = refusal.reasons(found(**fields), before, after)
            self.assertIn(words, reason)
        # A limit, or threads that sleep, is nothing in the way.
        for fields in ({'realtime_is_unlimited': True},
                       {'spinning': ['CPU 1 (7)']}):
            self.assertEqual([], refusal.reasons(found(**fields), before,
                                                 after))

    def test_groups_in_the_middle_of_a_move(self):
        groups = {'emulator': {0, 1, 3}, 'vcpu0': {0, 3}, 'vcpu1': {0, 1}}
        self.assertEqual([], refusal.reasons(found(groups=groups), (0, 1),
                                             (0, 3)))

    def test_nodes_of_the_mover(self):
        reason, = refusal.reasons(found(), (0, 1), (0, 5))
        self.assertIn('node 0-3 only, and not node 5', reason)
