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


"""A cloud on the nested host: Nova in this process, its domains in there."""

import fixtures

from tests.embedded import cloud
from tests.embedded import guests
from tests.nested import host
from tests.nested import inside


class NestedCloud(cloud.LibvirtCloud):
    """On each node the first core is shared, the others are dedicated."""

    VIRT_TYPE = 'qemu'
    RETRIES = 400
    HYPERVISOR = 'nested (a libvirtd with several nodes, real qemu domains)'

    def setUp(self):
        self.nested = host.Host()
        self.shape = self.nested.shape
        self.URI = self.nested.uri
        self.DISKS = str(self.nested.share)
        # Its kernel is another one than the one that this process sees.
        self.inside = inside.Inside(self.nested)
        self.addCleanup(self.inside.close)
        self.inside.put(lambda name, function: self.useFixture(
            fixtures.MonkeyPatch(name, function)))
        super().setUp()

    def cpu_sets(self):
        shared, dedicated = [], []
        for node in range(self.shape.nodes):
            first, *others = self.shape.siblings(node)
            shared += first
            dedicated += [pcpu for core in others for pcpu in core]
        return shared, dedicated

    def shell(self, script):
        return self.nested.shell(script)

    def memory(self, server):
        """Where a guest's memory is, of the image ``dirty``."""
        return self.nested.wait_for_memory(
            self.connection_of(server['id']).lookupByUUIDString(server['id']),
            guests.DIRTY_MIB)
