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


"""Processes that stay: started, found again, ended."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from tests.cloud import error
from tests.cloud import layout as layout_mod

#: Lines of a log that are shown when its process has ended.
_TAIL = 15


class Daemon:
    """One process of a cloud.

    :param argv: what to run
    :param env: added to the environment
    :param stop_signal: asks it to end
    """

    def __init__(self, layout, name, argv, env=None, cwd=None,
                 stop_signal=signal.SIGTERM, patience=30):
        self.layout = layout
        self.name = name
        self.log = layout.logs / f'{name}.log'
        self._argv = [str(word) for word in argv]
        self._env = env or {}
        self._cwd = cwd or layout.folder
        self._record = layout.run / f'{name}.json'
        self._signal = stop_signal
        self._patience = patience

    @property
    def pid(self):
        """Its process, None where it doesn't run."""
        try:
            record = json.loads(self._record.read_text())
        except FileNotFoundError:
            return None
        # The number may be another's by now.
        return (record['pid'] if _begun(record['pid']) == record['begun']
                else None)

    def start(self):
        """Start it, if it doesn't run."""
        if self.pid is not None:
            return
        with open(self.log, 'ab') as log:
            process = subprocess.Popen(
                self._argv, cwd=self._cwd, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
                env=environment(self.layout, self._env))
        with _reaping:
            _children.append(process)
        self._record.write_text(json.dumps(
            {'pid': process.pid, 'begun': _begun(process.pid)}))

    def ask_to_stop(self):
        pid = self.pid
        if pid is not None:
            os.kill(pid, self._signal)

    def stop(self):
        """End it, and what it has started."""
        pid = self.pid
        if pid is None:
            return
        self.ask_to_stop()
        end = time.monotonic() + self._patience
        while self.pid is not None and time.monotonic() < end:
            time.sleep(0.1)
        self._kill(pid)

    def kill(self):
        """As the kernel does when memory is short."""
        pid = self.pid
        if pid is not None:
            self._kill(pid)

    def _kill(self, pid):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        while self.pid is not None:
            time.sleep(0.05)
        self._record.unlink(missing_ok=True)

    def wait_until(self, ready, seconds, what='answer'):
        """Until it is ready.

        :raises tests.cloud.error.Problem: if it ends before or takes longer
        """
        end = time.monotonic() + seconds
        while not ready():
            if self.pid is None:
                raise error.Problem(f'{self.name} has ended; {self.tail()}')
            if time.monotonic() > end:
                raise error.Problem(f'{self.name} does not {what} after '
                                    f'{seconds} s; {self.tail()}')
            time.sleep(0.2)

    def tail(self):
        lines = self.log.read_text(errors='replace').splitlines()[-_TAIL:]
        return '\n'.join([f'the end of {self.log}:', *lines])


#: Those of this process; one that has ended is to be waited for.
_children: list[subprocess.Popen[bytes]] = []
_reaping = threading.Lock()


def environment(layout, further=()):
    """The environment of what runs in the cloud.

    Whether a service has native threads is its release's to say, not that of
    the tests (tests.embedded).
    """
    mine = {name: value for name, value in os.environ.items()
            if name != 'OS_NOVA_DISABLE_EVENTLET_PATCHING'}
    return {**mine, 'PYTHONWARNINGS': 'ignore',
            'PATH': f'{layout_mod.BIN}:{os.environ["PATH"]}:/usr/sbin:/sbin',
            layout_mod.MARK: str(layout.folder), **dict(further)}


def _begun(pid):
    """When a process began, in the kernel's ticks; None if it is no more."""
    # Asked by several threads at once when all of it is stopped.
    with _reaping:
        _children[:] = [child for child in _children if child.poll() is None]
    try:
        fields = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *others = fields.rpartition(')')[2].split()
    return None if state in 'ZX' else others[18]


def all_of(layout):
    """Processes of the cloud, whoever has started them."""
    mark = os.fsencode(f'{layout_mod.MARK}={layout.folder}')
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
        pid = int(path.parent.name)
        try:
            if pid != os.getpid() and mark in path.read_bytes().split(b'\0'):
                found.append(pid)
        except OSError:
            continue  # it has ended, or is not ours
    return found


def run(layout, argv, log, env=()):
    """Run something to its end.

    :param log: name of the file that its output goes to
    :raises tests.cloud.error.Problem: if it fails
    """
    path = layout.logs / f'{log}.log'
    argv = [str(word) for word in argv]
    with open(path, 'ab') as out:
        done = subprocess.run(argv, cwd=layout.folder, stdout=out, stderr=out,
                              stdin=subprocess.DEVNULL,
                              env=environment(layout, env))
    if done.returncode:
        lines = path.read_text(errors='replace').splitlines()[-_TAIL:]
        raise error.Problem('\n'.join([
            f'{" ".join(argv[:4])} ... failed; the end of {path}:', *lines]))
