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


"""Servers on a host with several nodes."""

from kongming.placement import cores
from kongming.placement import inventory
from tests.libvirt import boot
from tests.nested import cloud


class BootTest(boot.BootMixin, cloud.NestedCloud):
    """What the one node of this machine shows, and what it can't."""

    def test_memory_is_on_the_node_of_the_template(self):
        for node in (1, 0):
            pcpus = self.shape.siblings(node)[-1]
            server = self.boot(
                image='dirty', vcpus=2, node_0=str(node),
                pin_0=' '.join(f'{v}:{p}' for v, p in enumerate(pcpus)))
            self.assertEqual(
                {v: frozenset({p}) for v, p in enumerate(pcpus)},
                self.threads(server))
            memory = self.memory(server)
            self.assertEqual({node}, set(memory.pages))
            self.assertEqual(f'bind:{node}', memory.policy)
            self.assertEqual(set(pcpus), self.usage()[node][0])

    def test_huge_pages_are_on_the_node_of_the_template(self):
        server = self.boot(image='dirty', node_0='1',
                           native={'hw:mem_page_size': '2MB'})
        memory = self.memory(server)
        self.assertEqual((2048, {1}), (memory.page_kib, set(memory.pages)))

    def test_inventories(self):
        """Each node and each core is published."""
        shared, dedicated = self.cpu_sets()
        children = self.children()
        self.assertEqual(set(range(self.shape.nodes)), set(children))
        for node, (found, _usages, traits) in children.items():
            pcpus = set(self.shape.pcpus(node))
            self.assertEqual(sorted(pcpus & set(dedicated)),
                             inventory.named_pcpus(found))
            self.assertEqual(len(pcpus & set(shared)),
                             found[inventory.VCPU]['total'])
            self.assertEqual(self.shape.huge_pages,
                             found[inventory.pages_class(2048)]['total'])
            self.assertEqual(list(self.shape.siblings(node)),
                             cores.cores_of_traits(traits))
            self.assertIn(inventory.node_trait(node), traits)
