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
"""What Nova and oslo.privsep say where KongMing is not installed whole."""

import sys
import types
from unittest import mock

import fixtures
from nova import exception as nova_exc
from nova.scheduler import filters
from nova.scheduler import host_manager
from nova.scheduler import weights
from nova.virt import driver
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_privsep import daemon

from nova_ext.live import witness
from nova_ext import privileged
from tests import base


class InstalledTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())

    def test_shim_is_missing(self):
        with mock.patch.dict(sys.modules, {'nova.virt.kongming': None}):
            error = self.assertRaises(
                SystemExit, driver.load_compute_driver, None,
                'kongming.LibvirtDriver')
        self.assertEqual(1, error.code)
        self.assertIn('Unable to load the virtualization driver',
                      self.log.output)
        self.assertIn('nova.virt.kongming', self.log.output)

    @staticmethod
    def choose(*available):
        manager = types.SimpleNamespace(filter_obj_map={}, filter_cls_map={
            found.__name__: found for found
            in filters.HostFilterHandler().get_matching_classes(available)})
        return host_manager.HostManager._choose_host_filters(
            manager, ['ComputeFilter', 'KongmingFilter'])

    def test_a_filter_that_nova_does_not_find(self):
        error = self.assertRaises(
            nova_exc.SchedulerHostFilterNotFound, self.choose,
            'nova.scheduler.filters.all_filters')
        self.assertIn('KongmingFilter', str(error))
        self.assertEqual(2, len(self.choose(
            'nova.scheduler.filters.all_filters',
            'nova_ext.filters.KongmingFilter')))

    def test_a_weigher_that_nova_does_not_find(self):
        """It says nothing, and weighs without it."""
        handler = weights.HostWeightHandler()
        for more, found in (([], False),
                            (['nova_ext.weights.KongmingWeigher'], True)):
            self.assertEqual(found, 'KongmingWeigher' in {
                weigher.__name__ for weigher in handler.get_matching_classes(
                    ['nova.scheduler.weights.all_weighers', *more])})


class HelperTest(base.TestCase):
    """sudo does not let the helper start."""

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        for context in privileged.context, privileged.resctrl_context:
            self.useFixture(config_fixture.Config(cfg.CONF)).config(
                helper_command='false', group=context.cfg_section)
            self.addCleanup(context.set_client_mode, context.client_mode)
            context.set_client_mode(True)
            self.addCleanup(setattr, context, 'channel', context.channel)
            context.channel = None

    def test_it_is_said_which(self):
        for call, arguments in (
                (privileged.may_hold, [1]),
                (privileged.arrange_clos, [(), (), (), 0, None])):
            error = self.assertRaises(daemon.FailedToDropPrivileges, call,
                                      *arguments)
            self.assertIn('privsep helper command exited non-zero (1)',
                          str(error))

    def test_no_ownership_changes_then(self):
        asked = witness.Witness(None)
        asked._ask(1)
        self.assertIn('privsep helper command exited non-zero', asked.blind)
        self.assertIn('CAP_SYS_NICE', self.log.output)
