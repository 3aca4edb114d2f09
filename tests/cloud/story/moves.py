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


"""Servers go from one host to the other."""

import time

import libvirt

from tests.cloud.story import chapter
from tests.embedded import guests

_HOSTS = ('nested1', 'nested2')


class Moves(chapter.Chapter):

    def other(self, host):
        return _HOSTS[1 - _HOSTS.index(host)]

    @chapter.on(*_HOSTS)
    def test_live_migration(self):
        """Migrated live, there and back, with its pins; its process runs on"""
        flavor = self.flavor(2, template=('--node', '0=1', '--pin',
                                          '0=0:9 1:8'))
        server = self.boot(flavor, host='nested1', image='dirty')
        for target in ('nested2', 'nested1'):
            begin = time.monotonic()
            self.act(server, os__migrateLive={
                'host': target, 'block_migration': 'auto'})
            self.until(f'it is on {target}', lambda: self.arrived(
                server, target), 600)
            self.seconds(f'live migration to {target}',
                         time.monotonic() - begin)
            self.comes_to(server, 1, {0: 9, 1: 8})
            self.assertEqual({(target, 8), (target, 9)},
                             self.look.named(server))
            # Its source says within [kongming] publish_interval that what it
            # had is free; until then nobody gets that, nor does it.
            self.assertClean()

    @chapter.on(*_HOSTS)
    def test_live_migration_after_a_move(self):
        """Its memory has just changed nodes, and does so again there

        A destination claims what the flavor says; then a pass sees to what
        its metadata say.
        """
        # A neighbour without a template may be anywhere.
        taken = {pcpu for _host, pcpu in self.look.tracked()}
        first, then = (max({*pcpus} - taken) for pcpus in (
            range(1, 6), range(7, 12)))
        flavor = self.flavor(template=('--node', '0=0', '--pin',
                                       f'0=0:{first}'))
        self.grant(flavor, 'template')
        server = self.boot(flavor, host='nested1', image='dirty')
        self.assertEqual({0}, self.pages(server, 'nested1'))
        self.admin.run('kongming', 'server', 'set', '--node', '0=1', '--pin',
                       f'0=0:{then}', '--wait', '--timeout', 300, server)
        self.assertEqual({1}, self.pages(server, 'nested1'))
        self.act(server, os__migrateLive={
            'host': 'nested2', 'block_migration': 'auto'})
        self.until('it is on nested2', lambda: self.arrived(
            server, 'nested2'), 600)
        self.comes_to(server, 1, {0: then})
        self.until('its pages are on node 1', lambda: self.pages(
            server, 'nested2') == {1})
        self.act(server, reboot={'type': 'HARD'})
        self.wait_for(server)
        self.comes_to(server, 1, {0: then})
        self.assertClean()

    def pages(self, server, host):
        """The nodes that the memory of its guest is on."""
        host = self.cloud.hosts[host]
        connection = libvirt.open(host.uri)
        try:
            domain = connection.lookupByUUIDString(server)
            return set(host.host.wait_for_memory(
                domain, guests.DIRTY_MIB, 300).pages)
        finally:
            connection.close()

    @chapter.on(*_HOSTS)
    def test_live_migration_refused(self):
        """A place that is taken is refused before anything moves"""
        flavor = self.flavor(template=('--node', '0=1', '--pin', '0=0:9'))
        servers = {host: self.boot(flavor, host=host) for host in _HOSTS}
        found = self.admin.sdk.compute.post(
            f'/servers/{servers["nested1"]}/action', json={
                'os-migrateLive': {'host': 'nested2',
                                   'block_migration': 'auto'}},
            microversion='2.90')
        if found.status_code == 202:
            self.until('the migration has ended', lambda: any(
                each['status'] in ('error', 'failed')
                for each in self.migrations(servers['nested1'])))
            self.wait_for(servers['nested1'])
        self.assertEqual('nested1',
                         self.look.server(servers['nested1'])['host'])
        for uuid in servers.values():
            self.assertIsOn(uuid, 1, {0: 9})

    def migrations(self, server):
        return self.admin.sdk.compute.get(
            f'/os-migrations?instance_uuid={server}',
            microversion='2.59').json()['migrations']

    def arrived(self, server, host):
        newest = next(iter(self.migrations(server)), None)
        if newest is None:
            return False  # conductor is still at it
        if newest['status'] in ('error', 'failed', 'cancelled'):
            self.fail(f'the migration has status {newest["status"]}; the '
                      f'logs of nova-compute say why')
        found = self.show(server)
        return (found['OS-EXT-SRV-ATTR:host'] == host
                and not found['OS-EXT-STS:task_state']
                and newest['status'] == 'completed')

    @chapter.on(*_HOSTS)
    def test_resize(self):
        """Resized, reverted, resized and confirmed: another template"""
        small = self.flavor(template=('--node', '0=1', '--pin', '0=0:9'))
        # A neighbour without a template may be anywhere.
        taken = {pcpu for _host, pcpu in self.look.tracked()}
        one, two = sorted({1, 2, 3, 4, 5} - taken)[-2:]
        large = self.flavor(2, template=('--node', '0=0', '--pin',
                                         f'0=0:{two} 1:{one}'))
        server = self.boot(small)
        first = self.look.server(server)['host']
        flavor = self.admin.sdk.compute.find_flavor(large).id
        self.act(server, resize={'flavorRef': flavor})
        self.wait_for(server, 'VERIFY_RESIZE')
        self.assertNotEqual(first, self.look.server(server)['host'])
        self.comes_to(server, 0, {0: two, 1: one})
        self.act(server, revertResize=None)
        self.wait_for(server)
        self.assertEqual(first, self.look.server(server)['host'])
        self.comes_to(server, 1, {0: 9})
        begin = time.monotonic()
        self.act(server, resize={'flavorRef': flavor})
        self.wait_for(server, 'VERIFY_RESIZE')
        self.seconds('resize to another host', time.monotonic() - begin)
        self.act(server, confirmResize=None)
        self.wait_for(server)
        self.comes_to(server, 0, {0: two, 1: one})
        self.assertClean()

    @chapter.on(*_HOSTS)
    def test_cold_migration(self):
        """Migrated cold"""
        flavor = self.flavor(template=('--node', '0=1', '--pin', '0=0:8'))
        server = self.boot(flavor)
        first = self.look.server(server)['host']
        self.act(server, migrate=None)
        self.wait_for(server, 'VERIFY_RESIZE')
        self.act(server, confirmResize=None)
        self.wait_for(server)
        self.assertEqual(self.other(first), self.look.server(server)['host'])
        self.comes_to(server, 1, {0: 8})
        self.assertClean()

    @chapter.on(*_HOSTS)
    def test_evacuate(self):
        """A host breaks down; its server is evacuated; the host comes back"""
        flavor = self.flavor(2, template=('--node', '0=1', '--pin',
                                          '0=0:9 1:8'))
        server = self.boot(flavor, host='nested1')
        compute = self.cloud.compute('nested1')
        compute.kill()
        self.cloud.hosts['nested1'].stop()
        try:
            service, = [each for each in self.admin.sdk.compute.services(
                binary='nova-compute') if each.host == 'nested1']
            self.assertTrue(self.force_down(service, True))
            begin = time.monotonic()
            self.act(server, evacuate={'host': 'nested2'})
            self.until('it is on nested2', lambda: (
                self.look.server(server)['host'] == 'nested2'))
            self.wait_for(server)
            self.seconds('evacuated', time.monotonic() - begin)
            self.comes_to(server, 1, {0: 9, 1: 8})
        finally:
            self.cloud.restore()
        self.until('it may come back', lambda: self.force_down(
            service, False))
        self.cloud.wait_for_hosts(['nested1'])
        self.assertEqual({}, self.look.domains(self.cloud.hosts['nested1']))
        # What it had is free again, once its old host has looked.
        self.until('nothing of it is left at nested1', lambda: not any(
            name.startswith('nested1')
            for name in self.look.allocations(server)))
        self.assertClean()

    def force_down(self, service, down):
        """Whether Nova did; a host is first to see what was evacuated."""
        return self.admin.sdk.compute.put(
            f'/os-services/{service.id}', json={'forced_down': down},
            microversion='2.53').status_code == 200
