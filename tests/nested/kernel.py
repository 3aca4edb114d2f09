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


"""The nested host's kernel asked, as a process inside asks it.

kongming.kernel reads and calls where it runs.  A program inside runs its
functions, one line a call and one an answer, several at once.
"""

import json
import pathlib
import shutil
import subprocess
import threading
import types

import fixtures

from kongming import exception
from nova_ext.live import memory_moves

_TOP = pathlib.Path(__file__).parents[2]
#: What those modules are made of.
_SOURCES = ('__init__.py', 'exception.py', 'host/__init__.py',
            'host/stale.py', 'host/topology.py', 'kernel/__init__.py',
            'kernel/affinity.py', 'kernel/cgroup.py', 'kernel/cpus.py',
            'kernel/cpuset.py', 'kernel/numa.py', 'kernel/process.py',
            'live/__init__.py', 'live/witness.py')
_PROGRAM = """
import json, sys, threading, types
sys.path.insert(0, sys.argv[1])
# What else the packages import is not needed here.
for name in 'kongming', 'kongming.host', 'kongming.kernel', 'kongming.live':
    package = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + '/' + name.replace('.', '/')]
    sys.modules[name] = package
# Of these only annotations are used, three names of kinds, and two tuples.
for name in ('kongming.live.threads', 'kongming.live.qos', 'kongming.domain',
             'kongming.domain.domain', 'kongming.memory',
             'kongming.memory.maps'):
    package, _dot, last = name.rpartition('.')
    sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules[package], last, sys.modules[name])
from kongming.live import witness
for kind in 'VCPU', 'IOTHREAD', 'EMULATOR':
    setattr(sys.modules['kongming.domain.domain'], kind,
            getattr(witness, kind))
sys.modules['kongming.domain.domain'].Task = lambda *fields: fields
sys.modules['kongming.live.threads'].Sched = lambda *fields: fields
from kongming import exception
from kongming.kernel import affinity
from kongming.kernel import cpus
from kongming.kernel import cpuset
from kongming.kernel import numa
from kongming.kernel import process
reader = affinity.Reader()
def read_cpus():
    found = cpus.read()
    return [found.online, sorted(found.nodes.items()),
            sorted(found.siblings.items())]
def hold(process, places):
    affinity.hold(process, {thread: set(pcpus) for thread, pcpus in places})
functions = {'online': cpus.online, 'read_cpus': read_cpus, 'hold': hold,
             'read_threads': reader.read, 'pid_of': process.pid_of,
             'lacking': cpuset.lacking, 'reclaim_cpus': cpuset.reclaim_cpus,
             'tasks': process.tasks, 'schedulers': lambda pid: sorted(
                 process.schedulers(pid).items())}
write = threading.Lock()
def answer(number, name, args):
    try:
        function = functions.get(name) or getattr(numa, name)
        found = [number, '', function(*args)]
    except Exception as exc:
        found = [number, type(exc).__name__, str(exc)]
        if isinstance(exc, OSError):
            found = [number, 'OSError', [exc.errno, exc.strerror]]
    with write:
        print(json.dumps(found, default=sorted), flush=True)
for line in sys.stdin:
    threading.Thread(target=answer, args=json.loads(line)).start()
"""


class Kernel:
    """The functions of kongming.kernel.numa, and what
    :class:`tests.nested.inside.Inside` asks, inside.

    :param host: tests.nested.host.Host
    """

    def __init__(self, host):
        folder = host.share / 'source'
        for name in _SOURCES:
            target = folder / 'kongming' / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_TOP / 'kongming' / name, target)
        (folder / 'agent.py').write_text(_PROGRAM)
        self._process = subprocess.Popen(
            host.ssh('python3', '-u', f'{folder}/agent.py', str(folder)),
            cwd=host.folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        self._lock = threading.Condition()
        self._number = 0
        self._answers = {}
        self._is_over = False
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            number, *found = json.loads(line)
            with self._lock:
                self._answers[number] = found
                self._lock.notify_all()
        with self._lock:
            self._is_over = True
            self._lock.notify_all()

    def __getattr__(self, name):
        def call(*args):
            with self._lock:
                self._number += 1
                number = self._number
                print(json.dumps([number, name, args]), flush=True,
                      file=self._process.stdin)
                while number not in self._answers:
                    if self._is_over:
                        raise AssertionError('the agent inside has ended')
                    self._lock.wait()
                kind, found = self._answers.pop(number)
            if kind == 'OSError':
                raise OSError(*found)
            if kind:
                raise getattr(exception, kind, RuntimeError)(found)
            return found
        return call


class Inside:
    """What nova_ext asks of its own machine's kernel, asked of that inside.

    Functions of one class, so that others can be put around them.
    """

    kernel = None

    @staticmethod
    def pid(domain):
        return Inside.kernel.pid_of(domain.name(), domain.UUIDString())

    @staticmethod
    def groups(pid):
        return {name: frozenset(nodes)
                for name, nodes in Inside.kernel.groups(pid).items()}

    @staticmethod
    def texts(pid):
        return Inside.kernel.texts(pid)

    @staticmethod
    def in_the_way(pid):
        return Inside.kernel.in_the_way(pid)

    @staticmethod
    def set_mems(pid, nodes, only=''):
        return Inside.kernel.set_mems(pid, nodes, only)

    @staticmethod
    def migrate_pages(pid, sources, node):
        return Inside.kernel.migrate_pages(pid, sources, node)

    @staticmethod
    def move_slice(*args):
        return Inside.kernel.move_slice(*args)


class Numa(fixtures.Fixture):
    """Have servers' memory be that of the processes inside.

    :param host: tests.nested.host.Host
    """

    def __init__(self, host):
        super().__init__()
        self._host = host

    def _setUp(self):
        kernel = Kernel(self._host)
        self.addCleanup(kernel.close)
        Inside.kernel = kernel
        for name, value in (
                ('process', types.SimpleNamespace(
                    pid=lambda domain: Inside.pid(domain))),
                ('numa', types.SimpleNamespace(
                    groups=lambda pid: Inside.groups(pid))),
                ('privileged', Inside)):
            self.useFixture(fixtures.MonkeyPatch(
                f'nova_ext.live.memory_moves.{name}', value))
        # A pass takes no process of these domains for this machine's.
        misplaced = memory_moves.MemoryMoves.misplaced
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.memory_moves.MemoryMoves.misplaced',
            lambda moves, server, domain, topology, _pid: misplaced(
                moves, server, domain, topology, Inside.pid(domain))))
