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

"""The library's reading of ``hw:`` keys against Nova's own."""

import itertools

import testtools

from kongming.fit import demand
from kongming.fit import fit
from kongming.template import guest
from kongming.template import template
from nova import exception as nova_exc
from nova import objects
from nova.virt import hardware
from nova_ext import translate

objects.register_all()

POLICIES = ({}, {'hw:cpu_policy': 'dedicated'},
            {'hw:cpu_policy': 'mixed', 'hw:cpu_dedicated_mask': '^0'},
            {'hw:cpu_policy': 'mixed', 'hw:cpu_dedicated_mask': '0-1,3'},
            {'hw:cpu_policy': 'mixed', 'hw:cpu_realtime': 'yes',
             'hw:cpu_realtime_mask': '2-3'})
SHAPES = ({'hw:numa_nodes': '1'}, {'hw:numa_nodes': '2'},
          {'hw:numa_nodes': '2', 'hw:numa_cpus.0': '0,3',
           'hw:numa_mem.0': '1024', 'hw:numa_cpus.1': '1-2',
           'hw:numa_mem.1': '3072'})
PAGES = ({}, {'hw:mem_page_size': 'large'}, {'hw:mem_page_size': '2MB'},
         {'hw:mem_page_size': '1048576'})
OTHERS = ({}, {'hw:cpu_thread_policy': 'require'},
          {'hw:emulator_threads_policy': 'isolate'})


class NovaFitterTest(testtools.TestCase):
    """What tests/unit/fit/test_fit.py holds against Nova's fitter, shown."""

    def test_unequal_cells(self):
        """4 nodes x 4 free pCPUs can't take cells of 4, 4, 4 and 5."""
        host = objects.NUMATopology(cells=[objects.NUMACell(
            id=n, cpuset=set(), pcpuset=set(range(4 * n, 4 * n + 4)),
            memory=1024, cpu_usage=0, memory_usage=0, pinned_cpus=set(),
            siblings=[{p} for p in range(4 * n, 4 * n + 4)], mempages=[],
            socket=0) for n in range(4)])
        cells, first = [], 0
        for number, size in enumerate((4, 4, 4, 5)):
            cells.append(objects.InstanceNUMACell(
                id=number, cpuset=set(), memory=64, cpu_policy='dedicated',
                pcpuset=set(range(first, first + size))))
            first += size
        asked = objects.InstanceNUMATopology(cells=cells)
        wanted = demand.Demand(translate.guest_of(asked), template.Template())
        refusal = fit.fit(translate.host_state(host), wanted)
        self.assertIn('5 dedicated pCPU(s) asked for', str(refusal))

        found = hardware.numa_fit_instance_to_host(
            host, asked, provider_mapping=None)
        self.assertIsNotNone(found, 'Nova has mended it: say so in the docs')
        self.assertFalse(found.cells[3].cpu_pinning)


class FlavorTest(testtools.TestCase):

    def test_same_guest_as_nova_makes(self):
        compared = 0
        for parts in itertools.product(POLICIES, SHAPES, PAGES, OTHERS):
            specs = {k: v for part in parts for k, v in part.items()}
            flavor = objects.Flavor(vcpus=4, memory_mb=4096, extra_specs=specs)
            try:
                nova = hardware.numa_get_constraints(
                    flavor, objects.ImageMeta.from_dict({'properties': {}}))
            except nova_exc.NovaException:
                continue  # a combination that Nova refuses
            self.assertEqual(translate.guest_of(nova),
                             guest.from_flavor(4, 4096, specs), specs)
            compared += 1
        self.assertGreater(compared, 80)
