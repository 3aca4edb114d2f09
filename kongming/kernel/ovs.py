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

"""Open vSwitch with DPDK: on which pCPUs its threads poll."""

from __future__ import annotations

import shutil
import subprocess

from kongming.interference import parse

#: Seconds; ovs-vsctl waits for ever for a database that is not there.
_PATIENCE = 2


def pmd() -> frozenset[int] | None:
    """pCPUs of ``pmd-cpu-mask``.

    :returns: None where Open vSwitch does not answer, does not use DPDK, or
        leaves it to itself
    """
    program = shutil.which('ovs-vsctl')
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, f'--timeout={_PATIENCE}', 'get', 'Open_vSwitch', '.',
             'other_config:pmd-cpu-mask'], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_PATIENCE + 1)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # It fails where there is no such key.
    return parse.mask(done.stdout) if done.returncode == 0 else None
