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

"""Two databases that disagree: which one decides, and on what."""

import datetime
import pathlib
import tempfile
from unittest import mock
import zoneinfo

from kongming import exception
from kongming.template import template
from kongming.template import when
from kongming.template import window
from kongming.template import zones
from tests import base

DATA = pathlib.Path(__file__).parents[2] / 'data' / 'zones'
OLD, NEW = (zones.Database(version, DATA / version)
            for version in ('2025b', '2026f'))
UTC = datetime.timezone.utc


def by(database):
    """Have a database decide."""
    zones.zone.cache_clear()
    return mock.patch.object(zones, 'database', lambda: database)


class NewestTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(zones.zone.cache_clear)

    def test_the_newer_one_decides(self):
        self.assertEqual(NEW, zones.newest(OLD, NEW))
        self.assertEqual(NEW, zones.newest(NEW, OLD))
        self.assertEqual(NEW, zones.newest(None, NEW))

    def test_of_two_that_are_as_new_the_package(self):
        package = zones.Database('2026f', pathlib.Path('/package'))
        self.assertIs(package, zones.newest(NEW, package))

    def test_years_and_letters(self):
        def newest(one, other):
            return zones.newest(zones.Database(one, DATA),
                                zones.Database(other, NEW.folder)).version

        self.assertEqual('2026a', newest('2025z', '2026a'))
        self.assertEqual('2026f', newest('2026f', '2026b'))

    def test_the_systems_version_is_read(self):
        self.assertEqual(OLD, zones.of_system(
            ['/nonexistent', str(OLD.folder), str(NEW.folder)]))
        empty = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.assertIsNone(zones.of_system([str(empty)]))
        (empty / 'tzdata.zi').write_text('# redacted\n')
        self.assertIsNone(zones.of_system([str(empty)]))

    def test_the_one_that_decides_here(self):
        found = zones.database()
        self.assertGreaterEqual(found.version, zones.of_package().version)
        self.assertEqual('UTC', str(zones.zone('UTC')))

    def test_names_that_are_none(self):
        for name in ('', '..', '../2026f/America/Vancouver', '/etc/passwd',
                     'America', 'America/', 'Nowhere', 'tzdata.zi', 'a\0b',
                     'America//Vancouver', 'America/Vancouver\n'):
            self.assertRaises(zoneinfo.ZoneInfoNotFoundError, NEW.zone, name)


class DisagreementTest(base.TestCase):
    """Vancouver stays at -7, Casablanca goes to 0, since 2026."""

    CASES = (('America/Vancouver', datetime.datetime(2026, 12, 1, 6, 30)),
             ('Africa/Casablanca', datetime.datetime(2026, 12, 1, 22, 30)))

    def setUp(self):
        super().setUp()
        self.addCleanup(zones.zone.cache_clear)

    def decided(self, name, moment):
        """Whether 22:00 to 23:00 there holds the moment, by old and new."""
        windows = when.windows(when.parse(f'22:00-23:00 {name}'))
        found = []
        for database in (OLD, NEW):
            with by(database):
                found.append(window.active(windows,
                                           moment.replace(tzinfo=UTC)))
        return found

    def test_active(self):
        for name, moment in self.CASES:
            self.assertEqual(2, len(set(self.decided(name, moment))), name)
            early = moment.replace(year=2025)
            self.assertEqual(1, len(set(self.decided(name, early))), name)

    def test_next_change(self):
        for name, moment in self.CASES:
            windows = when.windows(when.parse(f'22:00-23:00 {name}'))
            found = []
            for database in (OLD, NEW):
                with by(database):
                    found.append(window.next_change(
                        windows, moment.replace(tzinfo=UTC, hour=0)))
            self.assertEqual(datetime.timedelta(hours=1),
                             abs(found[0] - found[1]), name)

    def test_a_zone_that_the_database_has_not(self):
        with by(NEW):
            exc = self.assertRaises(
                exception.InvalidTemplate, template.decode,
                {'kongming:profile.n.when': '22:00-23:00 Europe/Berlin'})
        self.assertIn("'Europe/Berlin' is not a time zone", str(exc))
