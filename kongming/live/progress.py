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

"""What goes on with a server, as its diagnostics tell it.

``GET /servers/{id}/diagnostics`` has one text that is for people,
``hypervisor_os``: Nova says ``linux``.  While something is not done yet it is
``linux; kongming: a live change: 0:13->15, step 1 of 2, 3 s``.  What is known
of a server's load goes before that, as JSON: ``linux; kongming-load: {...}``.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import re
from typing import Any

_SEPARATOR = '; kongming: '
_LOAD = '; kongming-load: '
_LOOKS = 'the host looks at its servers'


def add(hypervisor_os: str | None, going_on: str) -> str:
    """Nova's text with what goes on.

    :param going_on: in words
    """
    return f'{hypervisor_os or ""}{_SEPARATOR}{going_on}'


def read(hypervisor_os: str | None) -> str:
    """What goes on; empty where all is done."""
    return (hypervisor_os or '').partition(_SEPARATOR)[2]


def looks(asked: int, ended: int) -> str:
    """In words, that a pass is waited for.

    Where each takes longer than a request waits, whoever asks again tells by
    these whether the one that he has asked for at first has ended.

    :param asked: number of the pass that begins after the request
    :param ended: of the last one that has ended
    """
    return f'{_LOOKS}, pass {asked} after {ended}'


def read_looks(going_on: str) -> tuple[int, int] | None:
    """The two numbers of :func:`looks`; None where something else goes on."""
    found = re.fullmatch(f'{_LOOKS}, pass ([0-9]+) after ([0-9]+)', going_on)
    return (int(found[1]), int(found[2])) if found else None


def add_load(hypervisor_os: str | None, load: Mapping[str, Any]) -> str:
    """Nova's text with what is known of a server's load.

    Before :func:`add`, if at all.
    """
    return f'{hypervisor_os or ""}{_LOAD}{json.dumps(load)}'


def read_load(hypervisor_os: str | None) -> dict[str, Any] | None:
    """What is known of it; None where nothing is."""
    text = (hypervisor_os or '').partition(_LOAD)[2].partition(_SEPARATOR)[0]
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
