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

"""A server boots pinned, on the real libvirtd, by Nova's real driver."""

import os

from tests.embedded import cloud


class BootTest(cloud.LibvirtCloud):

    def test_threads_are_where_the_template_says(self):
        self.start_host()
        node = sorted(self.children())[-1]
        pcpu = max(os.sched_getaffinity(0))
        flavor = self._create_flavor(vcpu=1, memory_mb=64, disk=1, ephemeral=0,
                                     swap=0, extra_spec={
             'hw:cpu_policy': 'dedicated',
            'kongming:node.0': str(node), 'kongming:pin.0': f'0:{pcpu}'})
        from tests.embedded import guests
        server = self._create_server(
            image_uuid=guests.IMAGES[0]['id'],
            flavor_id=flavor, networks='none')
        print(self.domain_xml(server['id']))
