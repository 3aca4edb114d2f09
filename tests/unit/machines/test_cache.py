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

"""Classes of service of the nodes of every named host."""

from kongming.placement import inventory
from kongming.resctrl import schemata
from tests import base
from tests import machines
from tests.unit.machines import test_inventory


@machines.on_each
class ClassTest(base.TestCase):

    def test_nodes_without_cpus_have_none(self, machine):
        """They take none away from those that have some."""
        nodes = machine.host().nodes
        domains, empty = {}, {}
        for node in nodes:
            (domains if node.cores else empty)[node.id] = (
                [len(domains)] if node.cores else [])
        tree = schemata.Tree(
            schemata.parse_info({'L3': {
                'num_closids': '8', 'cbm_mask': '7ff', 'min_cbm_bits': '1',
                'shareable_bits': '0'}}),
            {'': schemata.parse_schemata('L3:' + ';'.join(
                f'{number}=7ff' for number in range(len(domains))) + '\n')},
            {})
        alone = schemata.capacities(tree, domains)
        found = schemata.capacities(tree, {**domains, **empty})
        self.assertEqual(alone, found)
        self.assertEqual({*domains}, {*found})
        for node, provider in zip(nodes, inventory.build(
                'compute-1', test_inventory.COMPUTE, machine.state(),
                inventory.Ratios(), capacities=found)):
            self.assertEqual(node.id in found and found[node.id].closids > 0,
                             inventory.CLOSID in provider.inventory)
