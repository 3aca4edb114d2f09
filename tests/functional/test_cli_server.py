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

"""A running server is moved by command."""

import functools
import io
import itertools
import json
import sys
from unittest import mock

import fixtures
from keystoneauth1 import session

from tests.functional import test_cli
from tests.functional import test_life


class ServerTest(test_cli.CliBase):

    def server(self, grant='template', pins='0:13 1:10', document=None):
        flavor = self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       *([document] if document else ['--pin', f'0={pins}']))
        if grant:
            self.openstack('flavor', 'set', flavor, '--property',
                           f'kongming:grant={grant}')
        name = self.getUniqueString()
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', name)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)
        return name

    def show(self, name, **kwargs):
        return self.json('kongming', 'server', 'show', name, **kwargs)

    def set(self, name, *options, **kwargs):
        return self.json('kongming', 'server', 'set', *options, name,
                         **kwargs)

    def refused(self, words, name, *options, command='set', **kwargs):
        _out, err = self.openstack('kongming', 'server', command, *options,
                                   name, status=1, **kwargs)
        self.assertIn(words, err)
        self.assertNotIn('Traceback', err)

    def metadata(self, name):
        """As Nova's own client tells it, which knows nothing of us."""
        return self.witnessed(name).metadata

    def witnessed(self, name):
        found, = self.nova().servers.list(search_opts={'name': f'^{name}$'})
        return found

    def test_set_show_unset(self):
        name = self.server()
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}],
                         self.show(name)['owned'])
        done = self.json('kongming', 'server', 'set', '--pin', '0=0:15',
                         '--wait', name)
        self.assertEqual([{'node': 1, 'pins': {'0': 15, '1': 10}}],
                         done['owned'])
        self.assertEqual({'kongming:pin.0': '0:15'}, done['metadata'])
        self.assertEqual(done['owned'], done['actual'])
        self.assertEqual({'kongming:pin.0': '0:15',
                          'kongming:grant': 'template'}, done['intended'])
        self.assertEqual('Success', done['last_change']['result'])
        self.assertEqual(done, self.show(name))
        self.assertEqual({'kongming:pin.0': '0:15'}, self.metadata(name))
        # Whoever asks Nova itself sees the same.
        nova = self.nova()
        action, = [action for action in nova.instance_action.list(
            self.witnessed(name)) if action.action == 'kongming_live_change']
        event, = nova.instance_action.get(
            self.witnessed(name), action.request_id).events
        self.assertEqual(('Success', action.request_id), (
            event['result'], done['last_change']['request_id']))
        self.wait_for(10, self.free)
        self.wait_for(['10', '15'], lambda: [
            pcpu for node in self.json('kongming', 'host', 'show',
                                       'compute1')['map']
            for pcpu, owner in node['owners'].items() if name in owner])
        drawn, _err = self.openstack('kongming', 'host', 'map', 'compute1',
                                     '--color', 'always', '--width', '60')
        self.assertIn(f'server {name} (', drawn)
        self.assertIn('\033[', drawn)
        drawn, _err = self.openstack('kongming', 'host', 'map', 'compute1',
                                     '--style', 'rows')
        self.assertIn('9,11..15  ~..A', drawn)
        drawn, _err = self.openstack('kongming', 'host', 'map', 'compute1',
                                     '--format', 'svg')
        self.assertIn(f'<title>pCPU 15: server {name} (', drawn)
        # Nothing to do is done at once.
        self.json('kongming', 'server', 'set', '--pin', '0=0:15', '--wait',
                  name)
        for user, seen in (('admin', done['owned']), ('member', None)):
            row, = [row for row in self.json(
                'kongming', 'server', 'list', '--long', user=user)
                if row['server'] == name]
            self.assertEqual((seen, None, 'ACTIVE'), (
                row['owned'], row['profile'], row['status']))
            self.assertEqual(done['last_change'], row['last_change'])
        self.assertEqual(done['owned'], self.json(
            'kongming', 'server', 'wait', name)['actual'])
        change, = self.json('kongming', 'server', 'history', name)
        self.assertEqual(('Success', None),
                         (change['result'], change['details']))
        back = self.json('kongming', 'server', 'unset', '--pin', '0',
                         '--wait', name)
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}],
                         back['owned'])
        newest, oldest = self.json('kongming', 'server', 'history', name)
        self.assertEqual(change, oldest)
        self.assertEqual([newest], self.json(
            'kongming', 'server', 'history', '--limit', '1', name))
        _out, err = self.openstack('kongming', 'server', 'history',
                                   '--limit', '0', name, status=1)
        self.assertIn('--limit is a number from 1 on', err)
        self.assertEqual({}, back['metadata'])

    def test_propagate(self):
        one, two = self.server(), self.server(pins='0:2 1:3')
        flavor = self.json('server', 'show', one)['flavor']['name']

        def set_(*options, **kwargs):
            return self.openstack('kongming', 'template', 'set', '--flavor',
                                  flavor, '--propagate', *options, **kwargs)

        before = self.json('kongming', 'template', 'show', flavor)
        out, _err = set_('--pin', '0=0:15 1:14', '--dry-run', '-f', 'json')
        self.assertEqual([one], json.loads(out)['servers'])
        self.assertEqual(before, self.json('kongming', 'template', 'show',
                                           flavor))
        _out, err = set_('--pin', '0=0:15 1:14')
        self.assertEqual(f'[1/1] change server {one}\n', err)
        shown = self.show(one)
        self.assertEqual([{'node': 1, 'pins': {'0': 15, '1': 14}}],
                         shown['owned'])
        self.assertEqual({'kongming:pin.0': '0:15 1:14'}, shown['metadata'])
        self.assertEqual('', set_('--pin', '0=0:15 1:14')[1])
        # What its own flavor says needs no metadata.
        set_('--pin', '0=0:13 1:10')
        self.assertEqual({}, self.metadata(one))
        # Its own flavor says more than metadata can unset.
        _out, err = set_('--node', '0=1', status=1)
        self.assertIn(f"server '{one}': the flavor that it was booted with "
                      f'says kongming:pin.0', err)
        _out, err = set_('--pin', '0=0:2 1:3', '--no-check', status=1)
        self.assertIn('0 of 1 servers were changed, then: ', err)
        self.assertIn(f'owned by server {two}', err)

    def test_profile(self):
        name = self.server(None, document=self.document(
            version=1, cells={0: {'pin': '0:15 1:14'}},
            grant=['profile', 'qos'],
            profiles={'low': {'cells': {0: {'pin': '0-1~v0'}},
                              'lend': True}}))
        self.refused('no such profile; it has low, auto', name,
                     '--profile', 'lwo')
        self.assertIsNone(self.show(name)['profile'])
        done = self.set(name, '--profile', 'low', '--wait')
        self.assertEqual('low', done['profile'])
        self.assertEqual('Success', done['last_change']['result'])
        self.assertEqual([{'node': 1, 'pins': {'0': 15, '1': 14}}],
                         done['owned'])
        again = self.set(name, '--profile', 'low', '--wait')
        self.assertEqual(done, again)
        done = self.json('kongming', 'server', 'unset', '--profile',
                         '--wait', name)
        self.assertEqual((None, {}), (done['profile'], done['metadata']))
        self.set(name, '--qos', '0:weight=200')
        self.assertEqual({'kongming:qos': '0:weight=200'},
                         self.metadata(name))
        self.openstack('kongming', 'server', 'unset', '--qos', name)
        self.assertEqual({}, self.metadata(name))

    def test_refused_by_the_host(self):
        one, two = self.server(), self.server(pins='0:15 1:12')
        _out, err = self.openstack('kongming', 'server', 'set', '--pin',
                                   '0=0:12', '--wait', one, status=1)
        self.assertIn(f"Server '{one}' stays as it is: ", err)
        self.assertIn(f'pCPU 12 is owned by server {two} (', err)
        # The host does not say the same again; it is not done all the same.
        for _ in range(2):
            self.refused(f'pCPU 12 is owned by server {two} (', one, '--pin',
                         '0=0:12', '--wait')
        self.refused(f'pCPU 12 is owned by server {two} (', one,
                     command='wait')
        shown = self.show(one)
        self.assertEqual('Error', shown['last_change']['result'])
        self.assertIn('pCPU 12 is owned', shown['last_change']['details'])
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}],
                         shown['actual'])
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}],
                         self.show(one)['owned'])
        self.openstack('kongming', 'server', 'unset', '--all', '--wait', one)
        self.assertEqual([{'node': 1, 'pins': {'0': 15, '1': 12}}],
                         self.show(two)['owned'])

    def test_refused_before_anything_is_written(self):
        name = self.server(grant=None)
        for words, arguments in (
                ("it needs the grant 'template'", ['--pin', '0=0:15']),
                ("column 1: 'x' has no pCPU", ['--pin', '0=x']),
                ("kongming:sched = '0:fast', column 3", [
                    '--sched', '0:fast']),
                ("'0' in the key is no number from 1", [
                    '--iothread', '0=4']),
                ('Name at least --node or --pin', [])):
            _out, err = self.openstack('kongming', 'server', 'set',
                                       *arguments, name, status=1)
            self.assertIn(words, err)
            self.assertNotIn('Traceback', err)
        self.assertEqual({}, self.show(name)['metadata'])

    def test_what_the_flavor_could_not_hold(self):
        name = self.server()
        for words, arguments in (
                ("vCPU 7 is beyond the flavor's 2 vCPU(s)",
                 ['--sched', '7:fifo:1']),
                ('cell 1: the guest has 1 NUMA cell(s)', ['--node', '1=0']),
                ("kongming:grant = 'qos': only a flavor says that",
                 ['--file', self.document(version=1, grant='qos')]),
                ("kongming:qos = '0:weight=5': it needs the grant 'qos'",
                 ['--file', self.document(version=1, qos='0:weight=5')]),
                ("kongming:profile.night.pin.0 = '0-1~13': only a flavor "
                 'says that',
                 ['--file', self.document(version=1, profiles={'night': {
                     'cells': {0: {'pin': '0-1~13'}}}})]),
                ('No such file', ['--file', '/nonexistent.yaml'])):
            self.refused(words, name, *arguments)
        self.assertEqual({}, self.metadata(name))

    @test_life.long
    def test_threads(self):
        name = self.server()
        done = self.set(name, '--emulator', '13', '--sched', '1:batch',
                        '--wait')
        self.assertEqual({'kongming:emulator': '13',
                          'kongming:sched': '1:batch'}, self.metadata(name))
        self.assertEqual('13', done['intended']['kongming:emulator'])
        self.assertEqual('Success', done['last_change']['result'])
        # What a server may not have is told, though it is no change.
        for how in ('was changed, but not all is as it is meant',
                    'stays as it is'):
            self.refused(
                f"Server '{name}' {how}: emulator: pCPU 12 is neither its "
                f'own nor in cpu_shared_set', name, '--emulator', '12',
                '--wait')
        self.openstack('kongming', 'server', 'unset', '--emulator', '--wait',
                       name)
        self.assertEqual({'kongming:sched': '1:batch'}, self.metadata(name))
        self.set(name, '--iothread', '1=shared')
        self.assertEqual('shared', self.metadata(name)['kongming:iothread.1'])
        self.openstack('kongming', 'server', 'unset', '--iothread', '1',
                       '--sched', name)
        self.assertEqual({}, self.metadata(name))

    def test_document_and_options(self):
        name = self.server()
        path = self.document(version=1, cells={0: {'pin': '0:15'}},
                             emulator='shared')
        self.set(name, '--file', path, '--pin', '0=1:14')
        self.assertEqual({'kongming:emulator': 'shared',
                          'kongming:pin.0': '1:14'}, self.metadata(name))
        with mock.patch.object(sys, 'stdin', io.StringIO(
                '{"version": 1, "cells": {"0": {"pin": "0:12 1:14"}}}')):
            done = self.set(name, '--file', '-', '--wait')
        self.assertEqual([{'node': 1, 'pins': {'0': 12, '1': 14}}],
                         done['actual'])

    @test_life.long
    def test_end_of_a_longer_map_goes(self):
        name = self.server()
        self.openstack('server', 'set', name,
                       '--property', 'kongming:pin.0=0:15',
                       '--property', 'kongming:pin.0.1=1:14',
                       '--property', 'other=stays')
        done = self.set(name, '--pin', '0=1:12', '--dry-run')
        self.assertEqual(
            {'written': {'kongming:pin.0': '1:12'},
             'removed': ['kongming:pin.0.1']},
            {key: done[key] for key in ('written', 'removed')})
        self.assertEqual('1:12', done['intended']['kongming:pin.0'])
        self.assertIn('kongming:pin.0.1', self.metadata(name))
        done = self.set(name, '--pin', '0=1:12', '--wait')
        self.assertEqual({'kongming:pin.0': '1:12', 'other': 'stays'},
                         self.metadata(name))
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 12}}],
                         done['owned'])
        self.openstack('kongming', 'server', 'unset', '--all', name)
        self.assertEqual({'other': 'stays'}, self.metadata(name))

    def test_dry_run_changes_nothing(self):
        name = self.server()
        done = self.set(name, '--pin', '0=0:15', '--dry-run')
        self.assertEqual({'kongming:pin.0': '0:15'}, done['written'])
        self.assertEqual([], done['removed'])
        self.assertEqual({}, self.metadata(name))
        shown = self.show(name)
        self.assertIsNone(shown['last_change'])
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}],
                         shown['actual'])

    def test_without_waiting_nobody_looks(self):
        name = self.server()
        done = self.set(name, '--pin', '0=0:15')
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}],
                         done['owned'])
        self.assertIsNone(done['actual'])
        self.assertIsNone(done['last_change'])
        self.assertEqual([{'node': 1, 'pins': {'0': 15, '1': 10}}],
                         self.show(name)['actual'])

    def test_somebody_else_is_quicker(self):
        """What he has removed is removed."""
        name = self.server()
        self.set(name, '--pin', '0=0:15 1:10', '--emulator', 'shared')
        asked, request = [], session.Session.request

        def twice(one, url, method, **kwargs):
            if method == 'DELETE':
                asked.append(url)
                request(one, url, method, **kwargs)
            return request(one, url, method, **kwargs)

        with fixtures.MonkeyPatch(
                'keystoneauth1.session.Session.request', twice):
            self.openstack('kongming', 'server', 'unset', '--all', name)
        self.assertLess(1, len(asked))
        self.assertEqual({}, self.metadata(name))

    def test_few_questions(self):
        """What takes long until it is live is what Nova is asked for."""
        name = self.server()
        asked = []
        request = session.Session.request

        def count(one, url, method, **kwargs):
            if (kwargs.get('endpoint_filter') or {}).get('service_type'):
                asked.append(f'{method} {url}')
            return request(one, url, method, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'keystoneauth1.session.Session.request', count))
        done = self.set(name, '--pin', '0=0:15', '--wait')
        self.assertEqual([{'node': 1, 'pins': {'0': 15, '1': 10}}],
                         done['actual'])
        # Find it; what it has been through; write; look; what has become of
        # it (two), and as it is now.
        # A host that answers after a second that it is still at it is
        # looked at again, and nothing else is asked meanwhile.
        once = [url for url, _same in itertools.groupby(asked)]
        self.assertEqual(7, len(once), asked)
        self.assertEqual(1, sum(url.endswith('/diagnostics') for url in once))

    def test_names(self):
        """Not what Nova's database takes them for."""
        name, other = self.server(), self.server(pins='0:4 1:5')
        rename = functools.partial(self.openstack, 'server', 'set', '--name')
        self.addCleanup(rename, name, server_id := self.show(name)['id'])
        for strange in ('a+b (c) [d]*', '.*', "it's | ^50%$ - é/?&#"):
            rename(strange, server_id)
            shown = self.show(strange)
            self.assertEqual((strange, server_id),
                             (shown['server'], shown['id']))
        other_id = self.show(other)['id']
        self.addCleanup(rename, other, other_id)
        rename('twice', server_id)
        rename('twice', other_id)
        self.refused(f"2 servers have the name 'twice'; use the ID of the "
                     f"one that is meant: "
                     f"{', '.join(sorted([server_id, other_id]))}", 'twice',
                     '--pin', '0=0:15')
        # The id of the other one as a name.
        rename(other_id, server_id)
        self.assertEqual(other_id, self.show(other_id)['id'])

    @test_life.long
    def test_stopped(self):
        name = self.server()
        self.openstack('server', 'stop', name)
        self.addCleanup(self.openstack, 'server', 'start', name)
        for _ in range(60):
            if self.json('server', 'show', name)['status'] == 'SHUTOFF':
                break
        shown = self.show(name)
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}],
                         shown['owned'])
        self.assertIsNone(shown['actual'])
        # What it owns already is had; the rest waits for the host's pass.
        self.set(name, '--pin', '0=0:13', '--wait')
        self.refused('was not changed within 1 s', name, '--pin', '0=0:15',
                     '--wait', '--timeout', '1')

    def test_member(self):
        name = self.server()
        shown = self.show(name, user='member')
        self.assertNotIn('owned', shown)
        self.assertIsNone(shown['actual'])
        self.assertIsNone(shown['host'])
        self.set(name, '--pin', '0=0:15', user='member')
        self.assertEqual({'kongming:pin.0': '0:15'}, self.metadata(name))
        self.refused('was not changed within 1 s', name, '--pin', '0=0:14',
                     '--wait', '--timeout', '1', user='member')
        # An admin rings, as the host's next pass would.
        self.assertEqual([{'node': 1, 'pins': {'0': 14, '1': 10}}],
                         self.show(name)['actual'])
        shown = self.set(name, '--pin', '0=0:14', '--wait', user='member')
        self.assertEqual('Success', shown['last_change']['result'])
        other = self.server(pins='0:13 1:12')
        self.set(name, '--pin', '0=0:13', user='member')
        self.show(name)
        self.refused(f"Server '{name}' stays as it is: ", name, '--pin',
                     '0=0:13', '--wait', user='member')
        self.openstack('kongming', 'server', 'unset', '--all', name,
                       user='member')
        self.assertEqual({}, self.metadata(name))
        self.openstack('server', 'lock', other)
        self.refused('Nova refused the metadata: ', other, '--pin', '0=0:15',
                     user='member')

    def test_no_such_server(self):
        for words in (('show',), ('set', '--pin', '0=0:5'),
                      ('unset', '--all')):
            _out, err = self.openstack('kongming', 'server', *words,
                                       'nobody', status=1)
            self.assertIn("No server with a name or ID of 'nobody'", err)
