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

"""``[kongming]`` limits on a host, for servers that boot and that run.

::

    node 0   [0 1] shared   [2 3] [4 5] [6 7]
    node 1   [8 9] shared   [10 11] [12 13] [14 15]
"""

from xml.etree import ElementTree

from kongming import exception
from kongming.host import topology
from kongming.libvirt import affinity
from nova import objects
from nova.tests.functional.libvirt import base as nova_base
from nova_ext import guests as guests_mod
from tests.embedded import guests
from tests.functional import test_boot
from tests.functional import test_life
from tests.functional import test_live

only = test_boot.only


class FlavorTest(test_live.LiveBase):
    """A flavor that says more than the host allows."""

    def sched(self, server):
        """As it would be defined now."""
        instance = self.instance(server['id'])
        return guests_mod.threads_of(
            self.computes['compute1'].driver._get_guest_numa_config(
                instance.numa_topology, instance.flavor,
                objects.ImageMeta.from_instance(instance))).sched

    def test_boots_nothing(self):
        self.flags(max_realtime_priority=4, max_weight=99, group='kongming')
        for more, words in (
                ({'sched': '0:fifo:5'},
                 'the highest real-time priority on this host is 4'),
                ({'qos': '0:weight=100'},
                 'the highest weight on this host is 99')):
            server = self.boot(self.template('0:13', **more), 'ERROR')
            self.assertIn(words, self.stdlog.logger.output)
            self._delete_server(server)
        self.assertNothingOwned()
        self.boot(self.template('0:13', sched='0:fifo:4', qos='0:weight=99'))

    def test_ignored(self):
        self.flags(max_realtime_priority=4, on_failure='ignore',
                   group='kongming')
        server = self.boot(self.template('0:13', sched='0:fifo:5'))
        self.assertEqual({0: ('fifo', 4)}, self.sched(server))

    def test_lowered_while_the_server_runs(self):
        server = self.boot(self.template('0:13', sched='0:fifo:5'))
        self.flags(max_realtime_priority=0, group='kongming')
        for _ in range(2):
            self.ring(server)
        self.assertEqual(1, self.stdlog.logger.output.count(
            "Flavor not obeyed: kongming:sched = '0:fifo:5': no vCPU is "
            "scheduled in real time on this host"))
        self.assertEqual({}, self.sched(server))
        self._reboot_server(server, hard=True)
        self.assertHolds(server, {0: 13})


class MetadataTest(test_live.LiveBase):

    def test_is_not_obeyed_and_reported_once(self):
        self.flags(max_realtime_priority=4, group='kongming')
        server = self.boot(self.template('0:13'))
        for _ in range(2):
            self.want(server, sched='0:fifo:5', pin_0='0:15')
        self.assertHolds(server, {0: 13})
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn('the highest real-time priority on this host is 4',
                      details)
        self.assertEqual(1, self.stdlog.logger.output.count(
            'Metadata not obeyed'))
        self.want(server, sched='0:fifo:4')
        self.assertHolds(server, {0: 15})

    def test_reported_once_while_nova_is_at_work(self):
        """A pass sees it busy, and the next one sees it again."""
        self.flags(max_realtime_priority=4, group='kongming')
        server = self.boot(self.template('0:13'))
        self.want(server, sched='0:fifo:5')
        for task_state in 'image_snapshot', None:
            instance = self.instance(server['id'])
            instance.task_state = task_state
            instance.save()
            self.reconcile()
        (result, _details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertEqual(1, self.stdlog.logger.output.count(
            'Metadata not obeyed'))


class NeverTest(test_live.LiveBase):
    """pCPUs that are never given to a template: 9, 12 and 13."""

    NEVER = '9,12-13'

    def setUp(self):
        super().setUp()
        self.flags(never_pcpus=self.NEVER, group='kongming')
        self.audit()

    def reserved(self):
        return {name.removeprefix('CUSTOM_KONGMING_'): record['reserved']
                for records, _usages, _traits in self.children().values()
                for name, record in records.items() if record['reserved']}

    def all_of_node_1(self, vcpus, **more):
        return self.flavor({'node.0': '1', 'grant': 'template', **more},
                           vcpus=vcpus)

    def test_placement_does_not_promise_them(self):
        self.assertEqual({'PCPU': 2, 'PCPU_12': 1, 'PCPU_13': 1},
                         self.reserved())
        server = self.boot(self.template('0:13 1:10'), 'ERROR')
        self.assertIn('No valid host', server['fault']['message'])
        server = self.boot(self.all_of_node_1(5), 'ERROR')
        self.assertIn('No valid host', server['fault']['message'])
        self._delete_server(server)

    def test_a_forced_host_refuses(self):
        server = self.force(self.flavor({'pin.0': '0:13'}, vcpus=1), 'ERROR')
        self.assertIn('pCPU 13 is never given to a template on this host',
                      self.stdlog.logger.output)
        self._delete_server(server)
        self.assertNothingOwned()

    def test_the_rest_is_given(self):
        server = self.boot(self.all_of_node_1(4, emulator='shared'))
        self.assertEqual({10, 11, 14, 15}, self.owned()[1])
        self.assertEqual(frozenset({0, 1, 8}), affinity.read(
            self.connection_of(server['id']).lookupByUUIDString(
                server['id'])).emulator)
        # What a server owns without having named it is reserved as well.
        self.assertEqual({'PCPU': 2, **{
            f'PCPU_{pcpu}': 1 for pcpu in range(10, 16)}}, self.reserved())

    def test_native_servers_have_them(self):
        natives = [self.fill(vcpus=6) for _ in range(2)]
        owned = set().union(*(
            p for native in natives for p in self.pins(native)[0].values()))
        self.assertEqual({*range(2, 8), *range(10, 16)}, owned)
        for native in natives:
            self.assertIn('9', self.domain_xml(native['id']))

    def test_not_even_ignored(self):
        """What Nova chose is reclaimed, too."""
        self.flags(on_failure='ignore', group='kongming')
        # 2 to 7 are taken, so that Nova claims from 10 on.
        self.fill(vcpus=6)
        with self.refused():
            server = self.boot(self.all_of_node_1(4), 'ERROR')
        self._delete_server(server)
        self.assertEqual(set(), self.owned()[1])
        server = self.force(self.flavor({'pin.0': '0:13'}, vcpus=4))
        self.assertEqual({10, 11, 14, 15}, self.owned()[1])
        self.audit()
        self.assertHolds(server, {v: p for v, (p,) in self.pins(
            server)[0].items()})

    def test_live(self):
        server = self.boot(self.template('0:15 1:10'))
        self.want(server, pin_0='0:13')
        self.want(server, pin_0='0:14', emulator='9')
        self.assertHolds(server, {0: 14, 1: 10})
        self.assertIn('pCPU 13 is never given to a template',
                      self.actions(server)[-1][1])
        self.assertIn('emulator: pCPU 9 is never given to a template',
                      self.stdlog.logger.output)

    def test_who_has_one_keeps_it(self):
        self.flags(never_pcpus=None, group='kongming')
        self.audit()
        server = self.boot(self.template('0:13 1:10'))
        self.flags(never_pcpus=self.NEVER, group='kongming')
        self.audit()
        self.ring(server)
        self._reboot_server(server, hard=True)
        self.assertHolds(server, {0: 13, 1: 10})
        self._rebuild_server(server, guests.IMAGES[0]['id'])
        self.assertHolds(server, {0: 13, 1: 10})
        self.assertEqual([], self.actions(server))
        self.want(server, pin_0='0:15')
        self.assertHolds(server, {0: 15, 1: 10})
        self.want(server, pin_0='0:13')
        self.assertHolds(server, {0: 15, 1: 10})

    def test_malformed(self):
        """No limit would be worse than no nova-compute."""
        self.flags(never_pcpus='none', group='kongming')
        error = self.assertRaises(exception.InvalidOption, self.start_host,
                                  'compute2')
        self.assertIn("[kongming] never_pcpus = 'none'", str(error))
        self.flags(never_pcpus=None, group='kongming')


class WithoutCellsTest(nova_base.LibvirtMigrationMixin, test_life.LifeBase):
    """A server with a template that Nova gives no NUMA topology."""

    def setUp(self):
        super().setUp()
        self.flags(never_pcpus='0-1,9', group='kongming')
        self.hosts(2)
        self.src, self.dest = (self.computes[f'compute{n}'] for n in (1, 2))

    def server_of(self, state='ACTIVE', **specs):
        self.server = self._create_server(
            flavor_id=self._create_flavor(
                vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec=specs), networks='none', host='compute1',
            expected_state=state)

    def assertFloats(self, pcpus):
        root = ElementTree.fromstring(self.domain_xml(self.server['id']))
        self.assertEqual(pcpus, topology.parse_cpu_list(
            root.find('./vcpu').get('cpuset')))

    def test_floats_over_the_rest(self):
        self.server_of(**{'kongming:grant': 'qos'})
        self.assertFloats({8})
        self._live_migrate(self.server, 'completed')
        self.assertEqual('compute2', self.host_of(self.server))
        self.assertFloats({8})

    def test_native(self):
        self.server_of()
        self.assertFloats({0, 1, 8, 9})

    def test_nothing_is_left(self):
        self.flags(never_pcpus='0-15', group='kongming')
        self.server_of('ERROR', **{'kongming:grant': 'qos'})
        self.assertIn('all pCPUs that it could float over are in',
                      self.stdlog.logger.output)
