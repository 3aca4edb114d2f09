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


"""Servers on the libvirtd of this machine."""

from kongming.host import topology
from tests.embedded import cloud
from tests.libvirt import boot


class BootTest(boot.BootMixin, cloud.LibvirtCloud):
    pass


class HostTest(cloud.LibvirtCloud):

    def test_published_host_is_the_machine(self):
        """Capabilities, Placement and /sys tell the same host."""
        self.start_host()
        for node, (inventory, _usages, traits) in self.children().items():
            with open(f'/sys/devices/system/node/node{node}/cpulist') as f:
                online = topology.parse_cpu_list(f.read())
            dedicated = {int(name.rpartition('_')[2]) for name in inventory
                         if name.startswith('CUSTOM_KONGMING_PCPU_')}
            shared = inventory['CUSTOM_KONGMING_VCPU']['max_unit']
            self.assertEqual(len(online), len(dedicated) + shared)
            self.assertLessEqual(dedicated, online)
            self.assertIn(f'CUSTOM_KONGMING_NODE_{node}', traits)
