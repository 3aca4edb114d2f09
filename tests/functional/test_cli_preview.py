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

"""Profiles are seen before they are active."""

import io
import sys
from unittest import mock

from kongming.template import zones
from tests.functional import test_cli
from tests.functional import test_cli_publish
from tests.functional import test_life

DAY = '--from', '2026-11-24T12:00', '--to', '2026-11-25T12:00'
PROFILE = {'when': '22:00-06:00 Europe/Berlin',
           'cells': {0: {'pin': '0-1~15'}}, 'qos': '0:weight=50'}
CHANGE = {'pin.0': '0-1~15', 'qos': '0:weight=50'}


class Base(test_cli.CliBase):

    def preview(self, *words, **kwargs):
        return self.json('kongming', 'template', 'preview', *words, **kwargs)

    def refused(self, words, *arguments, status=1, **kwargs):
        _out, err = self.openstack('kongming', 'template', 'preview',
                                   *arguments, status=status, **kwargs)
        self.assertIn(words, ' '.join(err.split()))
        self.assertNotIn('Traceback', err)


class TemplateTest(Base):

    def template(self):
        return self.document(version=1, profiles={'night': PROFILE},
                             cells={0: {'node': 1, 'pin': '0:15 1:14'}})

    def test_document(self):
        rows = self.preview(self.template(), *DAY)
        night = {'from': '2026-11-24T21:00:00+00:00',
                 'to': '2026-11-25T05:00:00+00:00', 'profile': 'night',
                 'change': CHANGE}
        self.assertEqual([
            {'from': '2026-11-24T12:00:00+00:00', 'to': night['from'],
             'profile': None, 'change': {}}, night,
            {'from': night['to'], 'to': '2026-11-25T12:00:00+00:00',
             'profile': None, 'change': {}}], rows)
        with mock.patch.object(sys, 'stdin', io.StringIO(
                '{"version": 1, "grant": "qos"}')):
            row, = self.preview('-', *DAY)
        self.assertIsNone(row['profile'])

    def test_for_people(self):
        out, _err = self.openstack('kongming', 'template', 'preview',
                                   self.template(), *DAY)
        self.assertIn('| night   | pin.0 = 0-1~15    |', out)

    def test_flavor_at_one_moment_in_a_zone(self):
        flavor = self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       self.template())
        at = '--zone', 'Europe/Berlin', '--at'
        for moment, first in (
                # The night of the switch to winter time has 02:30 twice.
                ('2026-10-25T02:30', '2026-10-25T02:30:00+02:00'),
                ('2026-10-25T02:30+01:00', '2026-10-25T02:30:00+01:00'),
                ('2026-10-25', '2026-10-25T00:00:00+02:00')):
            row, = self.preview('--flavor', flavor, *at, moment)
            self.assertEqual({'from': first, 'profile': 'night',
                              'to': '2026-10-25T06:00:00+01:00',
                              'change': CHANGE}, row)
        row, = self.preview('--flavor', flavor, '--at',
                            '2026-11-24T12:00+08:00', user='member')
        self.assertEqual('2026-11-24T04:00:00+00:00', row['from'])

    def test_a_host_that_decides_by_other_time_zones(self):
        flavor = self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       self.template())
        words = ('kongming', 'template', 'preview', '--flavor', flavor,
                 *DAY)
        self.assertEqual('', self.openstack(*words)[1])
        newer = zones.database()._replace(version='2999z')
        with mock.patch.object(zones, 'database', lambda: newer):
            _out, err = self.openstack(*words)
        self.assertIn('do not decide by time zones of 2999z', err)
        self.assertIn('compute1_KONGMING_NODE0', err)

    def test_a_week_from_now(self):
        rows = self.preview(self.template())
        self.assertIn(len(rows), (14, 15))
        for row, after in zip(rows, rows[1:]):
            self.assertEqual(row['to'], after['from'])

    def test_refused(self):
        path = self.template()
        for words, *arguments in (
                ('There is no 2026-03-29T02:30:00 in Europe/Berlin: clocks '
                 'are set forward', path, '--zone', 'Europe/Berlin', '--at',
                 '2026-03-29T02:30'),
                ('would end (2026-11-24T12:00:00+00:00) before it begins',
                 path, '--to', '2026-11-24T12:00', '--from', '2026-11-25'),
                ('more than 732 days is too long', path, '--from',
                 '2026-01-01', '--to', '2029-01-01'),
                ('leave out --from and --to', path, '--at', '2026-01-01',
                 *DAY),
                ("profiles.night = '...': where can not stand here",
                 self.document(version=1, profiles={'night': {
                     'where': 'x'}})),
                ("has no template; 'openstack kongming template set'",
                 '--flavor', self.flavor()),
                ("No flavor with a name or ID of 'none'", '--flavor',
                 'none'),
                ("Placement knows no host 'nowhere'", '--host', 'nowhere'),
                ('No such file', '/nonexistent.yaml')):
            self.refused(words, *arguments)
        self.refused('needs the admin role', '--host', 'compute1',
                     user='member')

    def test_bad_arguments(self):
        path = self.template()
        for words, *arguments in (
                ("'noon' is not a time; write 2026-10-25T02:30", path,
                 '--at', 'noon'),
                ("'1026-11-24' is not in the years 2000 to 2399", path,
                 '--from', '1026-11-24'),
                ("'Mars/Base' is not a time zone", path, '--zone',
                 'Mars/Base'),
                ('one of the arguments <file> --flavor --host is required',),
                ('--host: not allowed with argument', path, '--host', 'x')):
            self.refused(words, *arguments, status=2)

    def test_host(self):
        flavor = self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       self.template())
        name = self.getUniqueString()
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', name)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)
        rows = [row for row in self.preview('--host', 'compute1', *DAY)
                if f'server {name} (' in row['server']]
        self.assertEqual([(None, {}, []), ('night', CHANGE, []),
                          (None, {}, [])], [
            (row['profile'], row['change'], row['conflict'])
            for row in rows])


class ConflictTest(Base, test_cli_publish.Base):
    """Servers that Nova placed by itself own what another's profile names."""

    CLOUD = ('--native',)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.openstack, 'kongming', 'host', 'unpublish',
                        'compute1')
        self.publish()

    @test_life.long
    def test_both_are_named_for_the_time_of_it(self):
        owner = self.server(self.flavor(1, 'kongming:emulator=shared'))
        cell, = self.json('kongming', 'server', 'show', owner)['owned']
        pcpu = cell['pins']['0']
        flavor = self.flavor(
            1, 'kongming:profile.night.when=22:00-06:00',
            f'kongming:profile.night.pin.0=0~{pcpu}',
            'kongming:grant=profile')
        name = self.server(flavor)
        rows = self.preview('--host', 'compute1', *DAY, status=1)
        self.assertEqual(
            [(None, []), ('night', [pcpu]), (None, [])],
            [(row['profile'], [pcpu for conflict in row['conflict']
                               for pcpu in conflict['pcpus']])
             for row in rows])
        self.assertEqual(
            ('2026-11-24T22:00:00+00:00', '2026-11-25T06:00:00+00:00'),
            (rows[1]['from'], rows[1]['to']))
        conflict, = rows[1]['conflict']
        self.assertIn(f'server {name} (', rows[1]['server'])
        self.assertIn(f'server {owner} (', conflict['owner'])
        out, _err = self.openstack('kongming', 'template', 'preview',
                                   '--host', 'compute1', *DAY, status=1)
        self.assertIn(f'pin.0: pCPU {pcpu} is owned by server {owner} (',
                      out)
        # Status 1 is for what is asked for only.
        self.preview('--host', 'compute1', '--at', '2026-11-24T12:00')
        self.openstack('server', 'set', name, '--property',
                       'kongming:profile=night')
        row, = self.preview('--host', 'compute1', '--at',
                            '2026-11-24T12:00', status=1)
        self.assertEqual(('night', None), (row['profile'], row['to']))
