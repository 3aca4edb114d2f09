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


"""The hosts of a cloud: libvirtds that a nova-compute each is for.

``local1`` is this machine, its libvirtd in mount and UTS namespaces of its
own beside the system's.  ``nested1`` and ``nested2`` are emulated machines
with two NUMA nodes (or four) and SMT (tests/nested), joined by a network of
two, over which servers migrate.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import time

from tests.cloud import daemon
from tests.cloud import error
from tests.nested import host as nested_host
from tests.nested import image
from tests.nested import machine

_QEMU_CONF = """\
# What Nova makes belongs to whom Nova runs as.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
"""
_LIBVIRTD_CONF = """\
auth_unix_rw = "none"
unix_sock_group = "root"
"""


def kvm_works():
    return os.access('/dev/kvm', os.R_OK | os.W_OK)


class Local:
    """This machine; each of its pCPUs is dedicated."""

    name = 'local1'
    kind = 'local'
    #: Seconds within which things get done there.
    slow = 1
    _PLACES = {'run': '/run/libvirt', 'lib': '/var/lib/libvirt',
               'cache': '/var/cache/libvirt', 'log': '/var/log/libvirt',
               'etc': '/etc/libvirt'}

    def __init__(self, layout):
        self.layout = layout
        self.folder = layout.folder / self.name
        # Whoever enters these namespaces is there as long as this lives.
        self._namespace = daemon.Daemon(layout, f'{self.name}-namespaces', [
            'unshare', '--mount', '--uts', '--propagation', 'private',
            'sh', '-euc', self._furnish()])
        # By other names than the system's: whoever looks for that, and may
        # mean to end it, is not to find these.
        self.virtlogd = self.daemon_inside('virtlogd', [
            self.folder / 'virtlogd-cloud', '-p',
            self.folder / 'virtlogd.pid'])
        self.libvirtd = self.daemon_inside('libvirtd', [
            self.folder / 'libvirtd-cloud', '-p',
            self.folder / 'libvirtd.pid'])
        self.uri = (f'qemu+unix:///system?socket='
                    f'{self.folder}/run/libvirt-sock')
        self.compute_uri = 'qemu:///system'
        self.virt_type = 'kvm' if kvm_works() else 'qemu'
        self.settings = {}

    def cpu_sets(self):
        """Shared pCPUs, dedicated ones."""
        return [], sorted(os.sched_getaffinity(0))

    def siblings(self, node):
        return ()

    def runs(self, programs, program, *words):
        """What to run for a program that works on this host.

        :param programs: the folder that it is in
        """
        return [programs / program, *words]

    def _furnish(self):
        mounts = ''.join(
            f'mkdir -p {place} {shlex.quote(str(self.folder))}/{name}\n'
            f'mount --bind {shlex.quote(str(self.folder))}/{name} {place}\n'
            for name, place in self._PLACES.items())
        return (f'{mounts}hostname {self.name}\n'
                f'touch {shlex.quote(str(self.folder))}/ready\n'
                'exec sleep infinity')

    def inside(self, argv):
        """What runs a command there."""
        return ['nsenter', '-t', str(self._namespace.pid), '-m', '-u', '--',
                *map(str, argv)]

    def daemon_inside(self, name, argv):
        host = self

        class Inside(daemon.Daemon):
            def start(self):
                self._argv = host.inside(argv)
                super().start()

        return Inside(self.layout, f'{self.name}-{name}', argv)

    def start(self, say):
        self.folder.mkdir(exist_ok=True)
        for program in ('libvirtd', 'virtlogd', 'nsenter', 'unshare'):
            found = shutil.which(program, path=daemon.environment(
                self.layout)['PATH'])
            if found is None:
                raise error.Problem(f'{program} is not installed')
            if program.startswith(('libvirt', 'virt')):
                link = self.folder / f'{program}-cloud'
                link.unlink(missing_ok=True)
                link.symlink_to(found)
        etc = self.folder / 'etc'
        etc.mkdir(exist_ok=True)
        (etc / 'qemu.conf').write_text(_QEMU_CONF)
        (etc / 'libvirtd.conf').write_text(_LIBVIRTD_CONF)
        if self._namespace.pid is None:
            (self.folder / 'ready').unlink(missing_ok=True)
            self._namespace.start()
        self._namespace.wait_until((self.folder / 'ready').exists, 30)
        self.start_libvirtd()
        say(f'{self.name}: a libvirtd beside the system\'s, {self.virt_type}')

    def start_libvirtd(self):
        self.virtlogd.start()
        self.libvirtd.start()
        self.libvirtd.wait_until(self.answers, 120)

    def kill_libvirtd(self):
        self.libvirtd.kill()

    def answers(self):
        return _virsh(self.uri, 'version').returncode == 0

    def shell(self, script):
        """Run a shell script there; what it writes."""
        return subprocess.run(
            self.inside(['sh', '-s']), input=script, check=True,
            capture_output=True, text=True).stdout

    def is_up(self):
        return self.libvirtd.pid is not None

    def stop(self):
        if self.is_up():
            names = _virsh(self.uri, 'list', '--name').stdout.split()
            for name in names:
                _virsh(self.uri, 'destroy', name)
        self.libvirtd.stop()
        self.virtlogd.stop()
        self._namespace.kill()


class Linked(machine.Machine):
    """A nested host with a second network card, to one other such host."""

    def __init__(self, layout, name, number):
        super().__init__(layout.folder / name, images_folder(layout))
        self._name, self._number = name, number
        self.share = layout.share
        self.address = f'10.76.69.{number}'
        self._own = layout.port(f'{name} link')
        self._other = layout.port(f'nested{3 - number} link')

    def _arguments(self, shape, port):
        return [
            *super()._arguments(shape, port),
            '-netdev', 'dgram,id=link,local.type=inet,local.host=127.0.0.1,'
                       f'local.port={self._own if port else 0},'
                       'remote.type=inet,remote.host=127.0.0.1,'
                       f'remote.port={self._other if port else 0}',
            '-device', 'virtio-net-pci,netdev=link,'
                       f'mac=52:54:00:4b:4d:0{self._number}']

    def _connect(self, port):
        super()._connect(port)
        # libvirt refuses to migrate between hosts of one name.
        self._call(self.ssh(
            f'hostname {self._name} && echo "127.0.0.1 localhost '
            f'{self._name}" > /etc/hosts && ip link set eth1 up && '
            f'ip address replace {self.address}/24 dev eth1'))


class Nested:
    """An emulated machine; the first core of each node is half shared."""

    kind = 'nested'
    slow = 8
    virt_type = 'qemu'
    SHAPE = machine.Shape(nodes=int(os.environ.get(
        'KONGMING_CLOUD_NODES', 2)), cores=3)

    def __init__(self, layout, number):
        self.layout = layout
        self.name = f'nested{number}'
        self.machine = Linked(layout, self.name, number)
        self._port = layout.port(self.name)
        self.uri = self.compute_uri = machine.uri(self._port)
        self.settings = {
            'live_migration_inbound_addr': self.machine.address,
            'live_migration_scheme': 'tcp'}

    def cpu_sets(self):
        shared = [self.SHAPE.pcpus(node)[0]
                  for node in range(self.SHAPE.nodes)]
        return shared, sorted({p for node in range(self.SHAPE.nodes)
                               for p in self.SHAPE.pcpus(node)} - {*shared})

    def runs(self, programs, program, *words):
        return [programs / 'python', '-P',
                pathlib.Path(__file__).with_name('compute.py'),
                self.machine.folder, self.machine.share, program, *words]

    def inside(self, argv):
        # nova-compute runs outside: in there it would take minutes to start.
        return list(map(str, argv))

    def daemon_inside(self, name, argv):
        return daemon.Daemon(self.layout, f'{self.name}-{name}', argv)

    def start(self, say):
        self.machine.up(self.SHAPE, self._port, say=lambda text: say(
            f'{self.name}: {text}'))
        running = json.loads(
            (self.machine.folder / 'running.json').read_text())
        (self.layout.run / f'{self.name}.pid').write_text(
            str(running['pid']))

    @property
    def host(self):
        """tests.nested.host.Host"""
        return nested_host.Host(of=self.machine)

    def is_up(self):
        return self.machine.running() is not None

    def answers(self):
        return _virsh(self.uri, 'version').returncode == 0

    def shell(self, script):
        return self.host.shell(script)

    def kill_libvirtd(self):
        """Its init starts it anew."""
        self.shell('kill -9 $(pidof libvirtd)')

    def start_libvirtd(self):
        end = time.monotonic() + 180
        while not self.answers():
            if time.monotonic() > end:
                raise error.Problem(f'libvirtd of {self.name} does not come '
                                    f'back')
            time.sleep(0.5)

    def stop(self):
        self.machine.down()


def images_folder(layout):
    """Where the nested hosts' image is: of tools/nested, if it has one."""
    return machine.default_folder()


def make_image(layout, say):
    """Build it, if it isn't there; nobody else does meanwhile."""
    folder = images_folder(layout)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(folder / 'lock', 'w') as lock, contextlib.closing(lock):
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = image.Image(folder.absolute())
        if not made.is_made():
            made.make(say)


def _virsh(uri, *words):
    try:
        return subprocess.run(
            ['virsh', '-q', '-c', uri, *words], timeout=60, text=True,
            stdin=subprocess.DEVNULL, capture_output=True)
    except subprocess.TimeoutExpired as exc:
        return subprocess.CompletedProcess(exc.cmd, 124, '', 'no answer')


def named(layout, names):
    """The hosts of these names.

    :raises tests.cloud.error.Problem: if there is no such host
    """
    makers = {'local1': lambda: Local(layout),
              'nested1': lambda: Nested(layout, 1),
              'nested2': lambda: Nested(layout, 2)}
    for name in names:
        if name not in makers:
            raise error.Problem(f"there is no host '{name}'; there are "
                                f"{', '.join(makers)}")
    return [makers[name]() for name in names]
