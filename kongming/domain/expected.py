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

"""What the template of a flavor makes of a domain, as its host can know.

A host knows flavors, which Nova writes into the domain's XML, but no
metadata and no active profile.
"""

from __future__ import annotations

import dataclasses

from kongming.domain import domain as domain_mod
from kongming import exception
from kongming.host import usage
from kongming.intent import merge
from kongming.live import threads
from kongming.template import grammar
from kongming.template import template as template_mod

Pcpus = frozenset[int]
_NOTHING: Pcpus = frozenset()


def template_of(domain: domain_mod.Domain) -> template_mod.Template | None:
    """The template of a domain's flavor; None where it has none."""
    if domain.flavor is None or not template_mod.has_template(
            domain.flavor.specs):
        return None
    try:
        return template_mod.decode(domain.flavor.specs)
    except exception.InvalidTemplate:
        # nova-api takes none; it was written by other means, and nobody
        # obeys it.
        return None


def exact_pins(desired: template_mod.Template,
               host: usage.HostState) -> dict[int, int]:
    """vCPU -> the one pCPU that the template gives it."""
    found: dict[int, int] = {}
    for pins in desired.pins.values():
        for pin in pins:
            if not pin.floats:
                try:
                    found.update(zip(pin.vcpu_ids(), grammar.resolve(
                        pin.targets, host)))
                except grammar.Unresolvable:
                    continue
    return found


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a flavor's template makes of a domain.

    :ivar profile: the one that comes nearest to what is; None: none
    :ivar threads: where they are to be then, as far as it says
    :ivar borrows: whether vCPUs may be on what others lend, too
    """

    profile: str | None
    threads: threads.Threads
    borrows: bool = False


def expected(domain: domain_mod.Domain,
             host: usage.HostState) -> Expected | None:
    """Where a template has a domain's threads.

    Which profile is active is recorded nowhere on the host, so the one is
    taken from which the XML differs least.

    :returns: None where the flavor has no template, or lets metadata, which
        the host doesn't know, say something else
    """
    desired = template_of(domain)
    if desired is None or 'template' in desired.grant:
        return None
    owned = threads.Owned(exact_pins(desired, host))
    named = {vcpu for pins in (
        desired.pins, *(p.pins for p in desired.profiles.values()))
        for entries in pins.values() for pin in entries
        for vcpu in pin.vcpu_ids()}
    # Of what the template does not name, what is is as it should be.
    default = threads.Threads(
        {vcpu: pcpus for vcpu, pcpus in
         {**domain.pins.vcpus, **{v: frozenset({p}) for v, p in
                                  owned.pins.items()}}.items()
         if vcpu in named},
        domain.pins.emulator, domain.pins.iothreads)
    best: tuple[int, Expected] | None = None
    for profile in (None, *sorted(desired.profiles)):
        wanted, _problems = threads.shape(
            default, host, owned, merge.Intent(desired, profile))
        found = Expected(profile, dataclasses.replace(wanted, sched={}),
                         desired.borrow is not None)
        differences = len(deviations(domain, found))
        if best is None or differences < best[0]:
            best = differences, found
    return best[1] if best else None


def deviations(domain: domain_mod.Domain, found: Expected) -> list[
        tuple[str, Pcpus, Pcpus]]:
    """(thread, where it is by the XML, where it is to be)."""
    wanted, differ = found.threads, []
    for vcpu, pcpus in sorted(wanted.vcpus.items()):
        now = domain.pins.vcpus.get(vcpu, _NOTHING)
        if now != pcpus and not (found.borrows and now > pcpus):
            differ.append((domain_mod.thread_name(domain_mod.VCPU, vcpu),
                           now, pcpus))
    if wanted.emulator and wanted.emulator != domain.pins.emulator:
        differ.append((domain_mod.EMULATOR,
                       domain.pins.emulator or _NOTHING, wanted.emulator))
    differ += [
        (domain_mod.thread_name(domain_mod.IOTHREAD, number),
         domain.pins.iothreads.get(number, _NOTHING), pcpus)
        for number, pcpus in sorted(wanted.iothreads.items())
        if domain.pins.iothreads.get(number) != pcpus]
    return differ
