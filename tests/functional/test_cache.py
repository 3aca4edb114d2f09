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
"""Caches and memory bandwidth, on a stand-in of the kernel's resctrl.

::

    node 0   L3 0   [0 1] shared   [2 3] [4 5] [6 7]
    node 1   L3 1   [8 9] shared   [10 11] [12 13] [14 15]

Six of eleven ways of each cache are set aside.  No machine that these tests
run on has the hardware; what it would make of it is not tested anywhere.
"""

import fixtures

from tests.embedded import hypervisor
from tests.functional import test_boot
from tests.functional import test_live
from tests import resctrl as fake

CLOSID, L3 = 'CUSTOM_KONGMING_CLOSID', 'CUSTOM_KONGMING_L3'
ABLE = {'CUSTOM_KONGMING_CAT_L3', 'CUSTOM_KONGMING_MBA'}


class CacheBase(test_live.LiveBase):

    #: See tests.resctrl.Kernel.
    KERNEL: dict[str, int] = {}

    def hosts(self, number=1):
        self.kernel = fake.Kernel(**self.KERNEL)
        self.kernel.set_aside(6)
        self.kernel.threads[7] = ''
        #: domain's uuid -> its process, whose vCPU n is thread pid + 1 + n
        self.pids = {}
        for name, call in (
                ('resctrlfs.Files', lambda root=None: self.kernel),
                ('resctrlfs.l3_of', lambda root=None: {
                    pcpu: pcpu // 8 for pcpu in range(16)}),
                ('process.pid', self._pid),
                ('process.is_of', lambda pid, uuid: (
                    self.pids.get(uuid) == pid)),
                ('process.vcpu_threads', lambda pid: {
                    vcpu: pid + 1 + vcpu for vcpu in range(2)}),
                ('process.schedulers', lambda pid: {})):
            self.useFixture(fixtures.MonkeyPatch(
                f'kongming.kernel.{name}', call))
        # These processes have no cgroups.
        for name, found in ('enforce', None), ('observe', ()):
            self.useFixture(fixtures.MonkeyPatch(
                f'nova_ext.live.cpu_shares.CpuSharesEnforcer.{name}',
                lambda *args, found=found: found))
        super().hosts(number)

    def _pid(self, domain):
        uuid = domain.UUIDString()
        if uuid not in self.pids:
            self.pids[uuid] = pid = 1000 * (1 + len(self.pids))
            self.kernel.threads.update({pid + 1: '', pid + 2: ''})
        return self.pids[uuid]

    def group(self, server, first=0):
        """Its schemata and its threads, None where there is no group."""
        name = f'kongming-{server["id"]}-{first}'
        if name not in self.kernel.groups:
            return None
        pid = self.pids[server['id']]
        return (self.kernel.groups[name].schemata,
                {thread - pid - 1 for thread in self.kernel.tasks_of(name)})

    def counted(self, node=1):
        """(total, reserved, used) of classes and of cache."""
        records, usages, _traits = self.children()[node]
        return [(records[name]['total'], records[name]['reserved'],
                 usages[name]) for name in (CLOSID, L3)]


class LifeTest(CacheBase):

    def test_life_of_a_server(self):
        records, _usages, traits = self.children()[1]
        self.assertLessEqual(ABLE, traits)
        # 15 classes of the cache, 7 of bandwidth, for two nodes.
        self.assertEqual([(3, 0, 0), (54, 0, 0)], self.counted())
        self.assertEqual(10, records[L3]['min_unit'])
        native = self._create_server(
            flavor_id=self._create_flavor(
                vcpu=2, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec=test_boot.PINNED), networks='none')
        server = self.boot(self.template(
            '0:13 1:10', grant='qos profile', cache='0-1:l3=20%,mb=50%', **{
                'profile.night.cache': '0:l3=10% 1:mb=20%'}))
        self.assertEqual([(3, 0, 2), (54, 0, 20)], self.counted())
        self.ring(server)
        day = {'L3': {0: 0x7c0, 1: 0x3}, 'MB': {0: 50, 1: 50}}, {0, 1}
        self.assertEqual(day, self.group(server))
        self.assertNotIn(native['id'], self.pids)
        self.audit()
        self.assertEqual([(3, 0, 2), (54, 0, 20)], self.counted())
        self.assertEqual([], self.actions(server))

        # What the flavor gives is the most.
        self.want(server, cache='0-1:l3=10%,mb=30%')
        self.assertEqual(({'L3': {0: 0x7c0, 1: 0x1}, 'MB': {0: 30, 1: 30}},
                          {0, 1}), self.group(server))
        self.assertEqual(['Success'], [r for r, _d in self.actions(server)])
        self.want(server, cache='0-1:l3=21%,mb=30%')
        self.assertIn('this is 21% of the L3 cache for what has 20% by the '
                      'flavor',
                      self.stdlog.logger.output)
        self.assertEqual(day, self.group(server))
        self.unwant(server, 'cache')
        self.want(server, profile='night')
        self.assertEqual(({'L3': {0: 0x7c0, 1: 0x1}, 'MB': {0: 100, 1: 100}},
                          {0}), self.group(server))
        self.assertEqual(({'L3': {0: 0x7c0, 1: 0x7c0},
                           'MB': {0: 20, 1: 20}}, {1}),
                         self.group(server, 1))
        self.unwant(server, 'profile')
        self.assertEqual((day, None), (self.group(server),
                                       self.group(server, 1)))

        # Put back, and by another nova-compute as well.
        self.kernel.write('tasks', '1001\n')
        self.ring(server)
        self.assertEqual(day, self.group(server))
        self.assertIn('Its class of service was not what it is to be',
                      self.stdlog.logger.output)
        del self.kernel.written[:]
        self.restart_compute_service('compute1')
        self.ring(server)
        self.assertEqual((day, []), (self.group(server),
                                     self.kernel.written))

        # The host has been rebooted.
        self.kernel.groups = {'': self.kernel.groups['']}
        self.kernel.threads = dict.fromkeys(self.kernel.threads, '')
        self.ring(server)
        self.assertEqual(day, self.group(server))
        self._stop_server(server)
        self.reconcile()
        self.assertIsNone(self.group(server))
        self._start_server(server)
        self.reconcile()
        self.assertEqual(day, self.group(server))
        self._delete_server(server)
        self.reconcile()
        self.assertEqual([''], [*self.kernel.groups])
        self.assertEqual([(3, 0, 0), (54, 0, 0)], self.counted())

    def test_moves_to_the_other_node(self):
        """What it claims goes along, and so do its ways."""
        memory = self.useFixture(hypervisor.Numa())

        def pid(domain):
            found = self._pid(domain)
            if domain.isActive():
                memory.adopt(found, domain)
            return found

        self.useFixture(fixtures.MonkeyPatch('kongming.kernel.process.pid',
                                             pid))
        server = self.boot(self.template(
            '0:13 1:10', grant='template', cache='0-1:l3=20%'))
        self.ring(server)
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.ring(server)
        self.assertEqual([(3, 0, 0), (54, 0, 0)], self.counted(1))
        self.assertEqual([(4, 0, 1), (54, 0, 20)], self.counted(0))
        self.assertEqual({0: 0x3, 1: 0x7c0}, self.group(server)[0]['L3'])


class RefusedTest(CacheBase):

    KERNEL = {'mb_closids': 3}

    def cached(self, **kwargs):
        return self.flavor({'node.0': '1', 'pin.0': '0:13',
                            'cache': '0:l3=30%'}, vcpus=1, **kwargs)

    def test_what_is_not_there(self):
        """A class, what was allocated, and at last all of it."""
        flavor = self.flavor({'node.0': '1', 'cache': '0:mb=30%'}, vcpus=1)
        server = self.boot(flavor)
        # There are two, and so one a node.
        self._delete_server(self.boot(flavor, 'ERROR'))
        self._delete_server(server)
        # The host's stats say so with its next audit.
        self.audit()
        server = self.boot(self.cached())

        self.kernel.set_aside(2)
        for _pass in range(2):
            self.ring(server)
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn('the 3 ways of the L3 cache 1 that it is to have for '
                      'itself are not to be had', details)
        self.assertHolds(server, {0: 13})
        self._delete_server(server)

        self.kernel.set_aside(6)
        self.audit()
        self.kernel.is_here = lambda: False
        self.force(self.cached(), 'ERROR')
        self.assertIn('cache: resctrl is not mounted on /sys/fs/resctrl of '
                      'this host', self.stdlog.logger.output)
        self.audit()
        records, _usages, traits = self.children()[1]
        self.assertEqual((set(), set()), (ABLE & traits,
                                          {CLOSID, L3} & records.keys()))

    def test_on_a_forced_host(self):
        """Nothing is allocated, and so it is reserved."""
        server = self.force(self.cached())
        self.ring(server)
        self.assertEqual([(1, 1, 0), (54, 30, 0)], self.counted())
        self.ring(server)
        self.assertEqual({0: 0x7c0, 1: 0x7}, self.group(server)[0]['L3'])
