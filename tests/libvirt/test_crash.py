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

"""A live change on the libvirtd of this machine is cut short anywhere."""

from tests.functional import test_life
from tests.libvirt import crash
from tests.libvirt import test_live


class CrashTest(crash.CrashMixin, test_live.LiveBase):

    @test_life.long
    def test_at_every_point(self):
        pcpus = test_live.PCPUS[:2]
        server = self.boot(pcpus[0])
        points = self.kill_at_every_point(
            lambda number: self.say(server, pcpus[number % 2]),
            lambda number: self.assertOn(server, pcpus[number % 2]),
            lambda: self.assertRunsOnItsOwn(server))
        self.assertLessEqual({
            f'{when} {what}' for when in ('before', 'after') for what in (
                'Instance.save', 'ComputeNode.save', 'virDomain.pinEmulator',
                'virDomain.pinVcpuFlags')}, set(points))
