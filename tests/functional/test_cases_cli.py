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

"""Hosts that the scheduler refuses, and terminals that have ASCII only."""

import contextlib
import io
import os
from unittest import mock

from openstackclient import shell

from tests.functional import test_cli

SERVICE = 'compute1', 'nova-compute'


class SchedulerTest(test_cli.CliBase):
    """A host that Nova's scheduler refuses."""

    def template(self, *properties):
        flavor = self.flavor(2, *properties)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       '--node', '0=1')
        return flavor

    def service(self, *words):
        self.openstack('--os-compute-api-version', '2.53', 'compute',
                       'service', 'set', *words, *SERVICE)

    def fits(self, flavor, *words):
        """('template check' says that one fits, its output)."""
        code, out, err = self.run_shell(
            lambda: shell.OpenStackShell().run([
                'kongming', 'template', 'check', flavor, '-f', 'json',
                *words]))
        self.assertIn(code, (0, 1), err)
        return code == 0, out

    def test_check_of_a_disabled_host(self):
        flavor = self.template()
        self.addCleanup(self.service, '--enable')
        self.service('--disable')
        fits, said = self.fits(flavor)
        self.assertEqual(False, fits)
        self.assertIn('disabled', said)

    def test_check_of_a_host_that_is_forced_down(self):
        flavor = self.template()
        self.addCleanup(self.service, '--up')
        self.service('--down')
        fits, said = self.fits(flavor)
        self.assertEqual(False, fits)
        self.assertIn('down', said)

    def test_check_of_a_trait_that_the_host_lacks(self):
        fits, said = self.fits(self.template(
            'trait:HW_CPU_X86_AMD_SEV=required'))
        self.assertEqual(False, fits)
        self.assertIn('HW_CPU_X86_AMD_SEV', said)

    def test_check_of_all_else_that_a_flavor_asks_for(self):
        for key, value, word in (
                ('trait:COMPUTE_NODE', 'forbidden', 'COMPUTE_NODE'),
                ('resources:DISK_GB', '999999', 'DISK_GB'),
                ('aggregate_instance_extra_specs:ssd', 'true', 'ssd=true')):
            fits, said = self.fits(self.template(f'{key}={value}'))
            self.assertEqual(False, fits, key)
            self.assertIn(word, said)
        flavor = self.template('trait:COMPUTE_NODE=required')
        self.assertEqual(True, self.fits(flavor)[0])
        self.assertEqual(True, self.fits(
            flavor, '--availability-zone', 'nova')[0])
        fits, said = self.fits(flavor, '--availability-zone', 'berlin')
        self.assertEqual(False, fits)
        self.assertIn("not in 'berlin'", said)

    def test_a_host_in_other_letters(self):
        flavor = self.template()
        self.assertEqual(True, self.fits(flavor, '--host', 'COMPUTE1')[0])
        shown = self.json('kongming', 'host', 'show', 'Compute1')
        self.assertEqual('compute1', shown['host'])
        self.assertEqual([], self.json('kongming', 'server', 'list',
                                       '--host', 'COMPUTE1'))
        _out, err = self.openstack('kongming', 'server', 'list', '--host',
                                   'nowhere', status=1)
        self.assertIn("Nova knows no host 'nowhere'", err)

    def planned(self, flavor):
        """Why 'plan create' and 'deployment validate' find no host."""
        code, out, planned = self.run_shell(
            lambda: shell.OpenStackShell().run([
                'kongming', 'plan', 'create', '--flavor', f'{flavor}=1',
                '--image', 'idle', '--network', 'none']))
        self.assertEqual(1, code, out + planned)
        keys = self.specs(flavor)
        path = self.document(version=1, name='left-out', templates={'du': {
            'vcpus': 2, 'ram': 64, 'cells': {0: {'node': 1}},
            'properties': {key: value for key, value in keys.items()
                           if not key.startswith('kongming:')
                           and key != 'trait:CUSTOM_KONGMING_HOOK'}}},
            servers={'du-1': {'template': 'du', 'image': 'idle',
                              'networks': 'none'}})
        code, out, deployed = self.run_shell(
            lambda: shell.OpenStackShell().run([
                'kongming', 'deployment', 'validate', path]))
        self.assertEqual(1, code, out + deployed)
        return planned, deployed

    def test_plans_and_deployments_of_a_disabled_host(self):
        """There is no other one."""
        flavor = self.template()
        self.addCleanup(self.service, '--enable')
        self.service('--disable', '--disable-reason', 'new fans')
        for said in self.planned(flavor):
            self.assertIn('compute1: the scheduler leaves it out: its compute '
                          'service is disabled (new fans)', said)

    def test_plans_and_deployments_of_a_host_that_is_forced_down(self):
        flavor = self.template()
        self.addCleanup(self.service, '--up')
        self.service('--down')
        for said in self.planned(flavor):
            self.assertIn('its compute service is forced down', said)

    def test_plans_and_deployments_of_what_the_host_lacks(self):
        for key, value, why in (
                ('trait:HW_CPU_X86_AMD_SEV', 'required',
                 'it lacks the trait HW_CPU_X86_AMD_SEV'),
                ('trait:COMPUTE_NODE', 'forbidden',
                 'it has the trait COMPUTE_NODE, which is forbidden'),
                ('resources:DISK_GB', '999999',
                 'Placement has no 999999 of DISK_GB left on it'),
                ('aggregate_instance_extra_specs:ssd', 'true',
                 'no aggregate of it says ssd=true')):
            for said in self.planned(self.template(f'{key}={value}')):
                self.assertIn('compute1: the scheduler leaves it out: '
                              f'{why}', said)

    def test_an_aggregate_that_says_it(self):
        flavor = self.template('aggregate_instance_extra_specs:ssd=true')
        self.assertEqual(False, self.fits(flavor)[0])
        self.openstack('aggregate', 'create', '--zone', 'west', 'fast',
                       '--property', 'ssd=true')
        self.addCleanup(self.openstack, 'aggregate', 'delete', 'fast')
        self.openstack('aggregate', 'add', 'host', 'fast', 'compute1')
        self.addCleanup(self.openstack, 'aggregate', 'remove', 'host', 'fast',
                        'compute1')
        self.assertEqual(True, self.fits(flavor)[0])
        # The aggregate is a zone as well.
        for zone, well in (('west', True), ('nova', False)):
            fits, said = self.fits(flavor, '--availability-zone', zone)
            self.assertEqual(well, fits, said)
        self.assertIn("it is in the availability zone 'west', not in 'nova'",
                      said)
        plan = ('kongming', 'plan', 'create', '--flavor', f'{flavor}=1',
                '--image', 'idle', '--network', 'none',
                '--availability-zone')
        self.openstack(*plan, 'west')
        _out, err = self.openstack(*plan, 'nova', status=1)
        self.assertIn("it is in the availability zone 'west', not in 'nova'",
                      err)


class TerminalTest(test_cli.CliBase):

    def run_ascii(self, *words):
        """The shell in a terminal whose encoding is ASCII.

        :returns: (status, standard output, standard error)
        """
        def main():
            with contextlib.redirect_stdout(out):
                return shell.OpenStackShell().run(list(words))

        out = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
        with mock.patch.dict(os.environ, PYTHONIOENCODING='ascii'):
            code, _out, err = self.run_shell(main)
        out.flush()
        return code, out.buffer.getvalue().decode('ascii'), err

    def test_a_map_in_ascii(self):
        code, out, err = self.run_ascii('kongming', 'host', 'map', 'compute1')
        self.assertEqual((0, ''), (code, err))
        self.assertRegex(out, r'8 ~.*10 \.')
