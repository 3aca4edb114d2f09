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

"""A host that only looks, by its configuration or by itself."""

from unittest import mock

import fixtures

from kongming.live import qos
from kongming.placement import inventory
import nova.conf
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.fixtures import notifications
from nova_ext.live import cpu_shares
from nova_ext.live import mode
from tests.functional import test_cache
from tests.functional import test_live
from tests.unit.nova_ext import test_interrupts

CONF = nova.conf.CONF
#: What other tests of caches replace.
_SHARES = {name: vars(cpu_shares.CpuSharesEnforcer)[name]
           for name in ('enforce', 'observe')}


class ObserveTest(test_live.LiveBase):

    def live(self):
        """What the host reports of itself."""
        self.audit()
        traits = self._get_provider_traits(self.compute_rp_uuids['compute1'])
        return self.compute_node().stats['kongming_live'], {
            *traits} & {*inventory.TRAIT_LIVE.values()}

    def assertUntouched(self, server):
        self.assertHolds(server, {0: 13, 1: 10})
        self.assertEqual([], self.actions(server))

    def test_by_configuration(self):
        server = self.boot(self.template('0:13 1:10'))
        self.assertEqual(('act', set()), self.live())
        self.flags(live_changes='observe', group='kongming')
        self.samples.clear()
        domain = self.connection_of(server['id']).lookupByUUIDString(
            server['id'])
        self.want(server, pin_0='0:15')
        self.want(server, emulator='8-9')
        for _pass in range(2):
            self.reconcile()
        self.assertUntouched(server)
        self.assertEqual([], self.samples)
        self.assertEqual(('observe:1', {'CUSTOM_KONGMING_LIVE_OBSERVE'}),
                         self.live())
        self.assertEqual(1, self.stdlog.logger.output.count(
            'Observed, not changed: emulator'))
        self.assertIn('0:13->15', self.stdlog.logger.output)
        # What somebody does by hand stays so.
        domain.pinVcpuFlags(0, tuple(pcpu == 12 for pcpu in range(16)), 3)
        self.reconcile()
        self.assertEqual({12}, self.pins(server)[0][0])
        self.flags(live_changes='off', group='kongming')
        self.assertFalse(self.computes['compute1'].driver._reconciler
                         .has_work)
        self.assertEqual(('off', {'CUSTOM_KONGMING_LIVE_OFF'}), self.live())
        self.flags(live_changes='act', group='kongming')
        self.reconcile()
        self.assertHolds(server, {0: 15, 1: 10})
        self.assertEqual(('act', set()), self.live())

    def test_nobody_waits(self):
        """What was to come is not told of any more."""
        self.flags(changes_per_minute=1, group='kongming')
        servers = [self.boot(self.template(f'0:{pcpu} 1:{pcpu + 1}'))
                   for pcpu in (10, 12)]
        for server, pcpu in zip(servers, (14, 15)):
            self.want(server, pin_0=f'0:{pcpu}')
        self.assertIn('it waits its turn', self.ring(
            servers[1])['hypervisor_os'])
        for mode_ in 'observe', 'off':
            self.flags(live_changes=mode_, group='kongming')
            self.assertEqual('linux', self.ring(servers[1])['hypervisor_os'])

    def test_by_itself(self):
        notifier = self.useFixture(notifications.NotificationFixture(self))
        self.flags(observe_after=1, group='kongming')
        server = self.boot(self.template('0:13 1:10'))

        def refuse(*args):
            raise RuntimeError('libvirt said no')

        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', refuse):
            self.want(server, pin_0='0:15')
        self.assertEqual('Error', self.actions(server)[0][0])
        self.want(server, pin_0='0:14')
        self.assertHolds(server, {0: 13, 1: 10})
        self.assertEqual(1, len(self.actions(server)))
        self.assertIn('The host observes by itself and changes no running '
                      'server', self.stdlog.logger.output)
        self.assertIn('instance.kongming_live_changes_stopped.error', [
            found['event_type'] for found in
            notifier.versioned_notifications])
        mode._on_reload(CONF, None)
        self.reconcile()
        self.assertHolds(server, {0: 14, 1: 10})

    def test_two_owners(self):
        """As nothing of ours does; somebody wrote it into the database."""
        servers = [self.boot(self.template(f'0:{pcpu}'))
                   for pcpu in (13, 10)]
        self.reconcile()
        driver = self.computes['compute1'].driver
        self.assertEqual('act', driver._reconciler.mode.current)
        self.own(servers[0], 10)
        self.samples.clear()
        driver.passes.run()
        self.assertEqual('observe', driver._reconciler.mode.current)
        self.assertRegex(driver._reconciler.mode.reason,
                         'pCPU 10 is owned by server .* and by server ')
        self.assertEqual([], self.samples)
        self.own(servers[0], 13)

    def own(self, server, pcpu):
        instance = self.instance(server['id'])
        owned = instance.numa_topology.obj_clone()
        owned.cells[0].cpu_pinning = {0: pcpu}
        instance.numa_topology = owned
        instance.save()


class EverythingTest(test_cache.CacheBase):
    """QoS, caches and interrupts: computed and reported, and touched only
    once the host acts.
    """

    def hosts(self, number=1):
        super().hosts(number)
        self.interrupts = self.useFixture(test_interrupts.Machine())
        self.interrupts.allowed = {7: frozenset({13}), 9: frozenset({0})}
        self.cpu_shares, self.set_shares = None, []
        for path, function in (
                ('nova_ext.live.interrupts.Interrupts._is_local',
                 lambda this: True),
                ('nova_ext.live.interrupts.irq.machine', lambda _ownable: (
                    test_interrupts.irq_mod.Machine(
                        *[frozenset(range(16))] * 2, frozenset({13})))),
                ('kongming.kernel.cgroup.version', lambda: 2),
                ('kongming.kernel.cgroup.read', self._read),
                ('kongming.kernel.cgroup.apply', self._apply),
                *((f'nova_ext.live.cpu_shares.CpuSharesEnforcer.{name}', real)
                  for name, real in _SHARES.items())):
            self.useFixture(fixtures.MonkeyPatch(path, function))

    def _read(self, _domain, _pid):
        if self.cpu_shares is None:
            self.cpu_shares, _problems = qos.wanted((), 2, qos.native({}), 2)
        return self.cpu_shares

    def _apply(self, _domain, _pid, _now, wanted, _write):
        self.set_shares.append(wanted)
        self.cpu_shares = wanted

    def test_it(self):
        self.flags(live_changes='observe', irq_affinity='move',
                   group='kongming')
        server = self.boot(self.template(
            '0:13 1:10', cache='0-1:l3=20%', qos='0:weight=300'))
        self.kernel.written.clear()
        for _pass in range(2):
            self.reconcile()
        self.assertEqual([], self.kernel.written)
        self.assertIsNone(self.group(server))
        self.assertEqual([], self.set_shares)
        self.assertEqual(frozenset({13}), self.interrupts.allowed[7])
        self.assertEqual([], self.actions(server))
        self.audit()
        stats = self.compute_node().stats
        self.assertEqual(('observe:1', 'move:1'), (
            stats['kongming_live'], stats['kongming_irq']))
        log = self.stdlog.logger.output
        line, = [line for line in log.splitlines()
                 if 'Observed, not changed' in line]
        self.assertRegex(line, 'vCPU 0: .* -> .*300')
        self.assertIn('class of vCPU 0 made', line)
        self.assertEqual(1, log.count(
            'nterrupts may come to pCPUs that have an owner: 7 (eth7) '
            'pCPU 13'))
        # All of it is done by a host that acts.
        self.flags(live_changes='act', group='kongming')
        self.reconcile()
        self.assertIsNotNone(self.group(server))
        self.assertEqual(1, len(self.set_shares))
        self.assertNotIn(13, self.interrupts.allowed[7])
        self.audit()
        stats = self.compute_node().stats
        self.assertEqual(('act', 'move:0'), (
            stats['kongming_live'], stats['kongming_irq']))
