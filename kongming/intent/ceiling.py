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

"""What a flavor says of a vCPU is the most that metadata may ask for it.

A grant lets metadata say how vCPUs share and are scheduled, instead of the
flavor.  Where the flavor says it, too, that is what the server was given, and
metadata may ask for as much or less; where it says nothing, for what the
host's limits allow.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from kongming import exception
from kongming.template import grammar
from kongming.template import template as template_mod
from kongming.template import tuning

#: Of a vCPU for which nobody asks (cgroup v2, cpu.weight).
_USUAL_WEIGHT = 100
#: From the least to the most, real-time priorities after these.
_RANK = {'idle': 0, 'batch': 1, 'other': 2}


def above(asked: template_mod.Template, flavor: template_mod.Template,
          quota: int | None = None) -> Iterator[exception.Problem]:
    """What metadata ask for and the flavor does not give.

    :param asked: the template in the metadata
    :param quota: of each vCPU by Nova's ``quota:cpu_quota``, in hundredths of
        a per cent of one pCPU; holds where the template says none
    """
    for key, entries, reason in (
            ('qos', asked.qos, _above_qos(asked.qos, flavor.qos)
             or _above_native(asked.qos, flavor.qos, quota)),
            ('sched', asked.sched, _above_sched(asked.sched, flavor.sched)),
            ('cache', asked.cache, _above_cache(asked.cache, flavor.cache))):
        if entries and reason:
            yield exception.Problem(template_mod.PREFIX + key,
                                    ' '.join(map(str, entries)), 0, reason)


def _above_qos(asked: Iterable[tuning.Qos],
               given: Iterable[tuning.Qos]) -> str | None:
    mine = {part: entry for entry in asked for part in _vcpus(entry.vcpus)}
    for most in given:
        for vcpu in _vcpus(most.vcpus):
            entry = mine.get(vcpu, tuning.Qos(()))
            weight = (_USUAL_WEIGHT if entry.weight is None
                      else entry.weight)
            if most.weight is not None and weight > most.weight:
                return (f'vCPU {vcpu} has a weight of at most {most.weight}, '
                        f'as the flavor says')
            if most.quota is None:
                continue
            if entry.quota is None or entry.quota > most.quota or (
                    entry.burst or 0) > (most.burst or 0):
                return (f'vCPU {vcpu} has at most the quota and the burst of '
                        f'the flavor ({most})')
    return None


def _above_native(asked: Iterable[tuning.Qos], given: Iterable[tuning.Qos],
                  quota: int | None) -> str | None:
    if quota is None:
        return None
    said = {vcpu for entry in given if entry.quota is not None
            for vcpu in _vcpus(entry.vcpus)}
    for entry in asked:
        for vcpu in _vcpus(entry.vcpus):
            if vcpu not in said and (entry.burst
                                     or (entry.quota or 0) > quota):
                return (f'vCPU {vcpu} has a quota of at most {quota / 100:g}% '
                        f"and no burst, as the flavor's quota:cpu_quota says")
    return None


def _above_sched(asked: Iterable[tuning.Sched],
                 given: Iterable[tuning.Sched]) -> str | None:
    mine = {part: entry for entry in asked for part in _vcpus(entry.vcpus)}
    for most in given:
        for vcpu in _vcpus(most.vcpus):
            if _rank(mine.get(vcpu)) > _rank(most):
                return (f'vCPU {vcpu} is scheduled no better than the flavor '
                        f'says ({most})')
    return None


def _above_cache(asked: Sequence[tuning.Cache],
                 given: Sequence[tuning.Cache]) -> str | None:
    """Classes and ways are counted: a flavor's server has its own only.

    A class of the flavor can be divided among several, or be one with
    another; no node then has more of its cache taken than the flavor claims.
    """
    if len(asked) > len(given):
        return (f'these are {len(asked)} classes; the flavor gives '
                f'{len(given)}')
    for most in given:
        vcpus = {*_vcpus(most.vcpus)}
        l3 = sum(entry.l3 or 0 for entry in asked
                 if not vcpus.isdisjoint(_vcpus(entry.vcpus)))
        if most.l3 is not None and l3 > most.l3:
            return (f'this is {l3}% of the L3 cache for what has {most.l3}% '
                    f'by the flavor ({most})')
    mine = {part: entry for entry in asked for part in _vcpus(entry.vcpus)}
    theirs = {part: entry for entry in given for part in _vcpus(entry.vcpus)}
    nothing = tuning.Cache(())
    for vcpu in sorted(mine.keys() | theirs.keys()):
        entry, most = mine.get(vcpu, nothing), theirs.get(vcpu, nothing)
        if (entry.l3 is None) != (most.l3 is None):
            return (f'vCPU {vcpu} is in a class with '
                    + (f'l3=1..{most.l3}%' if most.l3 else 'no l3')
                    + ', as the flavor says')
        if most.mb is not None and (entry.mb or 101) > most.mb:
            return f'vCPU {vcpu} has at most mb={most.mb}%, as the flavor says'
    return None


def _rank(entry: tuning.Sched | None) -> int:
    if entry is None:
        return _RANK['other']
    return _RANK['other'] + entry.priority if entry.priority else (
        _RANK[entry.policy])


def _vcpus(ranges: Iterable[grammar.Range]) -> Iterator[int]:
    for part in ranges:
        yield from part.ids()
