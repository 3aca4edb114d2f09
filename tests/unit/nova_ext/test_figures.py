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

"""What nova-compute counts, and the file of it."""

import os
import pathlib
import stat
import tempfile
import types
from unittest import mock

import fixtures
import nova.conf
from oslo_config import fixture as config_fixture

from kongming.metrics import account
from nova_ext import figures
from tests import base

CONF = nova.conf.CONF


class CountsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 100.0
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.figures.time', types.SimpleNamespace(
                monotonic=lambda: self.now, time=lambda: 5000 + self.now)))
        self.counts = figures.Counts()

    def lag(self):
        return self.counts.account(0).publisher_lag

    def test_changes_passes_and_jobs(self):
        self.counts.change_ended(0.2, False, 8)
        self.counts.change_ended(3, True, 0)
        self.counts.pass_ended(0.1, True)
        self.assertEqual(0, self.counts.account(0).last_pass)
        self.counts.pass_ended(0.1, False)
        self.counts.job_started()
        found = self.counts.account(4)
        self.assertEqual(
            (1, 1, 8, 1, 1, 5100, 1, 4, 5100),
            (found.changes['success'].count, found.changes['error'].count,
             found.moved_kib, found.passes['success'].count,
             found.passes['error'].count, found.last_pass,
             found.jobs_started, found.jobs_running, found.written))

    def test_lag(self):
        self.assertEqual(0, self.lag())
        self.counts.publish_wanted()
        self.now += 3
        self.counts.publish_wanted()
        self.assertEqual(3, self.lag())
        began = self.now
        self.now += 2
        self.counts.published(began, True)
        self.assertEqual(5, self.lag())
        self.assertEqual(1, self.counts.account(0).publisher_failures)
        began = self.now
        # While it writes something else is taken.
        self.counts.published(began, False)
        self.assertEqual(0, self.lag())
        self.now += 1
        self.counts.publish_wanted()
        self.counts.published(began, False)
        self.now += 7
        self.assertEqual(7, self.lag())

    def test_an_account_is_of_its_moment(self):
        found = self.counts.account(0)
        self.counts.change_ended(1, False, 0)
        self.assertEqual(0, found.changes['success'].count)


class WriterTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory())) / 'figures.json'
        self.config = self.useFixture(config_fixture.Config(CONF))
        self.config.config(group='kongming', metrics_file=str(self.path))
        self.writer = figures.Writer(types.SimpleNamespace(all=[1, 2]),
                                     lambda: (3, 2, 1))

    def test_whole_and_for_all_to_read(self):
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        self.path.write_text('old')
        self.writer.write()
        found = account.Account.from_json(self.path.read_text())
        self.assertEqual((2, 3, 2, 1), (
            found.jobs_running, found.load_servers, found.advised_profiles,
            found.advised_moves))
        self.assertEqual(0o644, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual([self.path], [*self.path.parent.iterdir()])

    def test_what_can_not_be_written(self):
        self.config.config(group='kongming', metrics_file='/nope/x')
        with mock.patch.object(figures.LOG, 'warning') as warning:
            self.writer.write()
            self.writer.write()
        self.assertEqual(1, warning.call_count)
        # What is there stays, and nothing is left over.
        self.config.config(group='kongming', metrics_file=str(self.path))
        self.path.write_text('old')
        with mock.patch('os.replace', side_effect=OSError('full')):
            self.writer.write()
        self.assertEqual(('old', [self.path]), (
            self.path.read_text(), [*self.path.parent.iterdir()]))

    def test_only_where_it_is_configured(self):
        self.config.config(group='kongming', metrics_file=None)
        with mock.patch.object(figures.threading, 'Thread') as thread:
            self.writer.start()
        self.assertEqual(0, thread.call_count)

    def test_now_and_then(self):
        self.config.config(group='kongming', metrics_interval=1)
        self.writer.start()
        self.addCleanup(self.writer.stop)
        for _ in range(100):
            if self.path.exists():
                break
            figures.time.sleep(0.05)
        account.Account.from_json(self.path.read_text())
