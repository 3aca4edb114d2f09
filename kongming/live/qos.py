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
"""What a vCPU gets of the pCPUs that it runs on, in a cgroup's numbers.

A template says it in per cent (:class:`kongming.template.tuning.Qos`), Nova's
flavor in libvirt's words (``quota:cpu_shares`` of the domain,
``quota:cpu_quota`` of each vCPU).  A vCPU that the template names has what it
says there; all else is Nova's.

A weight divides a pCPU among the vCPUs of *one* domain, whose cgroup they are
in; the domain's own weight divides it among domains.  So that a vCPU of
weight 400 has four times the share of a neighbour's as well, the domain's
weight grows with the mean of its vCPUs' weights.  Those that are not named
then have what they had, since the kernel divides a cgroup's weight over what
of it runs (kernel/sched/fair.c, calc_group_shares).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import math
from typing import NamedTuple

from kongming.template import template as template_mod
from kongming.template import tuning

#: A vCPU's weight where nobody says anything.
USUAL = 100
#: libvirt's and the kernel's period, in microseconds.
PERIOD_US = 100000
#: The kernel takes no less (kernel/sched/core.c, min_cfs_quota_period).
MIN_QUOTA_US = 1000
#: Version of the cpu controller -> what is there by itself, the least and the
#: most, of what libvirt calls cpu_shares.
DOMAIN = {1: (1024, 2, 262144), 2: (100, 1, 10000)}
#: Version -> files of a vCPU's cgroup; the last is new in Linux 5.14.
FILES = {1: ('cpu.shares', 'cpu.cfs_quota_us', 'cpu.cfs_period_us',
             'cpu.cfs_burst_us'),
         2: ('cpu.weight', 'cpu.max', 'cpu.max.burst')}


class Share(NamedTuple):
    """One vCPU's.

    :ivar weight: 1 to 10000, 100 being the usual one
    :ivar quota_us: the most in a period, in microseconds; None: no limit
    :ivar period_us: in microseconds
    :ivar burst_us: what unused quota may be saved up, in microseconds
    """

    weight: int = USUAL
    quota_us: int | None = None
    period_us: int = PERIOD_US
    burst_us: int = 0

    def __str__(self) -> str:
        text = f'weight={self.weight}'
        if self.quota_us is not None:
            text += f',quota={self._percent(self.quota_us)}'
            if self.burst_us:
                text += f',burst={self._percent(self.burst_us)}'
        if self.period_us != PERIOD_US:
            text += f' (period {self.period_us} us)'
        return text

    def _percent(self, us: int) -> str:
        return f'{round(100 * us / self.period_us, 2):g}%'


class CpuShares(NamedTuple):
    """A server's.

    :ivar vcpus: vCPU -> its own
    :ivar domain: libvirt's ``cpu_shares`` of the domain
    """

    vcpus: Mapping[int, Share]
    domain: int


class Native(NamedTuple):
    """What Nova gives a server by its flavor.

    :ivar cpu_shares: of the domain, as libvirt counts them; None: not said
    :ivar quota_us: of each vCPU; None: no limit
    :ivar period_us: of each vCPU
    """

    cpu_shares: int | None = None
    quota_us: int | None = None
    period_us: int = PERIOD_US

    @property
    def quota(self) -> int | None:
        """In hundredths of a per cent of one pCPU."""
        return (None if self.quota_us is None
                else self.quota_us * 10000 // self.period_us)


def native(specs: Mapping[str, str]) -> Native:
    """Nova's ``quota:cpu_*`` of a flavor's extra specs.

    nova/virt/libvirt/driver.py, _update_guest_cputune, hands the numbers to
    libvirt as they are; a quota below nothing is no limit there.
    """
    cpu_shares, quota, period = (
        int(specs.get(f'quota:cpu_{name}', 0))
        for name in ('shares', 'quota', 'period'))
    return Native(cpu_shares or None, quota if quota > 0 else None,
                  period or PERIOD_US)


def concerns(desired: template_mod.Template) -> bool:
    """Whether a server's QoS is KongMing's to look at.

    It is where anything can ask for some, now or later; the others' cgroups
    are left alone, whatever anybody wrote there.
    """
    return bool(desired.qos or 'qos' in desired.grant
                or any(profile.qos for profile in desired.profiles.values()))


def wanted(entries: Iterable[tuning.Qos], vcpus: int, nova: Native,
           version: int) -> tuple[CpuShares, list[str]]:
    """What a server is to have.

    :param entries: the template's ``qos``
    :param vcpus: number of the server's vCPUs
    :param version: of the cpu controller, 1 or 2
    :returns: that, and what was not obeyed and why
    """
    cpu_shares = dict.fromkeys(
        range(vcpus), Share(USUAL, nova.quota_us, nova.period_us))
    for entry in entries:
        for part in entry.vcpus:
            for vcpu in part.ids():
                if vcpu in cpu_shares:
                    cpu_shares[vcpu] = _share(entry, cpu_shares[vcpu])
    usual, least, most = DOMAIN[version]
    weights = sum(share.weight for share in cpu_shares.values())
    asked = round((nova.cpu_shares or usual) * weights
                  / (USUAL * (vcpus or 1)))
    domain = min(max(asked, least), most)
    problems = [] if domain == asked or asked == nova.cpu_shares else [
        f'qos: with these weights the server would have cpu_shares {asked}; '
        f'{least} to {most} is what there is']
    return CpuShares(cpu_shares, domain), problems


def _share(entry: tuning.Qos, share: Share) -> Share:
    if entry.weight is not None:
        share = share._replace(weight=entry.weight)
    if entry.quota is None:
        return share
    # Too short a period for so small a quota is made longer, not the quota
    # larger.
    period = max(share.period_us, math.ceil(
        MIN_QUOTA_US * 10000 / entry.quota))
    return share._replace(
        quota_us=max(MIN_QUOTA_US, period * entry.quota // 10000),
        period_us=period, burst_us=period * (entry.burst or 0) // 10000)


def parse(version: int, texts: Mapping[str, str]) -> Share:
    """What a vCPU's cgroup says.

    :param texts: name of a file -> its text; a burst may be missing
    """
    if version == 1:
        weight = round(int(texts['cpu.shares']) * USUAL / 1024)
        quota = texts['cpu.cfs_quota_us'].strip()
        period = texts['cpu.cfs_period_us']
        burst = texts.get('cpu.cfs_burst_us', '0')
    else:
        weight = int(texts['cpu.weight'])
        quota, period = texts['cpu.max'].split()
        burst = texts.get('cpu.max.burst', '0')
    return Share(weight, None if quota in ('-1', 'max') else int(quota),
                 int(period), int(burst))


def writes(version: int, now: Share, wanted: Share) -> list[tuple[str, str]]:
    """Files to be written, in an order that the kernel takes.

    At each moment a burst is no more than the quota, and a quota is lifted
    while the period changes, so that neither is refused for the other's sake.

    :returns: (name, text) of each, none where all is as wanted
    """
    if version == 1:
        found = [] if now.weight == wanted.weight else [
            ('cpu.shares', str(max(2, round(wanted.weight * 1024 / USUAL))))]
        limit = [('cpu.cfs_quota_us', '-1' if wanted.quota_us is None
                  else str(wanted.quota_us))]
        if now.period_us != wanted.period_us:
            limit.insert(0, ('cpu.cfs_period_us', str(wanted.period_us)))
            if now.quota_us is not None:
                limit.insert(0, ('cpu.cfs_quota_us', '-1'))
        burst = 'cpu.cfs_burst_us'
    else:
        found = [] if now.weight == wanted.weight else [
            ('cpu.weight', str(wanted.weight))]
        quota = 'max' if wanted.quota_us is None else wanted.quota_us
        limit = [('cpu.max', f'{quota} {wanted.period_us}')]
        burst = 'cpu.max.burst'
    if now[1:3] == wanted[1:3]:
        limit = []
    if now.burst_us != wanted.burst_us or (limit and now.burst_us):
        if now.burst_us:
            found.append((burst, '0'))
        if wanted.burst_us:
            limit.append((burst, str(wanted.burst_us)))
    return found + limit


def changes(now: CpuShares, wanted: CpuShares) -> list[str]:
    """In words, what has to change; nothing where all is as wanted."""
    found = [f'vCPU {vcpu}: {share} -> {wanted.vcpus[vcpu]}'
             for vcpu, share in sorted(now.vcpus.items())
             if share != wanted.vcpus.get(vcpu, share)]
    if now.domain != wanted.domain:
        found.append(f'cpu_shares: {now.domain} -> {wanted.domain}')
    return found
