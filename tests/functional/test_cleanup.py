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

"""A host goes back to Nova's own driver, with and without a clean-up.

::

    node 0   [0 1] shared   [2 3] [4 5] [6 7]
    node 1   [8 9] shared   [10 11] [12 13] [14 15]
"""

import contextlib
import io
import json
import pathlib
import subprocess
import sys
from unittest import mock

import fixtures
from keystoneauth1 import adapter
from keystoneauth1 import session

from kongming import exception as km_exc
from kongming.libvirt import affinity
from kongming.live import threads
from nova.conductor import manager
from nova import context as nova_context
from nova.db.main import models
from nova import objects
from nova.objects import base as objects_base
from nova.tests import fixtures as nova_fixtures
from nova.virt.libvirt import driver as nova_driver
from nova_ext.cleanup import command
from nova_ext import driver as hook
from oslo_serialization import jsonutils
import sqlalchemy

from tests import base
from tests.embedded import hypervisor
from tests.functional import test_boot
from tests.functional import test_life

only = test_boot.only


class CleanupMixin:
    """The command, run in the process of an embedded cloud."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.cleanup.command.connect', self.connect))
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.cleanup.command._PAUSE', 0.1))

    def connect(self, _args):
        """As the command, to this process's database and domains."""
        self.flags(host='compute1')
        return (nova_context.get_admin_context(),
                hook.LibvirtDriver(None))

    def stop(self):
        self.computes['compute1'].stop()
        self.flags(service_down_time=0)

    def start_native(self):
        self.flags(compute_driver='libvirt.LibvirtDriver')
        self.start()
        self.assertIs(nova_driver.LibvirtDriver,
                      type(self.computes['compute1'].driver))

    def start(self):
        self.flags(service_down_time=7 * 24 * 3600)
        self.restart_compute_service('compute1')

    def run_command(self, *words, status=0):
        """:returns: what it prints, and its errors"""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = command.main([*words])
        self.assertEqual(status, found, out.getvalue() + err.getvalue())
        return out.getvalue(), err.getvalue()

    def clean_up(self, *words, status=0):
        """:returns: (server, result, what was found, reason) of each"""
        out, _err = self.run_command('-f', 'json', *words, status=status)
        return [(row['server'], row['result'], row['found'], row['reason'])
                for row in json.loads(out)]

    def cut_short(self, server, pcpus, node=0):
        """As if nova-compute had been killed in a change to there."""
        instance = self.instance(server['id'])
        topology = instance.numa_topology.obj_clone()
        cell = topology.cells[0]
        if node == cell.id:
            cell.cpuset_reserved = {*(cell.cpuset_reserved or ()), *pcpus}
        else:
            cell = cell.obj_clone()
            cell.id, cell.cpuset, cell.pcpuset = node, set(), set()
            cell.cpu_pinning, cell.cpuset_reserved = {}, set(pcpus)
            topology.cells.append(cell)
        topology.obj_reset_changes(recursive=True)
        instance.numa_topology = topology
        instance.save()

    def saved(self, server):
        """(node, pins, reserved pCPUs) of each cell, in the database."""
        return [(cell.id, cell.cpu_pinning, cell.cpuset_reserved or set())
                for cell in self.instance(server['id']).numa_topology.cells]

    def all_owned(self):
        """What the tracker says that servers own, after an audit."""
        self.audit()
        self.assertNotIn('Error updating resources',
                         self.stdlog.logger.output)
        return {pcpu for owned, _memory in self.usage().values()
                for pcpu in owned}

    def domain(self, server):
        return self.connection_of(server['id']).lookupByUUIDString(
            server['id'])

    def run_on(self, server, **vcpus):
        """Have libvirt pin ``v0``, ``v1`` ... and the emulator."""
        affinity.apply(self.domain(server), threads.Threads(
            {int(vcpu[1:]): frozenset(pcpus)
             for vcpu, pcpus in vcpus.items()},
            frozenset().union(*vcpus.values())), self.WIDTH)


class CleanupBase(CleanupMixin, test_life.LifeBase):

    WIDTH = 16

    def setUp(self):
        super().setUp()
        self.hosts()
        self.kernel = self.useFixture(hypervisor.Numa())

    def connect(self, args):
        context, driver = super().connect(args)
        driver._host.get_connection = (
            self.computes['compute1'].driver._host.get_connection)
        return context, driver


class _Conductor:
    """nova-conductor as another process meets it.

    :ivar calls: class and method of each
    """

    def __init__(self):
        self._manager = manager.ConductorManager()
        self._serializer = objects_base.NovaObjectSerializer()
        self.calls = set()

    @staticmethod
    def end():
        objects_base.NovaObject.indirection_api = None

    def object_class_action_versions(self, context, objname, objmethod,
                                     *args):
        self.calls.add(f'{objname}.{objmethod}')
        return self._call('object_class_action_versions', context, objname,
                          objmethod, *args)

    def object_action(self, context, objinst, objmethod, *args):
        self.calls.add(f'{objinst.obj_name()}.{objmethod}')
        return self._call('object_action', context, objinst, objmethod, *args)

    def _call(self, name, context, *args):
        self.end()
        try:
            return self._sent(context, getattr(self._manager, name)(
                context, *(self._sent(context, each) for each in args)))
        finally:
            objects_base.NovaObject.indirection_api = self

    def _sent(self, context, value):
        return self._serializer.deserialize_entity(context, jsonutils.loads(
            jsonutils.dumps(self._serializer.serialize_entity(
                context, value))))


class MoveOfMemoryTest(CleanupBase):
    """nova-compute stops in a move of memory: both nodes are owned."""

    AT_HOME = [(1, {0: 13, 1: 10}, set())]

    def setUp(self):
        super().setUp()
        self.server = self.boot(self.flavor(
            {**test_life.TEMPLATE, 'grant': 'template'}))
        self.cut_short(self.server, {5, 2})

    def test_without_it(self):
        """What this is for: the second place stays."""
        self.stop()
        self.start_native()
        self.assertEqual({13, 10, 5, 2}, self.all_owned())

    def test_native_driver(self):
        self.stop()
        (uuid, result, found, _reason), = self.clean_up()
        self.assertEqual((self.server['id'], 'done'), (uuid, result))
        self.assertEqual(
            ['a change that was cut short: pCPU 2,5, node 0'], found)
        self.assertEqual(self.AT_HOME, self.saved(self.server))
        self.start_native()
        self.assertEqual({13, 10}, self.all_owned())
        self._reboot_server(self.server, hard=True)
        self.assertEqual(({0: only(13), 1: only(10)}, {0: only(1)}),
                         self.pins(self.server))
        self.assertEqual({13, 10}, self.all_owned())
        # Nobody has the second place any more.
        self.fill(vcpus=6)
        self._delete_server(self.server)
        self.assertEqual(6, len(self.all_owned()))

    def test_threads_and_memory_come_back(self):
        domain = self.domain(self.server)
        self.run_on(self.server, v0={5}, v1={2})
        kernel = self.kernel.numa
        kernel.set_mems(self.kernel._pid(domain), [0])
        self.stop()
        dry = self.clean_up('--dry-run')
        self.assertEqual({0: only(5), 1: only(2)}, self.pins(self.server)[0])
        (_uuid, result, found, _reason), = self.clean_up()
        self.assertEqual([(self.server['id'], 'to do', found, '')], dry)
        self.assertEqual('done', result)
        self.assertEqual([
            'a change that was cut short: pCPU 2,5, node 0',
            'vCPU 0: pCPU 5 -> 13', 'vCPU 1: pCPU 2 -> 10',
            'emulator: pCPU 2,5 -> 10,13'], found[:-1])
        self.assertIn('memory: 8 pages of 4 KiB of cell 0 are on node 0 and '
                      'not on node 1', found[-1])
        self.assertEqual({0: only(13), 1: only(10)},
                         self.pins(self.server)[0])
        self.assertEqual([{1}], self.kernel.memory_of(domain).where())
        self.assertEqual(self.AT_HOME, self.saved(self.server))

    def test_twice(self):
        self.stop()
        self.clean_up()
        with mock.patch.object(objects.Instance, 'save') as save:
            out, _err = self.run_command()
        save.assert_not_called()
        self.assertEqual('Nothing of KongMing is left on compute1.\n', out)
        self.assertEqual([], self.clean_up())

    def test_by_conductor(self):
        """As in the field: objects go over the bus, and so they come."""
        self.stop()
        conductor = _Conductor()
        self.useFixture(nova_fixtures.IndirectionAPIFixture(conductor))
        self.assertEqual('done', self.clean_up()[0][1])
        self.assertEqual([], self.clean_up())
        self.assertLess({'Service.get_by_compute_host',
                         'InstanceList.get_by_host', 'Instance.save'},
                        conductor.calls)
        conductor.end()
        self.assertEqual(self.AT_HOME, self.saved(self.server))

    def test_recorded(self):
        self.stop()
        self.clean_up()
        action = self.api.get_instance_actions(self.server['id'])[0]
        self.assertEqual('kongming_live_change', action['action'])

    def assertLeft(self, expected):
        before = self.saved(self.server)
        (uuid, result, _found, reason), = self.clean_up(status=1)
        self.assertEqual((self.server['id'], 'left'), (uuid, result))
        self.assertIn(expected, reason)
        self.assertEqual(before, self.saved(self.server))

    def test_kernel_says_otherwise(self):
        self.kernel.elsewhere[self.server['id']] = frozenset({5, 13})
        self.stop()
        self.assertLeft('vCPU 0: pCPU 5,13 by the kernel, not 13')

    def test_libvirt_refuses(self):
        self.run_on(self.server, v0={5}, v1={2})
        self.stop()
        with mock.patch('nova.tests.fixtures.libvirt.Domain.pinVcpuFlags',
                        side_effect=RuntimeError('no such pCPU')):
            self.assertLeft('no such pCPU')

    def test_process_is_not_seen(self):
        self.stop()
        with mock.patch('kongming.kernel.process.pid', return_value=None):
            self.assertLeft('/run/libvirt and /proc of the host')

    def test_busy(self):
        other = self.boot(self.flavor({'pin.0': '0:15'}, vcpus=1))
        self.run_on(other, v0={14})
        instance = self.instance(self.server['id'])
        instance.task_state = 'rebooting'
        instance.save()
        self.stop()
        before = self.saved(self.server)
        (uuid, result, _found, reason), row = self.clean_up(status=1)
        self.assertEqual((self.server['id'], 'left'), (uuid, result))
        self.assertIn('Nova is busy with it (rebooting)', reason)
        self.assertEqual(before, self.saved(self.server))
        # The others are not left for its sake.
        self.assertEqual((other['id'], 'done'), row[:2])
        self.assertEqual({0: only(15)}, self.pins(other)[0])

    def test_begun_meanwhile(self):
        real = command.host.Cleanup._run_on

        def run_on(*args):
            real(*args)
            instance = self.instance(self.server['id'])
            instance.task_state = 'deleting'
            instance.save()

        self.stop()
        with mock.patch.object(command.host.Cleanup, '_run_on', run_on):
            self.assertLeft('something else was done to it meanwhile')

    def test_suspended(self):
        self._suspend_server(self.server)
        self.stop()
        self.assertLeft('rescued or suspended')

    def test_stopped(self):
        self._stop_server(self.server)
        self.stop()
        self.assertEqual('done', self.clean_up()[0][1])
        self.start_native()
        self._start_server(self.server)
        self.assertEqual({0: only(13), 1: only(10)},
                         self.pins(self.server)[0])
        self.assertEqual({13, 10}, self.all_owned())


class EmulatorTest(CleanupBase):

    def test_stays_where_it_runs(self):
        """Of two pCPUs that it owns no record says which is which."""
        server = self.boot(self.flavor(
            {'pin.0': '0:13', 'emulator': '12', 'grant': 'template'}, vcpus=1,
            emulator_threads_policy='isolate'))
        (node, pins, (emulator,)), = self.saved(server)
        # The lower one is the wrong one.
        self.assertLess(10, emulator)
        self.cut_short(server, {10}, node)
        self.stop()
        self.clean_up()
        self.assertEqual([(node, pins, {emulator})], self.saved(server))
        self.assertEqual([], self.clean_up())


class QosTest(CleanupBase):

    def test_cgroups_are_not_seen(self):
        """The rest is done, and what is not is reported."""
        server = self.boot(self.flavor(
            {'pin.0': '0:13', 'grant': 'qos'}, vcpus=1))
        self.cut_short(server, {14}, 1)
        self.stop()
        with mock.patch('kongming.kernel.cgroup.read',
                        side_effect=km_exc.CgroupError('not mounted')):
            (_uuid, result, _found, reason), = self.clean_up(status=1)
        self.assertEqual(('left', 'not mounted'), (result, reason))
        self.assertEqual([(1, {0: 13}, set())], self.saved(server))


class BorrowTest(CleanupBase):

    def setUp(self):
        super().setUp()
        self.lender = self.boot(self.flavor(
            {'pin.0': '0:13', 'profile.night.pin.0': '0~8',
             'profile.night.lend': 'true', 'grant': 'profile'}, vcpus=1))
        self.borrower = self.boot(self.flavor(
            {'node.0': '1', 'borrow': 'host'}, vcpus=1, cpu_policy='shared',
            numa_nodes='1'))
        self.api.post_server_metadata(self.lender['id'],
                                      {'kongming:profile': 'night'})
        self.reconcile()
        self.night = {0: only(8)}, {0: frozenset({8, 9, 13})}
        self.assertPins(*self.night)
        self.stop()

    def assertPins(self, lender, borrower):
        self.assertEqual(lender, self.pins(self.lender)[0])
        self.assertEqual(borrower, self.pins(self.borrower)[0])

    def test_given_back(self):
        self.assertEqual(
            [(self.lender['id'], 'done'), (self.borrower['id'], 'done')],
            [row[:2] for row in self.clean_up()])
        self.assertPins({0: only(13)}, {0: frozenset({8, 9})})
        self.assertEqual([], self.clean_up())
        self.start_native()
        self.assertEqual({13}, self.all_owned())

    def test_borrower_leaves_first(self):
        seen = []
        real = affinity.apply

        def apply(domain, *args):
            done = real(domain, *args)
            seen.append((self.pins(self.lender)[0][0],
                         self.pins(self.borrower)[0][0]))
            return done

        with mock.patch('kongming.libvirt.affinity.apply', apply):
            self.clean_up()
        self.assertNotIn(True, [bool(owner & other & only(13))
                                for owner, other in seen])

    def test_borrower_can_not_leave(self):
        real = affinity.apply

        def apply(domain, *args):
            if domain.UUIDString() == self.borrower['id']:
                raise RuntimeError('libvirt says no')
            return real(domain, *args)

        with mock.patch('kongming.libvirt.affinity.apply', apply):
            lender, borrower = self.clean_up(status=1)
        self.assertEqual('libvirt says no', borrower[3])
        self.assertEqual('left', lender[1])
        self.assertIn('pCPU 13 is its own, and another server', lender[3])
        self.assertPins(*self.night)

    def test_borrower_that_nobody_can_look_at(self):
        real = affinity.read

        def read(domain):
            if domain.UUIDString() == self.borrower['id']:
                raise RuntimeError('libvirt says no')
            return real(domain)

        with mock.patch('kongming.libvirt.affinity.read', read):
            rows = self.clean_up(status=1)
        self.assertEqual(['left'] * 2, [row[1] for row in rows])
        self.assertPins(*self.night)

    def test_busy_borrower(self):
        instance = self.instance(self.borrower['id'])
        instance.task_state = 'rebooting'
        instance.save()
        self.clean_up(status=1)
        self.assertPins(*self.night)


class InventoriesTest(CleanupBase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova.utils.get_ksa_adapter', lambda _service: adapter.Adapter(
                session.Session(), service_type='placement',
                endpoint_override=self.placement_fixture.endpoint,
                additional_headers={
                    'X-Auth-Token': self.placement_fixture.token})))

    def test_in_use(self):
        server = self.boot(self.flavor(test_life.TEMPLATE))
        self.stop()
        (_uuid, result, _found, reason), = self.clean_up('--inventories',
                                                         status=1)
        self.assertEqual('left', result)
        self.assertIn(f'({server["id"]})', reason)
        self.assertEqual({0, 1}, set(self.children()))

    def test_free(self):
        self.fill()
        self.stop()
        dry = self.clean_up('--inventories', '--dry-run')
        self.assertEqual({0, 1}, set(self.children()))
        (_uuid, _result, found, _reason), = dry
        self.assertEqual(4, len(found))
        self.assertIn('trait CUSTOM_KONGMING_HOOK removed', found)
        self.assertEqual([('', 'done', found, '')],
                         self.clean_up('--inventories'))
        self.assertEqual({}, self.children())
        self.assertEqual([], self.clean_up('--inventories'))
        self.start_native()
        self.assertEqual(2, len(self.all_owned()))


class CommandTest(CleanupBase):

    def test_nothing_there(self):
        self.fill()
        self.stop()
        self.assertEqual([], self.clean_up())

    def test_nova_compute_is_up(self):
        server = self.boot(self.flavor({'pin.0': '0:15'}, vcpus=1))
        self.run_on(server, v0={14})
        _out, err = self.run_command(status=2)
        self.assertRegex(err, 'nova-compute of compute1 reported [0-9]+ s '
                              'ago that it is up. Stop it')
        self.assertEqual({0: only(14)}, self.pins(server)[0])
        self.run_command('--force')
        self.assertEqual({0: only(15)}, self.pins(server)[0])

    def test_wait(self):
        service = objects.Service.get_by_compute_host(
            nova_context.get_admin_context(), 'compute1')
        service.report_count += 1
        service.save()
        self.flags(service_down_time=2)
        self.run_command('--wait')

    def test_wait_for_one_that_is_up(self):
        self.flags(service_down_time=1)
        context = nova_context.get_admin_context()
        real = objects.Service.get_by_compute_host

        def report(_context, host):
            service = real(context, host)
            service.report_count += 1
            service.save()
            return service

        with mock.patch.object(objects.Service, 'get_by_compute_host',
                               report):
            _out, err = self.run_command('--wait', status=2)
        self.assertIn('that it is up', err)

    def test_no_such_host(self):
        self.flags(host='elsewhere')
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.cleanup.command.connect',
            lambda _args: (nova_context.get_admin_context(), None)))
        _out, err = self.run_command(status=2)
        self.assertIn('elsewhere', err)

    def test_table(self):
        server = self.boot(self.flavor({'pin.0': '0:15'}, vcpus=1))
        self.run_on(server, v0={14})
        self.stop()
        out, _err = self.run_command('--dry-run')
        self.assertIn('vCPU 0: pCPU 14 -> 15', out)
        self.assertIn('to do', out)
        self.assertEqual({0: only(14)}, self.pins(server)[0])


class ProcessTest(base.TestCase):
    """The command as it is started, with a database of its own."""

    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.conf = folder / 'nova.conf'
        url = f'sqlite:///{folder}/nova.sqlite'
        self.conf.write_text('[DEFAULT]\nhost = compute1\n'
                             f'[database]\nconnection = {url}\n')
        engine = sqlalchemy.create_engine(url)
        self.addCleanup(engine.dispose)
        models.BASE.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.insert(models.Service).values(
                host='compute1', binary='nova-compute', topic='compute',
                created_at=sqlalchemy.func.now(), report_count=0,
                disabled=False, version=1, deleted=0, uuid=(
                    '7d0b8f3a-6c1e-4d52-9a4b-0e2f5c8a1b36')))

    def command(self, *words):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'nova_ext.cleanup',
             *words], capture_output=True, text=True)
        self.assertNotIn('Traceback', done.stderr)
        return done.returncode, done.stdout, done.stderr

    def test_database(self):
        words = '--database', '--config-file', str(self.conf)
        status, _out, err = self.command(*words)
        self.assertEqual(2, status)
        self.assertIn('s ago that it is up', err)
        self.assertEqual((0, 'Nothing of KongMing is left on compute1.\n'),
                         self.command(*words, '--force')[:2])

    def test_options(self):
        """Nova's driver reads options that only its manager makes known."""
        subprocess.run(
            [sys.executable, '-W', 'ignore', '-c',
             'import sys\n'
             'from nova_ext.cleanup import command\n'
             'command.connect(command.parse(sys.argv[1:]))\n'
             'command.CONF.neutron_tunnel.numa_nodes\n'
             'command.CONF.devices.enabled_mdev_types\n',
             '--config-file', str(self.conf)], check=True)

    def test_no_such_file(self):
        status, _out, err = self.command('--config-file', '/nowhere')
        self.assertEqual(2, status)
        self.assertIn('/nowhere', err)

    def test_no_database(self):
        self.conf.write_text('')
        status, _out, err = self.command('--database', '--config-file',
                                         str(self.conf))
        self.assertEqual(2, status)
        self.assertIn('leave --database out', err)
