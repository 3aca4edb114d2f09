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

from tests import expected
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

    def fits(self, flavor):
        """('template check' says that one fits, its output)."""
        code, out, err = self.run_shell(
            lambda: shell.OpenStackShell().run([
                'kongming', 'template', 'check', flavor, '-f', 'json']))
        self.assertIn(code, (0, 1), err)
        return code == 0, out

    @expected.failure(issue=5, because='False != True')
    def test_check_of_a_disabled_host(self):
        flavor = self.template()
        self.addCleanup(self.service, '--enable')
        self.service('--disable')
        fits, said = self.fits(flavor)
        self.assertEqual(False, fits)
        self.assertIn('disabled', said)

    @expected.failure(issue=5, because='False != True')
    def test_check_of_a_host_that_is_forced_down(self):
        flavor = self.template()
        self.addCleanup(self.service, '--up')
        self.service('--down')
        fits, said = self.fits(flavor)
        self.assertEqual(False, fits)
        self.assertIn('down', said)

    @expected.failure(issue=5, because='False != True')
    def test_check_of_a_trait_that_the_host_lacks(self):
        fits, said = self.fits(self.template(
            'trait:HW_CPU_X86_AMD_SEV=required'))
        self.assertEqual(False, fits)
        self.assertIn('HW_CPU_X86_AMD_SEV', said)

    @expected.failure(issue=5, because='1 != 0$')
    def test_plan_on_a_disabled_host(self):
        """There is no other one."""
        flavor = self.template()
        self.addCleanup(self.service, '--enable')
        self.service('--disable')
        code, out, err = self.run_shell(
            lambda: shell.OpenStackShell().run([
                'kongming', 'plan', 'create', '--flavor', f'{flavor}=1',
                '--image', 'idle', '--network', 'none']))
        self.assertEqual(1, code)
        self.assertIn('disabled', err)


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

    @expected.failure(issue=5, because='codec can')
    def test_a_map_in_ascii(self):
        code, out, err = self.run_ascii('kongming', 'host', 'map', 'compute1')
        self.assertEqual((0, ''), (code, err))
        self.assertRegex(out, r'8 ~.*10 \.')
