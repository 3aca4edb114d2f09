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

"""nova-compute starts whatever the installed Nova looks like."""

from unittest import mock

from kongming.placement import inventory
from nova_ext import load
from nova_ext.private import check
from nova_ext.private import installed
from nova_ext.private import symbols
from osc_plugin.host import host as host_command
from tests.functional import test_boot
from tests.functional import test_life
from tests.functional import test_live
from tests.unit.nova_ext import taking

BY_LABEL = {symbol.label: symbol for symbol in symbols.SYMBOLS}


def without(label):
    """What nova-compute finds different where a symbol is gone."""
    with taking.taken_away(BY_LABEL[label]):
        return check.differences(symbols.SYMBOLS)


class Shown:
    """What ``host list --long`` shows of ``live``."""

    def shown(self):
        self.audit()
        traits = self._get_provider_traits(self.compute_rp_uuids['compute1'])
        modes = {'uuid': mode for mode, trait in inventory.TRAIT_LIVE.items()
                 if trait in traits}
        found = host_command._row(mock.Mock(
            obeys=inventory.TRAIT_HOOK in traits, uuid='uuid',
            state=mock.Mock(nodes=[])), modes)
        return dict(zip(host_command._COLUMNS, found))['live']


class LiveTest(Shown, test_live.LiveBase):
    """What only live changes need is gone."""

    def hosts(self):
        with mock.patch('nova_ext.driver._DIFFERENT',
                        without('Guest._domain')):
            super().hosts()

    def test_boots_and_stays(self):
        self.assertEqual(1, self.stdlog.logger.output.count(
            'No running server of this host is changed: the installed Nova '
            'has parts that look different: Guest._domain '
            '(nova/virt/libvirt/guest.py) is set by none of its methods'))
        server = self.boot(self.template('0:13 1:10'))
        self.assertHolds(server, {0: 13, 1: 10})
        self.want(server, pin_0='0:15')
        self.reconcile()
        self.assertHolds(server, {0: 13, 1: 10})
        self.assertEqual([], self.actions(server))
        self.assertEqual('off', self.shown())
        self.api.delete_server(server['id'])


class HookTest(Shown, test_life.LifeBase):
    """What the hook needs is gone."""

    def start_native(self, start):
        """:param start: starts nova-compute"""
        installed.differences.cache_clear()
        self.addCleanup(installed.differences.cache_clear)
        with taking.taken_away(
                BY_LABEL['LibvirtDriver._get_vcpu_available']):
            chosen = load.driver()
        with mock.patch('nova.virt.kongming.LibvirtDriver', chosen):
            start()

    def test_natives_go_on(self):
        self.start_native(lambda: self.start_compute(
            hostname='compute1', host_info=self.host_info()))
        self.assertEqual(1, self.stdlog.logger.output.count(
            'nova-compute runs without KongMing'))
        self.assertIn('LibvirtDriver._get_vcpu_available '
                      '(nova/virt/libvirt/driver.py) is gone',
                      self.stdlog.logger.output)
        native = self.fill()
        self.assertEqual(2, len(self.pins(native)[0]))
        self.boot(self.flavor({'pin.0': '0:13 1:10'}, trait=False),
                  state='ERROR')
        self.assertEqual('off', self.shown())

    def test_a_server_with_a_template_starts_again(self):
        """With what it owns."""
        self.hosts()
        server = self.boot(self.flavor({'pin.0': '0:13 1:10'}))
        self.assertEqual('act', self.shown())
        self.start_native(lambda: self.restart_compute_service('compute1'))
        self.api.post_server_action(server['id'], {'reboot': {
            'type': 'HARD'}})
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertEqual({0: test_boot.only(13), 1: test_boot.only(10)},
                         self.pins(server)[0])
        self.assertEqual('off', self.shown())
