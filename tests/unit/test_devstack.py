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

"""The devstack plugin, called as devstack calls it, with devstack faked."""

import os
import pathlib
import subprocess
import sys

import fixtures

from tests import base

TOP = pathlib.Path(__file__).parents[2]
#: Each function that the plugin takes from devstack says that it was called.
DEVSTACK = r'''
set -eu
trueorfalse() { local value=${!2:-$1}; echo "$value"; }
define_plugin() { echo "plugin $1"; }
echo_summary() { :; }
setup_install() { echo "install $1"; }
is_service_enabled() { [[ " $ENABLED " == *" $1 "* ]]; }
iniset() { echo "$2 $3 = ${*:4}"; }
iniset_multiline() { local value; for value in "${@:4}"; do
    echo "$2 $3 + $value"; done; }
iniget() { echo "$IN_FILE"; }
die() { shift; echo "died: $*"; exit 1; }
sudo() { echo "sudo $*"; }
pip_uninstall() { echo "uninstall $1"; }
source "$1/devstack/settings"
shift
source "$KONGMING_DIR/devstack/plugin.sh" "$@"
'''


class PluginTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.nova = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (self.nova / 'nova/virt').mkdir(parents=True)
        (self.nova / '.git/info').mkdir(parents=True)

    def plugin(self, *words, status=0, **environ):
        done = subprocess.run(
            ['bash', '-c', DEVSTACK, 'bash', TOP, *words], text=True,
            capture_output=True, env={
                'PATH': f'{pathlib.Path(sys.executable).parent}:'
                        f'{os.environ["PATH"]}',
                'PYTHONPATH': str(TOP), 'DEST': '/opt/stack',
                'KONGMING_DIR': str(TOP), 'NOVA_DIR': str(self.nova),
                'NOVA_CONF': '/etc/nova/nova.conf',
                'NOVA_CONF_DIR': '/etc/nova', 'PYTHON3_VERSION': '3',
                'NOVA_FILTERS': 'ComputeFilter', 'IN_FILE': '',
                'PLACEMENT_CONF': '/etc/placement/placement.conf',
                'ENABLED': 'n-cpu n-sch placement-api', **environ})
        self.assertEqual(status, done.returncode, done.stderr)
        return done.stdout.splitlines()

    def test_install(self):
        for _again in range(2):
            self.assertIn(f'install {TOP}', self.plugin('stack', 'install'))
        self.assertEqual(
            (TOP / 'shim/kongming.py').read_text(),
            (self.nova / 'nova/virt/kongming.py').read_text())
        self.assertEqual('/nova/virt/kongming.py\n',
                         (self.nova / '.git/info/exclude').read_text())

    def test_configure(self):
        said = self.plugin('stack', 'post-config')
        shared = 'compute cpu_shared_set = 0'
        self.assertIn(shared, said)
        self.assertIn('DEFAULT compute_driver = kongming.LibvirtDriver', said)
        self.assertIn('filter_scheduler enabled_filters = '
                      'ComputeFilter,KongmingFilter,NUMATopologyFilter', said)
        self.assertIn('filter_scheduler available_filters + '
                      'nova_ext.filters.KongmingFilter', said)
        self.assertFalse([line for line in said if 'weight_classes' in line])
        self.assertIn('placement allocation_conflict_retry_count = 1', said)

    def test_sets(self):
        said = self.plugin('stack', 'post-config', KONGMING_SHARED_SET='0-1',
                           KONGMING_DEDICATED_SET='2-7')
        self.assertIn('compute cpu_shared_set = 0-1', said)
        self.assertIn('compute cpu_dedicated_set = 2-7', said)

    def test_all_but_the_shared(self):
        most = os.cpu_count() - 1
        said = self.plugin('stack', 'post-config',
                           status=0 if most else 1)
        if most:
            self.assertIn('compute cpu_dedicated_set = '
                          + (f'1-{most}' if most > 1 else '1'), said)

    def test_nothing_left(self):
        said = self.plugin('stack', 'post-config', status=1,
                           KONGMING_SHARED_SET='0-4095')
        self.assertIn('died: KongMing: no pCPU is left for '
                      'cpu_dedicated_set', said)

    def test_filters_of_the_file_remain(self):
        said = self.plugin('stack', 'post-config', ENABLED='n-sch',
                           KONGMING_WEIGHER='True',
                           IN_FILE='Mine,NUMATopologyFilter')
        self.assertIn('filter_scheduler enabled_filters = '
                      'Mine,KongmingFilter,NUMATopologyFilter', said)
        self.assertIn('filter_scheduler weight_classes + '
                      'nova_ext.weights.KongmingWeigher', said)
        self.assertFalse([line for line in said if 'compute_driver' in line])

    def test_clean(self):
        self.plugin('stack', 'install')
        self.assertIn('uninstall kongming', self.plugin('clean'))
        self.assertFalse((self.nova / 'nova/virt/kongming.py').exists())

    def test_other_phases(self):
        for words in (('stack', 'pre-install'), ('stack', 'extra'),
                      ('stack', 'test-config'), ('unstack',)):
            self.assertEqual(['plugin kongming'], self.plugin(*words))
