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

"""Which pCPUs of a server are to have power, where Nova manages that.

Nova keeps the dedicated pCPUs that no running server owns offline, or at a
low governor (``[libvirt] cpu_power_management`` and its strategy).  What a
running server owns has power; a profile may take it from what the server
owns and has no thread on meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from kongming.intent import merge
from kongming.live import threads
from kongming.template import choices

Pcpus = frozenset[int]
#: Nova's names of the strategies, by what a profile says.
STRATEGIES = {choices.OFF: 'cpu_state', choices.LOW: 'governor'}


class Power(NamedTuple):
    """What is to be so of the pCPUs of a server that runs.

    :ivar up: those that are to have power
    :ivar down: those that are not
    :ivar problem: why the profile is not obeyed; empty: it is
    """

    up: Pcpus
    down: Pcpus = Pcpus()
    problem: str = ''


def wanted(places: threads.Threads, owned: threads.Owned,
           intent: merge.Intent, strategy: str) -> Power:
    """Power of a server that runs.

    :param places: where its threads are to be
    :param strategy: of the host, as Nova names it; empty: it manages no power
    """
    asked = intent.overlay.power
    spare = owned.pcpus - places.pcpus
    if not asked:
        return Power(owned.pcpus)
    problem = why_not(asked, strategy)
    if problem:
        return Power(owned.pcpus, Pcpus(), (
            f'profile.{intent.profile}.power: {problem}'))
    return Power(owned.pcpus - spare, spare)


def why_not(asked: str, strategy: str) -> str:
    """Why a host does not do what a profile says of power; empty: it does.

    :param asked: ``off`` or ``low``
    :param strategy: as for :func:`wanted`
    """
    needed = STRATEGIES[asked]
    if not strategy:
        return (f"'{asked}' needs [libvirt] cpu_power_management and "
                f'cpu_power_management_strategy = {needed} on the host')
    if strategy != needed:
        return (f"'{asked}' needs [libvirt] cpu_power_management_strategy = "
                f'{needed}; this host has {strategy}')
    return ''
