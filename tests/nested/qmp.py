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


"""QEMU's monitor: https://www.qemu.org/docs/master/interop/qmp-spec.html"""

import json
import os
import socket
import time

from tests.nested import error


class Monitor:
    """A connection to a monitor; call it to run a command."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        # The path of a socket has 107 characters, that of a folder more.
        folder = os.open(path.parent, os.O_PATH)
        try:
            self._socket.connect(f'/proc/self/fd/{folder}/{path.name}')
        except OSError:
            self._socket.close()
            raise
        finally:
            os.close(folder)
        self._file = self._socket.makefile('rw')
        self._file.readline()
        self('qmp_capabilities')

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._socket.close()

    def __call__(self, command, **arguments):
        try:
            self._file.write(json.dumps({'execute': command,
                                         'arguments': arguments}) + '\n')
            self._file.flush()
            for line in self._file:
                answer = json.loads(line)
                if 'error' in answer:
                    raise error.Problem(
                        f"QEMU refuses {command}: {answer['error']['desc']}")
                if 'return' in answer:
                    return answer['return']
                # What is left is an event.
        except ConnectionError:
            pass
        raise error.Problem(f'QEMU ended at {command}')

    def wait_for_migration(self):
        """Until a state is written or read."""
        while True:
            found = self('query-migrate')
            if found.get('status') == 'completed':
                return
            if found.get('status') in ('failed', 'cancelled'):
                raise error.Problem(f'the state could not be moved: {found}')
            time.sleep(0.1)
