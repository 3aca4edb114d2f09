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

"""Capacity is freed on a host whose free pCPUs are scattered."""

import time

from tests.cloud.story import chapter


class Plans(chapter.Chapter):

    def there(self, uuid, pins):
        """Move a server, and leave nothing of it in its metadata."""
        self.admin.run('kongming', 'server', 'set', '--pin', f'0={pins}',
                       '--wait', uuid)
        self.admin.run('kongming', 'server', 'unset', '--all', '--wait', uuid)

    @chapter.on('nested1')
    def test_defrag(self):
        """A boot is refused; live moves free capacity, and are undone"""
        plan = self.cloud.layout.data / 'defrag.plan'
        small, large = self.flavor(2), self.flavor(4)
        self.grant(small, 'template')
        # Three of five pCPUs are free on either node.
        servers = {}
        for node, pins in ((0, {0: 1, 1: 4}), (1, {0: 8, 1: 10})):
            uuid = self.boot(small, host='nested1')
            self.there(uuid, ' '.join(f'{vcpu}:{pcpu}' for vcpu, pcpu
                                      in pins.items()))
            self.assertIsOn(uuid, node, pins)
            servers[uuid] = node, pins
        processes = {uuid: self.look.process(uuid)[0] for uuid in servers}
        refused = self.create(large, host='nested1')
        self.wait_for(refused, 'ERROR')
        self.delete(refused)

        begin = time.monotonic()
        reported = self.admin.run('kongming', 'plan', 'defrag', 'nested1',
                                  '--for-flavor', large, '--out', plan)
        self.assertIn('no plan is better', reported)
        self.admin.run('kongming', 'plan', 'apply', plan)
        self.seconds('planned and moved', time.monotonic() - begin)
        moved, = [uuid for uuid, (node, pins) in servers.items()
                  if self.look.cells(uuid)[0][:2] != (node, pins)]
        (node, pins, _reserved), = self.look.cells(moved)
        self.assertIsOn(moved, node, pins)
        self.figure('live moves', '1 of 2 servers, 64 MiB each')
        self.wait_for(self.create(large, host='nested1', name='large'))
        self.delete(self.mine[-1])

        self.admin.run('kongming', 'plan', 'revert', plan)
        for uuid, (node, pins) in servers.items():
            self.assertIsOn(uuid, node, pins)
            self.assertEqual(processes[uuid], self.look.process(uuid)[0])
        self.assertClean()
