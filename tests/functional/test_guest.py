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

from kongming import guest
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
