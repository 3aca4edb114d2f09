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


"""Nova's NUMA objects as the library reads them."""

from kongming.host import usage
from nova import objects
from nova_ext import translate
from tests import base

objects.register_all()


def cell(number, pcpus, **fields):
    fields = {
        'cpuset': set(), 'pcpuset': set(pcpus), 'memory': 1024,
        'cpu_usage': 3, 'memory_usage': 256, 'socket': 0,
        'pinned_cpus': {min(pcpus)}, 'siblings': [set(pcpus)],
        'mempages': [
            objects.NUMAPagesTopology(size_kb=2048, total=64, used=4,
                                      reserved=8),
            objects.NUMAPagesTopology(size_kb=4, total=262144, used=65536)],
        **fields}
    return objects.NUMACell(id=number, **fields)


class HostStateTest(base.TestCase):

    def test_all_that_a_node_has(self):
        state = translate.host_state(objects.NUMATopology(cells=[
            cell(1, [4, 5, 6, 7]), cell(0, [1, 2, 3], cpuset={0})]),
            never=frozenset({3}))
        self.assertEqual([0, 1], state.node_ids())
        node = state.nodes[0]
        self.assertEqual(
            ({1, 2, 3}, {1}, {2}, 1, {0}, 3, 1024, 256),
            (node.dedicated, node.taken, node.free, node.n_free, node.shared,
             node.shared_used, node.memory_mib, node.memory_used_mib))
        # Of the second size no reserved pages are known.
        self.assertEqual([usage.Pages(2048, 64, 52),
                          usage.Pages(4, 262144, 196608)], node.pages)
        self.assertEqual(usage.Pages(4, 262144, 196608), node.smallest)
        self.assertEqual([{1, 2, 3}], node.siblings)
        self.assertEqual(({5, 6, 7}, 3), (state.nodes[1].free,
                                          state.nodes[1].n_free))

    def test_fields_are_read_where_the_library_of_objects_keeps_them(self):
        """Or by their properties, if it keeps them elsewhere."""
        found = cell(0, [1, 2])
        self.assertIs(found.pcpuset, vars(found)['_obj_pcpuset'])

        class Elsewhere:
            pcpuset = {1, 2}

        self.assertEqual({1, 2}, translate._reader('pcpuset')(Elsewhere()))
        self.assertEqual((1, {1, 2}), translate._reader('start', 'pcpuset')(
            type('Both', (Elsewhere,), {'start': 1})()))

    def test_a_field_that_is_not_set_is_an_error_of_that_field(self):
        error = self.assertRaises(
            NotImplementedError, translate.host_state,
            objects.NUMATopology(cells=[objects.NUMACell(id=0)]))
        self.assertIn('pcpuset', str(error))


class InconsistencyTest(base.TestCase):

    def test_a_pcpu_on_two_nodes(self):
        self.assertIsNone(translate.inconsistency(objects.NUMATopology(
            cells=[cell(0, [0, 1], cpuset={1, 2}), cell(1, [3])])))
        self.assertIn('pCPU 1 is on node 0 and on node 1',
                      translate.inconsistency(objects.NUMATopology(
                          cells=[cell(0, [0, 1]), cell(1, [2], cpuset={1})])))
