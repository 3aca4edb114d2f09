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

"""The real ``openstack`` shell against a cloud that is served over HTTP."""

import contextlib
import ctypes
import functools
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import types
from unittest import mock

import fixtures
from keystoneauth1 import session
from novaclient import client as novaclient
from openstack import config as sdk_config
from openstack import utils as sdk_utils
from openstackclient import shell
from openstackclient.volume import client as volume_client
from osc_lib import utils as osc_utils
import testtools
import yaml

from tests import every_command

#: How often --wait looks, in seconds.
_POLL = 0.2


def _end_with_parent():
    """Even while it is stopped: prctl(2), PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class ServedCloud:
    """One cloud for all tests of this process, in a process of its own.

    :param options: of ``python -m tests.embedded``
    """

    _running: dict[tuple[str, ...], 'ServedCloud'] = {}

    def __init__(self, *options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='kongming-cli-'))
        self.process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'tests.embedded',
             str(self.folder), *options], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, preexec_fn=_end_with_parent)
        deadline = time.monotonic() + 600
        while not (self.folder / 'ready').exists():
            if self.process.poll() is not None:
                raise RuntimeError(self.process.stderr.read())
            if time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError(f'no cloud after 600 s, see {self.folder}')
            time.sleep(0.2)

    def pause(self):
        """Services that nobody asks anything use a core all the same."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    @classmethod
    def get(cls, *options):
        if options not in cls._running:
            cls._running[options] = cls(*options)
        return cls._running[options]


class _Forgiving(dict):
    """Something may be deleted twice."""

    def __delitem__(self, key):
        self.pop(key, None)


class CliBase(testtools.TestCase):

    CLOUD: tuple[str, ...] = ()

    def setUp(self):
        super().setUp()
        self.cloud = ServedCloud.get(*self.CLOUD)
        self.cloud.resume()
        self.addCleanup(self.cloud.pause)
        # A shell keeps its clients for the life of the process; the next
        # one here may be another user's.
        self.useFixture(fixtures.MonkeyPatch(
            'osc_lib.clientmanager.ClientCache.__get__',
            lambda cache, instance, owner: cache.factory(instance)))
        self._wait_briefly()
        # On a busy machine anything may take a second.
        self.useFixture(fixtures.MonkeyPatch(
            'osc_plugin.progress.PATIENCE', 600))
        # The second volume client of a process fails with openstackclient 9
        # (openstackclient/volume/client.py, make_client).
        if isinstance(volume_client.API_VERSIONS, dict):
            self.useFixture(fixtures.MonkeyPatch(
                'openstackclient.volume.client.API_VERSIONS',
                _Forgiving(volume_client.API_VERSIONS)))

    def _wait_briefly(self):
        """Have ``--wait`` look more often than every one to five seconds."""
        iterate = sdk_utils.iterate_timeout
        brief = types.SimpleNamespace(
            monotonic=time.monotonic, sleep=lambda _seconds: time.sleep(_POLL))
        for name, value in (
                ('openstack.utils.iterate_timeout',
                 lambda timeout, message, wait=None: iterate(
                     timeout, message, _POLL)),
                ('osc_lib.utils.wait_for_status', functools.partial(
                    osc_utils.wait_for_status, sleep_time=_POLL)),
                ('osc_plugin.server.running.time', brief),
                ('osc_plugin.deployment.rollout.time', brief)):
            self.useFixture(fixtures.MonkeyPatch(name, value))

    def openstack(self, *words, user='admin', status=0):
        """Run the shell; returns (stdout, stderr)."""
        code, out, err = self.run_shell(
            lambda: shell.OpenStackShell().run(list(words)), user)
        self.assertEqual(status, code, out + err)
        return out, err

    def run_shell(self, main, user='admin'):
        """Call a command line's main; returns (status, stdout, stderr)."""
        out, err = io.StringIO(), io.StringIO()
        environ = {
            **{k: v for k, v in os.environ.items()
               if not k.startswith('OS_')},
            'OS_CLOUD': f'kongming-{user}',
            'OS_CLIENT_CONFIG_FILE': str(self.cloud.folder / 'clouds.yaml')}
        with mock.patch.dict(os.environ, environ, clear=True), \
                contextlib.redirect_stdout(out), \
                contextlib.redirect_stderr(err):
            try:
                code = main()
            except SystemExit as exc:
                code = exc.code
        return code, out.getvalue(), err.getvalue()

    def json(self, *words, **kwargs):
        return json.loads(self.openstack(*words, '-f', 'json', **kwargs)[0])

    def wait_for(self, expected, ask):
        """Placement is told a moment after Nova.

        :param ask: called until it says what is expected
        """
        deadline = time.monotonic() + 30
        while (found := ask()) != expected and time.monotonic() < deadline:
            time.sleep(_POLL)
        self.assertEqual(expected, found)

    def free(self):
        """pCPUs of the first host, as Placement knows it."""
        return self.json('kongming', 'host', 'list')[0]['free']

    def nova(self):
        """Nova's own client as an independent witness; it is an admin's."""
        session = sdk_config.OpenStackConfig(config_files=[
            str(self.cloud.folder / 'clouds.yaml')]).get_one(
                'kongming-admin').get_session()
        return novaclient.Client('2.90', session=session)

    def seen(self, flavor):
        """A flavor's extra specs as that client tells them."""
        return self.nova().flavors.find(
            name=flavor, is_public=None).get_keys()

    def flavor(self, vcpus=2, *properties):
        name = self.getUniqueString()
        self.openstack('flavor', 'create', name, '--vcpus', str(vcpus),
                       '--ram', '64', '--property', 'hw:cpu_policy=dedicated',
                       *(w for p in properties for w in ('--property', p)))
        self.addCleanup(self.openstack, 'flavor', 'delete', name)
        return name

    def specs(self, flavor):
        return self.json('flavor', 'show', flavor)['properties']

    def document(self, **content):
        path = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory())) / 'du.yaml'
        path.write_text(yaml.safe_dump(content))
        return str(path)


class HostTest(CliBase):

    def test_list(self):
        self.assertEqual([{'host': 'compute1', 'nodes': 2, 'dedicated': 12,
                           'free': 12, 'shared': 4}],
                         self.json('kongming', 'host', 'list'))

    def test_show_draws(self):
        out, _err = self.openstack('kongming', 'host', 'show', 'compute1')
        self.assertIn('│ 8 ~││10 .││12 .││14 .│', out)

    def test_show_for_programs(self):
        nodes = self.json('kongming', 'host', 'show', 'compute1')['map']
        self.assertEqual([0, 1], [node['node'] for node in nodes])
        self.assertEqual([[8, 9], [10, 11], [12, 13], [14, 15]],
                         nodes[1]['cores'])

    def test_no_such_host(self):
        _out, err = self.openstack('kongming', 'host', 'show', 'nowhere',
                                   status=1)
        self.assertEqual("Placement knows no host 'nowhere'; 'openstack "
                         "kongming host list' shows those there are.\n", err)

    def test_not_an_admin(self):
        _out, err = self.openstack('kongming', 'host', 'list', user='member',
                                   status=1)
        self.assertIn('needs the admin role', err)
        self.assertNotIn('Traceback', err)


class TemplateTest(CliBase):

    def test_set_show_list_unset(self):
        flavor = self.flavor(2, 'foreign:key=stays')
        native = self.specs(flavor)
        path = self.document(version=1, cells={
            0: {'node': 1, 'pin': '0:15 1:12'}})
        shown = self.json('kongming', 'template', 'set', '--flavor', flavor,
                          path)
        wanted = {'kongming:node.0': '1', 'kongming:pin.0': '0:15 1:12'}
        self.assertEqual(wanted, shown['template'])
        self.assertEqual({'trait:CUSTOM_KONGMING_HOOK': 'required'},
                         shown['placement'])
        self.assertEqual(shown, self.json('kongming', 'template', 'show',
                                          flavor))
        self.assertEqual(
            {**native, **wanted, **shown['placement']}, self.seen(flavor))
        self.assertIn(flavor, [row['flavor'] for row in self.json(
            'kongming', 'template', 'list')])

        # Less of a template takes the rest away again.
        shown = self.json('kongming', 'template', 'set', '--flavor', flavor,
                          '--pin', '0=0:n0c1t0')
        self.assertEqual({'kongming:pin.0': '0:n0c1t0'}, shown['template'])
        self.assertNotIn('kongming:node.0', self.specs(flavor))

        # Somebody else removes each key a moment before.
        request = session.Session.request

        def twice(one, url, method, **kwargs):
            if method == 'DELETE':
                request(one, url, method, **kwargs)
            return request(one, url, method, **kwargs)

        with fixtures.MonkeyPatch(
                'keystoneauth1.session.Session.request', twice):
            self.openstack('kongming', 'template', 'unset', '--flavor',
                           flavor)
        self.assertEqual(native, self.seen(flavor))
        self.openstack('kongming', 'template', 'unset', '--flavor', flavor)

    def test_what_is_surely_not_meant(self):
        flavor = self.flavor(2)
        _out, err = self.openstack(
            'kongming', 'template', 'set', '--flavor', flavor, self.document(
                version=1, grant=['profile'], cells={0: {'pin': '0:15'}}))
        self.assertIn('warning: a choice of profile is granted, but there is '
                      'no profile', err)
        self.assertEqual('profile', self.specs(flavor)['kongming:grant'])

    def test_set_on_a_flavor_of_an_older_build(self):
        flavor = self.flavor(
            2, 'resources_KM0:CUSTOM_KONGMING_PCPU=2',
            'trait_KM0:CUSTOM_KONGMING_HOOK=required', 'group_policy=none')
        self.assertEqual(
            ['group_policy', 'resources_KM0:CUSTOM_KONGMING_PCPU',
             'trait_KM0:CUSTOM_KONGMING_HOOK'],
            self.json('kongming', 'template', 'set', '--flavor', flavor,
                      '--pin', '0=0:15', '--dry-run')['removed'])
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       '--pin', '0=0:15')
        self.assertEqual(
            {'hw:cpu_policy': 'dedicated', 'kongming:pin.0': '0:15',
             'trait:CUSTOM_KONGMING_HOOK': 'required'}, self.seen(flavor))

    def test_boot_and_check(self):
        flavor = self.flavor(1)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       '--pin', '0=0:7')
        row, = self.json('kongming', 'template', 'check', flavor)
        self.assertEqual('cell 0 on node 0: 0:7', row['how'])
        name = self.getUniqueString()
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', name)
        self.wait_for(11, self.free)
        row, = self.json('kongming', 'template', 'check', flavor, status=1)
        self.assertFalse(row['fits'])
        self.assertRegex(row['how'], f'^node 0: pCPU 7 is owned by server '
                                     f'{name} ')
        self.openstack('server', 'delete', '--wait', name)
        self.wait_for(12, self.free)
        self.openstack('kongming', 'template', 'check', flavor)

    def test_create_delete(self):
        name, path = self.getUniqueString(), self.document(
            version=1, cells={0: {'node': 1, 'pin': '0:15 1:12'}})
        make = ('kongming', 'template', 'create', '--vcpus', '2', '--ram',
                '64', '--disk', '1', '--private', '--id', f'{name}-id',
                '--property', 'hw:cpu_policy=dedicated', name, path)
        dry = self.json(*make, '--dry-run')
        self.assertNotIn(name, self.names())
        made = self.json(*make)
        self.assertEqual({'kongming:node.0': '1',
                          'kongming:pin.0': '0:15 1:12'}, made['template'])
        found = self.nova().flavors.get(f'{name}-id')
        self.assertEqual((2, 64, 1, False, dry['written']), (
            found.vcpus, found.ram, found.disk, found.is_public,
            found.get_keys()))
        _out, err = self.openstack(*make, status=1)
        self.assertIn(f'Nova refused the flavor: Flavor with name {name} '
                      f'already exists', err)
        # All are looked at before the first goes.
        without = self.flavor()
        for other, words in (
                (without, 'has no template'),
                ('none', "No flavor with a name or ID of 'none'")):
            _out, err = self.openstack('kongming', 'template', 'delete',
                                       name, other, status=1)
            self.assertIn(words, err)
        self.assertIn(name, self.names())
        self.openstack('kongming', 'template', 'delete', name)
        self.assertNotIn(name, self.names())

    def names(self):
        return [flavor.name for flavor in self.nova().flavors.list(
            is_public=None)]

    def test_create_refused(self):
        """Before there is a flavor."""
        before = self.names()
        size = '--vcpus', '2', '--ram', '64'
        for words, *arguments in (
                ('vCPU 0 is not dedicated', '--pin', '0=0:15 1:14'),
                ('What --property says of kongming:', '--property',
                 'kongming:pin.0=0:15'),
                ('The template is empty',),
                ('compute1: node 0: pCPU 99', '--pin', '0=0:99 1:2',
                 '--property', 'hw:cpu_policy=dedicated'),
                ('the host has no such node', '--node', '0=7')):
            _out, err = self.openstack('kongming', 'template', 'create',
                                       *size, *arguments, 'new', status=1)
            self.assertIn(words, err)
        # What only Nova knows to be wrong leaves no flavor behind.
        _out, err = self.openstack(
            'kongming', 'template', 'create', *size, '--node', '0=1',
            '--property', 'hw:cpu_sockets=many', 'new', status=1)
        self.assertIn('Nova refused the extra specs', err)
        self.assertEqual(before, self.names())

    def test_how_many_times(self):
        flavor = self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       '--node', '0=1')
        self.assertEqual([{'host': 'compute1', 'fits': True, 'times': 3,
                           'how': 'cell 0 on node 1: 0:10 1:11'}],
                         self.json('kongming', 'template', 'check', flavor))
        names = []
        for left in (2, 1, 0):
            names.append(self.getUniqueString())
            self.openstack('server', 'create', '--flavor', flavor, '--image',
                           'idle', '--nic', 'none', '--wait', names[-1])
            self.addCleanup(self.openstack, 'server', 'delete', '--wait',
                            names[-1])
            self.wait_for(6 + 2 * left, self.free)
            row, = self.json('kongming', 'template', 'check', flavor,
                             status=0 if left else 1)
            self.assertEqual((left, bool(left)), (row['times'], row['fits']))
        self.assertEqual([], self.json('kongming', 'template', 'check',
                                       '--fits', flavor, status=1))
        self.assertEqual([], self.json('kongming', 'host', 'list', '--free',
                                       '7'))
        host, = self.json('kongming', 'host', 'list', '--long', '--free',
                          '6', '--obeying')
        self.assertEqual((6, 0, True), (host['free'], host['floating'],
                                        host['obeys']))
        # And Nova itself says the same.
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', 'one-more',
                       status=1)
        self.openstack('server', 'delete', '--wait', 'one-more')


class EveryCommandTest(every_command.EveryCommand, CliBase):

    GROUP, PROGRAM = 'openstack.kongming.v1', 'openstack'

    def run_command(self, *words):
        return self.openstack(*words)[0]


class BadInputTest(CliBase):
    """Refused before anything is written, in words."""

    def refused(self, words, *arguments, vcpus=2, flavor=None, user='admin'):
        name = flavor or self.flavor(vcpus)
        before = self.specs(name)
        _out, err = self.openstack('kongming', 'template', 'set', '--flavor',
                                   name, *arguments, status=1, user=user)
        self.assertIn(words, err)
        self.assertNotIn('Traceback', err)
        self.assertEqual(before, self.specs(name))

    def test_unknown_key(self):
        self.refused("cells.0 = '...': pins can not stand here, node, pin, "
                     'memory can', self.document(cells={0: {'pins': '0:1'}}))

    def test_malformed_map(self):
        self.refused("kongming:pin.0 = '0:10 1', column 6: '1' has no pCPU",
                     '--pin', '0=0:10 1')

    def test_pcpu_that_no_host_has(self):
        self.refused('No host could ever take this:\n'
                     'compute1: node 0: pCPU 99 (for vCPU 0) is not here, '
                     'Nova may use no such pCPU', '--pin', '0=0:99')

    def test_pcpu_outside_the_dedicated_set(self):
        self.refused('pCPU 1 is in cpu_shared_set', '--pin', '0=0:1')

    def test_vcpu_beyond_the_flavor(self):
        self.refused("vCPU 2 is beyond the flavor's 2 vCPU(s)",
                     '--pin', '0=2:4')

    def test_two_vcpus_on_one_pcpu(self):
        self.refused('pCPU 4 stands here a second time', '--pin',
                     '0=0:4 1:4')

    def test_cell_that_the_guest_has_not(self):
        self.refused('cell 1: the guest has 1 NUMA cell(s)', '--node', '1=0')

    def test_nothing_named(self):
        self.refused('The template is empty')

    def test_no_such_file(self):
        self.refused('No such file', '/nonexistent.yaml')

    def test_not_an_admin(self):
        self.refused('needs the admin role', '--pin', '0=0:4', user='member')

    def test_no_such_flavor(self):
        _out, err = self.openstack('kongming', 'template', 'set', '--flavor',
                                   'none', '--pin', '0=0:4', status=1)
        self.assertIn("No flavor with a name or ID of 'none' exists", err)

    def test_flavor_without_template(self):
        _out, err = self.openstack('kongming', 'template', 'show',
                                   self.flavor(), status=1)
        self.assertIn("'openstack kongming template set' gives it one", err)

    def test_native_flavor_set_is_a_400_with_the_reason(self):
        flavor = self.flavor()
        # nova-api validates from this microversion on.
        _out, err = self.openstack(
            '--os-compute-api-version', '2.86', 'flavor', 'set', flavor,
            '--property', 'kongming:pin.0=0:1 1:1', status=1)
        self.assertIn('pCPU 1 stands here a second time', err)
        self.assertNotIn('kongming:pin.0', self.specs(flavor))
