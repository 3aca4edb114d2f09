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


"""The emulated machine that the nested host is: start, find, stop.

One folder holds the image, the saved states and one running machine.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import time
import uuid

from tests.nested import error
from tests.nested import image
from tests.nested import qmp

_TOP = pathlib.Path(__file__).parents[2]
PORT = int(os.environ.get('KONGMING_NESTED_PORT', 16590))
#: Seconds where nothing else runs, minutes where much does.
_BOOT_SECONDS = 600
#: What it comes to use with a few domains.
_MEMORY_MIB = 3072


def uri(port):
    return f'qemu+tcp://127.0.0.1:{port}/system'


def default_folder():
    return pathlib.Path(os.environ.get('KONGMING_NESTED', _TOP / '.nested'))


@dataclasses.dataclass(frozen=True)
class Shape:
    """What QEMU is started with.

    :ivar cgroup: ``v1`` or ``v2``
    :ivar parallel: whether each pCPU has a thread of its own
    """

    nodes: int = 2
    cgroup: str = 'v2'
    parallel: bool = False
    cores: int = 2
    threads: int = 2
    #: Of 2 MiB, on each node.
    huge_pages: int = 128

    @property
    def node_mib(self):
        return 4096 // self.nodes if self.nodes < 4 else 1280

    def pcpus(self, node):
        per_node = self.cores * self.threads
        return range(node * per_node, (node + 1) * per_node)

    def siblings(self, node):
        """The node's cores as tuples of pCPUs."""
        pcpus = self.pcpus(node)
        return tuple(tuple(pcpus[at:at + self.threads])
                     for at in range(0, len(pcpus), self.threads))

    def distance(self, one, other):
        """As the firmware's SLIT says; nodes 0 and 1 are neighbours."""
        if one == other:
            return 10
        return 21 if self.nodes == 2 or one // 2 != other // 2 else 14

    def arguments(self):
        each = range(self.nodes)
        # No cache may span two nodes, so a node is a socket.
        yield '-smp'
        yield (f'{self.nodes * self.cores * self.threads},'
               f'sockets={self.nodes},cores={self.cores},'
               f'threads={self.threads}')
        yield from ('-m', f'{self.nodes * self.node_mib}M')
        for node in each:
            pcpus = self.pcpus(node)
            yield from ('-object', f'memory-backend-ram,id=memory{node},'
                                   f'size={self.node_mib}M')
            yield from ('-numa', f'node,nodeid={node},memdev=memory{node},'
                                 f'cpus={pcpus[0]}-{pcpus[-1]}')
        for one in each:
            for other in each:
                if one != other:
                    yield from ('-numa', f'dist,src={one},dst={other},val='
                                         f'{self.distance(one, other)}')

    def __str__(self):
        return f'{self.nodes} nodes, cgroup {self.cgroup}'


class Machine:
    """The nested host of a folder.

    :param images: folder of the image, where that is another one
    """

    def __init__(self, folder=None, images=None):
        self.folder = pathlib.Path(folder or default_folder()).absolute()
        #: Inside, this folder has the same path.
        self.share = self.folder / 'share'
        self.image = image.Image(
            pathlib.Path(images).absolute() if images else self.folder)
        self._uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, str(self.folder)))
        self._record = self.folder / 'running.json'
        self._process = None

    # What is there.

    def running(self):
        """pid, port and shape of the machine that is up; None if none is."""
        record = self._recorded()
        return record if record and record.get('ready', True) else None

    def _recorded(self):
        """As :meth:`running`, but it may be on its way or stuck there."""
        try:
            record = json.loads(self._record.read_text())
            line = pathlib.Path(
                f"/proc/{record['pid']}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The number may be another's by now.
        if os.fsencode(self._uuid) not in line:
            return None
        return record

    def ssh(self, *words):
        """The command that runs something inside; its cwd is our folder."""
        return ['ssh', '-F', 'ssh_config', 'nested', *words]

    # Up and down.

    def up(self, shape, port=PORT, fresh=False, say=print):
        """Start it, if it doesn't run yet.

        :param fresh: boot, even where there is a saved state
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.share.mkdir(exist_ok=True)
        with self._locked(say):
            running = self.running()
            if running:
                if Shape(**running['shape']) == shape:
                    return
                raise error.Problem(
                    f"the nested host runs with "
                    f"{Shape(**running['shape'])}; to have {shape}: "
                    f"tools/nested down, or KONGMING_NESTED=DIR and "
                    f"KONGMING_NESTED_PORT=PORT for a second one")
            for program, package in (('qemu-system-x86_64',
                                      'qemu-system-x86'),
                                     ('ssh', 'openssh-client'),
                                     ('virsh', 'libvirt-clients')):
                error.need(program, package)
            # Of somebody who was killed while he started it.
            self._kill()
            for number in (port, port + 1):
                _check_free(number)
            _check_memory(shape)
            if not self.image.is_made():
                self.image.make(say)
            state = self._state(shape)
            if state.exists() and not fresh:
                try:
                    self._start(shape, port, state, True, say)
                    return
                except error.Problem as exc:
                    say(f'{state.name} is of no use: {exc}')
            self._start(shape, port, state, False, say)

    def down(self):
        """Stop it.

        :returns: whether it ran
        """
        if not self.folder.exists():
            return False
        with self._locked(lambda _: None):
            was = self._recorded() is not None
            self._kill()
        return was

    @contextlib.contextmanager
    def _locked(self, say):
        with open(self.folder / 'lock', 'w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say('waiting for another tools/nested to end')
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _start(self, shape, port, state, restore, say):
        # A machine that was killed has left its sockets.
        self._kill()
        try:
            self._start_host(shape, port, state, restore, say)
            share = shlex.quote(str(self.share))
            # A machine with a folder of ours mounted can't be saved.
            self._call(self.ssh(
                f'date -s @{int(time.time())} && mkdir -p {share} && '
                f'mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 '
                f'share {share}'))
            self._write_record(shape, port, ready=True)
        except BaseException:
            self._kill()
            raise

    def _start_host(self, shape, port, state, restore, say):
        begin = time.monotonic()
        say(f"{'restoring' if restore else 'booting'} a host with {shape}")
        self._launch(shape, port, [
            '-incoming', f'exec:cat {state.name}'] if restore else [])
        with self._monitor() as monitor:
            if restore:
                monitor.wait_for_migration()
                monitor('cont')
            self._connect(port)
            say(f'libvirt answers after {time.monotonic() - begin:.0f} s')
            if not restore:
                for old in self.folder.glob(f'{_state_of(shape)}-*'):
                    old.unlink()
                begin = time.monotonic()
                self._save(monitor, state)
                say(f'state saved for the next time '
                    f'({state.stat().st_size >> 20} MiB, '
                    f'{time.monotonic() - begin:.0f} s)')

    def _arguments(self, shape, port):
        owners = 'passthrough' if os.geteuid() == 0 else 'none'
        return [
            'qemu-system-x86_64', '-name', 'kongming-nested',
            '-nodefaults', '-no-user-config', '-no-reboot',
            '-display', 'none',
            '-machine', 'pc',
            # One thread for all pCPUs is faster where few cores are free: a
            # domain's start is one long conversation.
            '-accel', f'tcg,thread={"multi" if shape.parallel else "single"},'
                      f'tb-size=512',
            # With AMD's the kernel sees no siblings, as TCG has no topoext.
            '-cpu', 'max,-la57,vendor=GenuineIntel,family=6,model=85,'
                    'stepping=4',
            *shape.arguments(),
            '-uuid', self._uuid,
            '-kernel', str(self.image.kernel),
            '-initrd', str(self.image.initrd),
            '-append', 'console=ttyS0 quiet net.ifnames=0 mitigations=off '
                       'nokaslr no_timer_check panic=-1 '
                       f'kongming.cgroup={shape.cgroup} '
                       f'kongming.hugepages={shape.huge_pages}',
            '-drive', f'if=none,id=root,format=raw,readonly=on,'
                      f'file={self.image.disk}',
            '-device', 'virtio-blk-pci,drive=root',
            '-device', 'virtio-rng-pci',
            '-netdev', f'user,id=net,restrict=on,'
                       f'hostfwd=tcp:127.0.0.1:{port}-:16509,'
                       f'hostfwd=tcp:127.0.0.1:{port + 1}-:22',
            '-device', 'virtio-net-pci,netdev=net',
            '-virtfs', f'local,path={self.share},mount_tag=share,'
                       f'security_model={owners},multidevs=remap',
            '-serial', 'file:console.log',
            '-qmp', 'unix:qmp.sock,server=on,wait=off']

    def _state(self, shape):
        """The file of the state that fits such a machine."""
        # Ports are the outer side's, they are in no state.
        arguments = self._arguments(shape, 0)
        version = self._call([arguments[0], '--version'])
        made_of = repr((version, arguments, self.image.made_of()))
        digest = hashlib.sha256(made_of.encode()).hexdigest()
        return self.folder / f'{_state_of(shape)}-{digest[:12]}'

    def _launch(self, shape, port, further):
        with open(self.folder / 'qemu.log', 'w') as log:
            self._process = subprocess.Popen(
                [*self._arguments(shape, port), *further], cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        self._write_record(shape, port, ready=False)

    def _write_record(self, shape, port, ready):
        self._record.write_text(json.dumps({
            'pid': self._process.pid, 'port': port, 'ready': ready,
            'shape': dataclasses.asdict(shape)}))

    def _monitor(self):
        for _ in range(100):
            try:
                return qmp.Monitor(self.folder / 'qmp.sock')
            except (FileNotFoundError, ConnectionRefusedError):
                self._check_alive()
                time.sleep(0.1)
        raise self._problem('QEMU opened no monitor')

    def _save(self, monitor, state):
        part = self.folder / 'state.part'
        monitor('stop')
        try:
            # The default is a network's speed.
            monitor('migrate-set-parameters', **{'max-bandwidth': 2 ** 33})
            monitor('migrate', uri=f'exec:cat > {part.name}')
            monitor.wait_for_migration()
            part.rename(state)
        finally:
            part.unlink(missing_ok=True)
            monitor('cont')

    def _connect(self, port):
        """Until one can get in and libvirt has looked at its QEMU."""
        (self.folder / 'ssh_config').write_text(
            f'Host nested\n  HostName 127.0.0.1\n  Port {port + 1}\n'
            f'  User root\n  IdentityFile "{self.image.key}"\n'
            f'  IdentitiesOnly yes\n  HostKeyAlias nested\n'
            f'  UserKnownHostsFile "{self.image.folder}/known_hosts"\n'
            f'  StrictHostKeyChecking yes\n  LogLevel ERROR\n'
            f'  ControlPath ssh.sock\n')
        self._wait_until(lambda: _banner(port + 1), 'no sshd answers')
        # One connection for all that follows; a new one takes a second.
        self._call(self.ssh('-M', '-N', '-f'))
        self._wait_until(lambda: _libvirt_answers(port),
                         'libvirtd does not answer')

    def _wait_until(self, ready, what):
        end = time.monotonic() + _BOOT_SECONDS
        while not ready():
            self._check_alive()
            if time.monotonic() > end:
                raise self._problem(f'{what} after {_BOOT_SECONDS} s')
            time.sleep(0.3)

    def _check_alive(self):
        if self._process.poll() is not None:
            raise self._problem('QEMU ended')

    def _problem(self, what):
        logs = [f'{what}; logs are in {self.folder}']
        for name in ('qemu.log', 'console.log'):
            path = self.folder / name
            if path.exists():
                logs += path.read_text(errors='replace').splitlines()[-10:]
        return error.Problem('\n'.join(logs))

    def _call(self, command):
        # ssh leaves a process behind that would hold a pipe open.
        with open(self.folder / 'command.log', 'w+') as out:
            done = subprocess.run(command, cwd=self.folder, stdout=out,
                                  stderr=out, stdin=subprocess.DEVNULL)
            out.seek(0)
            said = out.read()
        if done.returncode:
            raise self._problem(f'{shlex.join(command)} failed: {said}')
        return said

    def _kill(self):
        running = self._recorded()
        if (self.folder / 'ssh.sock').exists():
            subprocess.run(self.ssh('-O', 'exit'), cwd=self.folder,
                           capture_output=True, stdin=subprocess.DEVNULL)
        if running:
            # Its disk is read-only: nothing can be lost.
            os.kill(running['pid'], signal.SIGTERM)
            for _ in range(100):
                if self._process is not None:
                    self._process.poll()
                if self._recorded() is None:
                    break
                time.sleep(0.1)
            else:
                os.kill(running['pid'], signal.SIGKILL)
        for name in (self._record.name, 'qmp.sock', 'ssh.sock'):
            (self.folder / name).unlink(missing_ok=True)


def _state_of(shape):
    return f'state-{shape.nodes}-{shape.cgroup}'


def _banner(port):
    """Whether an sshd says who it is."""
    try:
        with socket.create_connection(('127.0.0.1', port), 2) as connection:
            return connection.recv(4) == b'SSH-'
    except OSError:
        return False


def _libvirt_answers(port):
    # The first answer takes it some seconds: it starts its QEMU to ask it.
    try:
        return subprocess.run(
            ['virsh', '-c', uri(port), 'domcapabilities', '--virttype',
             'qemu'], timeout=60, stdin=subprocess.DEVNULL,
            capture_output=True).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _check_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
        except OSError:
            raise error.Problem(
                f'port {port} of 127.0.0.1 is taken; --port PORT (or '
                f'KONGMING_NESTED_PORT=PORT) takes PORT and the next one '
                f'instead') from None


def _check_memory(shape):
    """It never touches all that it has, but the kernel has to agree."""
    for line in pathlib.Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable:'):
            mib = int(line.split()[1]) // 1024
            if mib < _MEMORY_MIB:
                raise error.Problem(
                    f'{mib} MiB of memory are available, a nested host of '
                    f'{shape} needs {_MEMORY_MIB} MiB')
