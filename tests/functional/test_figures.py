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

"""What nova-compute tells ``kongming metrics``."""

import pathlib
import tempfile
import time
from unittest import mock

import fixtures

from kongming.metrics import account
from nova.tests.fixtures import libvirt as fakelibvirt
from nova_ext import figures
from tests.functional import test_live


class FiguresTest(test_live.LiveBase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.figures.COUNTS', figures.Counts()))

    def account(self):
        """Of the file, as it is written now."""
        path = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory())) / 'figures.json'
        self.flags(metrics_file=str(path), group='kongming')
        self.computes['compute1'].driver._figures.write()
        return account.Account.from_json(path.read_text())

    def test_live_changes_and_passes(self):
        server = self.boot(self.template('0:13 1:10'))
        before = self.account()
        self.want(server, pin_0='0:15')
        self.reconcile()
        found = self.account()
        self.assertEqual(1, found.changes['success'].count)
        self.assertEqual(0, found.changes['error'].count)
        self.assertGreater(found.jobs_started, before.jobs_started)
        self.assertGreater(found.passes['success'].count,
                           before.passes['success'].count)
        self.assertGreater(found.last_pass, 0)

        def refuse(*args):
            raise RuntimeError('libvirt said no')

        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', refuse):
            self.want(server, pin_0='0:12')
        self.assertEqual(1, self.account().changes['error'].count)

    def test_a_pass_that_fails(self):
        self.boot(self.template('0:13 1:10'))
        driver = self.computes['compute1'].driver
        with mock.patch.object(driver._reconciler, 'run',
                               side_effect=RuntimeError('no')):
            driver.passes.run()
        self.assertEqual(1, self.account().passes['error'].count)

    def test_placement_lags(self):
        publisher = self.computes['compute1'].driver.publisher
        server = self.boot(self.template('0:13 1:10'))
        publisher.run()
        self.assertEqual(0, self.account().publisher_lag)
        publisher.ownership_changed({server['id']})
        time.sleep(0.01)
        with mock.patch.object(publisher, '_publish', return_value=False):
            publisher.run()
        found = self.account()
        self.assertEqual(1, found.publisher_failures)
        self.assertGreaterEqual(found.publisher_lag, 0.01)
        publisher.run()
        self.assertEqual(0, self.account().publisher_lag)
