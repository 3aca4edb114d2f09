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

"""From a cluster as it is to the cluster as it is meant.

Everything is checked before there is a first step, with all servers on their
hosts together.  Steps are in such an order that no pCPU is promised twice:
what goes gives up its pCPUs first, then servers that stay change hands, then
new ones come, those that name their pCPUs before those that leave them open.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from kongming import deployment as dep
from kongming import exception
from kongming import fit
from kongming import flavor as flavor_mod
from kongming import fragments
from kongming import merge
from kongming import qos
from kongming import rearrange
from kongming import relax
from kongming import room as room_mod
from kongming import template as template_mod
from kongming import usage
from kongming import wish as wish_mod

Problem = exception.Problem


def plan(wanted: dep.Deployment, cloud: dep.Cloud,
         prune: bool = False) -> dep.Plan:
    """What is to be done.

    :param prune: whether what the document has no longer is to go
    """
    return _Planner(wanted, cloud, prune).run()


class _Planner:

    def __init__(self, wanted: dep.Deployment, cloud: dep.Cloud,
                 prune: bool) -> None:
        self._wanted = wanted
        self._cloud = cloud
        self._prune = prune
        self._problems: list[Problem] = []
        self._warnings: list[str] = []
        self._rooms = {name: room_mod.Room(host)
                       for name, host in cloud.hosts.items()}
        self._gone: list[dep.DeleteServer] = []
        self._waits: list[dep.AwaitServer] = []
        self._new: list[dep.Server] = []
        #: host -> who changes there
        self._changing: dict[str, list[tuple[dep.Change, dep.FoundServer,
                                             template_mod.Template]]] = {}

    def run(self) -> dep.Plan:
        for server in self._wanted.servers.values():
            self._check(server)
        self._sort()
        steps: list[dep.Step] = [*self._gone]
        for gone in self._gone:
            if gone.host in self._rooms:
                self._rooms[gone.host].leave(gone.id)
        steps += self._flavors()
        for host in sorted(self._changing):
            steps.append(self._change(host))
        steps += self._waits
        steps += self._create()
        if self._problems:
            return dep.Plan((), tuple(self._problems), tuple(self._warnings))
        return dep.Plan(tuple(steps), (), tuple(self._warnings))

    def _tell(self, where: str, value: str, reason: str) -> None:
        self._problems.append(Problem(where, value, 0, reason))

    # What the document names.

    def _check(self, server: dep.Server) -> None:
        where = f'servers.{server.name}'
        known = ', '.join(sorted(self._rooms)) or 'none'
        if server.host is not None and server.host not in self._rooms:
            self._tell(f'{where}.host', server.host,
                       f'no host of that name obeys templates; those that '
                       f'do are {known}')
        elif not self._rooms:
            self._tell(where, '...', 'no host obeys templates yet; set '
                                     'compute_driver = '
                                     'kongming.LibvirtDriver in its '
                                     'nova.conf and restart nova-compute')
        if self._cloud.images.get(server.image) is None:
            self._tell(f'{where}.image', server.image,
                       "there is no such image, or several; 'openstack "
                       "image list' shows what there is")
        for network in (() if isinstance(server.networks, str)
                        else server.networks):
            if self._cloud.networks.get(network) is None:
                self._tell(f'{where}.networks', network,
                           "there is no such network, or several; "
                           "'openstack network list' shows what there is")

    # What becomes of each server.

    def _sort(self) -> None:
        by_name: dict[str, list[dep.FoundServer]] = {}
        for found in self._cloud.servers:
            by_name.setdefault(found.name, []).append(found)
        for name, several in sorted(by_name.items()):
            server = self._wanted.servers.get(name)
            if server is None:
                for found in several:
                    self._superfluous(found)
            elif len(several) > 1:
                self._tell(f'servers.{name}', ' '.join(
                    found.id for found in several),
                    f'{len(several)} servers of this deployment have that '
                    f'name; delete all but one')
            else:
                self._compare(server, several[0])
        self._new += [server for name, server in self._wanted.servers.items()
                      if name not in by_name]

    def _superfluous(self, found: dep.FoundServer) -> None:
        if self._prune:
            self._gone.append(dep.DeleteServer(
                found.id, found.name, found.host, _GONE))
        else:
            self._warnings.append(_stays('server', found.name))

    def _compare(self, server: dep.Server, found: dep.FoundServer) -> None:
        where = f'servers.{server.name}'
        if found.status == 'ERROR' and not found.launched:
            self._gone.append(dep.DeleteServer(
                found.id, found.name, found.host, 'it could not be built'))
            self._new.append(server)
            return
        flavor = self._wanted.flavors[server.flavor]
        stays = [*_elsewhere(server, found, self._cloud.images),
                 *(('', '...', reason)
                   for reason in _other_flavor(found, flavor))]
        changes, wish, reasons = _meant(found, flavor)
        if found.metadata.get(dep.LIKE) != server.flavor:
            changes.put[dep.LIKE] = server.flavor
        stays += [('', '...', reason) for reason in reasons]
        for what, value, reason in stays:
            self._tell(f'{where}{what}', value, f'{reason}; {_AGAIN}')
        if stays:
            return
        if found.status == 'BUILD':
            self._waits.append(dep.AwaitServer(found.id, found.name,
                                               found.host))
            return
        room = self._rooms.get(found.host or '')
        if room is None:
            self._tell(where, found.host or found.status,
                       'it is on no host that obeys templates; move it to '
                       f'one, or {_AGAIN}')
            return
        if (changes.put or changes.remove or wish_mod.unmet(
                wish, found.cells, room.layout,
                flavor.guest.emulator_isolated)):
            self._changing.setdefault(found.host or '', []).append(
                (dep.Change(found.id, found.name, changes), found, wish))

    # Flavors.

    def _flavors(self) -> list[dep.Step]:
        steps: list[dep.Step] = []
        name = self._wanted.name
        for key, wanted in sorted(self._wanted.flavors.items()):
            found = self._cloud.flavors.get(key)
            specs = wanted.specs(name)
            if found is None:
                steps.append(dep.CreateFlavor(key, wanted, specs))
            elif not found.is_of(name):
                self._tell(wanted.place, key,
                           'there is a flavor of that name which is not of '
                           'this deployment; rename the one or the other')
            elif _facts(found) != (wanted.vcpus, wanted.ram_mib,
                                   wanted.disk_gib):
                steps += [dep.DeleteFlavor(found.id, key,
                                           'to make it another way'),
                          dep.CreateFlavor(key, wanted, specs)]
            else:
                changes = flavor_mod.Changes(
                    {spec: value for spec, value in specs.items()
                     if found.specs.get(spec) != value},
                    tuple(sorted(found.specs.keys() - specs.keys())))
                if changes:
                    steps.append(dep.ChangeFlavor(found.id, key, changes))
        left = [found for key, found in sorted(self._cloud.flavors.items())
                if key not in self._wanted.flavors
                and found.is_of(name)]
        for found in left:
            if self._prune:
                steps.append(dep.DeleteFlavor(found.id, found.name, _GONE))
            else:
                self._warnings.append(_stays('flavor', found.name))
        return steps

    # Running servers.

    def _change(self, host: str) -> dep.ChangeServers:
        room = self._rooms[host]
        changing = self._changing[host]
        # What an image has made of its cells is the host's to judge.
        residents = [_resident(found, wish)
                     for _change, found, wish in changing
                     if _is_as_its_flavor(found)]
        found_plan = rearrange.plan(room.state(), residents)
        for _change, found, _wish in changing:
            if found.id in found_plan.refused:
                self._tell(f'servers.{found.name}', '...',
                           f'{host}: {found_plan.refused[found.id]}; name '
                           f'other pCPUs, or make room')
        for _change, found, _wish in changing:
            steps = [step for step in found_plan.steps
                     if step.server == found.id]
            if steps:
                room.moved(found, steps)
        return dep.ChangeServers(
            host, tuple(change for change, _found, _wish in changing),
            found_plan.steps)

    # New servers.

    def _create(self) -> list[dep.CreateServer]:
        """Find a place for each, in the order in which they are to come.

        Whoever found none is tried first the next time: a server that leaves
        its pCPUs open may have taken what another one names.
        """
        order = sorted(self._new, key=self._how_open)
        steps, refused = self._try(order)
        first = refused
        for _again in order:
            if not refused:
                return steps
            late = next(iter(refused))
            order.sort(key=lambda server: server.name != late)
            steps, refused = self._try(order)
        if not refused:
            return steps
        for name, reason in sorted(first.items()):
            server = self._wanted.servers[name]
            self._tell(f'servers.{name}.template', server.template, reason)
        return []

    def _how_open(self, server: dep.Server) -> tuple[int, bool, str]:
        """How many pCPUs it leaves to the host's choice; least comes first."""
        demand = self._wanted.flavors[server.flavor].demand
        wish = demand.template
        named = sum(len(list(pin.vcpu_ids())) for pins in wish.pins.values()
                    for pin in pins if not pin.floats)
        if demand.guest.emulator_isolated and isinstance(wish.emulator,
                                                         tuple):
            named += 1
        return (sum(cell.need for cell in demand.cells) - named,
                server.host is None, server.name)

    def _try(self, order: Sequence[dep.Server]
             ) -> tuple[list[dep.CreateServer], dict[str, str]]:
        """The steps in this order, and for whom there is no place, and why."""
        rooms = {name: room.copy() for name, room in self._rooms.items()}
        steps, refused = [], {}
        for server in order:
            hosts = ([server.host] if server.host is not None
                     else sorted(rooms))
            demand = self._wanted.flavors[server.flavor].demand
            fits, reasons = [], []
            for host in hosts:
                if host not in rooms:
                    continue
                state = rooms[host].state()
                result = fit.fit(state, demand)
                if isinstance(result, fit.Assignment):
                    fits.append((fragments.of(state, result), host, result))
                else:
                    less = relax.relax(state, demand)
                    reasons.append(f'{host}: {result}' + (
                        f'; it would fit {less}' if less else
                        '; make room, or name another host'))
            if fits:
                _cost, host, assignment = min(fits, key=lambda f: f[:2])
                open_ = self._how_open(server)[0] > 0
                rooms[host].come(
                    f'{server.name} of this document' + (
                        ' (not all its pCPUs are named)' if open_ else ''),
                    demand.guest, assignment)
                steps.append(dep.CreateServer(server, host, assignment))
            elif reasons:
                refused[server.name] = '; '.join(reasons)
        return steps, refused


_GONE = 'the document has it no longer'


def _stays(what: str, name: str) -> str:
    return f'{what} {name} stays, though {_GONE}; --prune deletes it'


def _facts(flavor: dep.FoundFlavor) -> tuple[int, int, int]:
    return flavor.vcpus, flavor.ram_mib, flavor.disk_gib


#: What there is to do where a server can't follow.
_AGAIN = 'delete the server, and apply makes it anew'


def _elsewhere(server: dep.Server, found: dep.FoundServer,
               images: Mapping[str, str | None]
               ) -> Iterator[tuple[str, str, str]]:
    """Where a server that is there is another one: place, value, reason."""
    if server.host is not None and found.host not in (None, server.host):
        yield ('.host', server.host, f"it is on {found.host}; 'openstack "
                                     f"server migrate' moves it")
    wanted = images.get(server.image)
    if wanted is not None and found.image not in (None, wanted):
        yield ('.image', server.image,
               f"it was booted from another image ({found.image}); "
               f"'openstack server rebuild' changes that")


def _other_flavor(found: dep.FoundServer,
                  flavor: dep.Flavor) -> Iterator[str]:
    """What no change of metadata makes of a server."""
    booted = found.flavor
    for what, have, want in zip(('vcpus', 'ram', 'disk'), _facts(booted), (
            flavor.vcpus, flavor.ram_mib, flavor.disk_gib)):
        if have != want:
            yield f'it was booted with {what} {have}, not {want}'
    old, new = dep.native(booted.specs), dep.native(flavor.properties)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield (f'it was booted with {key} {old.get(key, "unset")}, not '
                   f'{new.get(key, "unset")}')


def _meant(found: dep.FoundServer, flavor: dep.Flavor) -> tuple[
        wish_mod.Changes, template_mod.Template, list[str]]:
    """Its metadata's changes, what it is meant to be, and what can't be."""
    try:
        booted = template_mod.decode(found.flavor.specs)
        changes = wish_mod.follow(found.flavor.specs, found.metadata,
                                  flavor.wish)
    except exception.KongmingError as exc:
        return wish_mod.Changes({}, []), flavor.wish, [str(exc)]
    strange = wish_mod.strange(changes.applied(found.metadata), flavor.wish)
    changes = wish_mod.Changes(changes.put,
                               [*changes.remove, *strange.remove])
    reasons = [f'it keeps the {field} of the flavor that it was booted with'
               for field in ('profiles', 'grant', 'borrow')
               if getattr(booted, field) != getattr(flavor.wish, field)]
    intent = merge.merge(booted, changes.applied(found.metadata),
                         quota=qos.native(found.flavor.specs).quota)
    reasons += [str(refused) for refused in intent.refused
                if refused.key in changes.put]
    return changes, intent.base, reasons


def astray(found: dep.FoundServer, flavor: dep.FoundFlavor,
           layout: usage.HostState | None) -> list[str]:
    """What a server is not, and by its flavor as it is now is meant to be.

    :param layout: its host, where that is known
    """
    meant = dep.Flavor(*_facts(flavor), dep.native(flavor.specs),
                       template_mod.decode(flavor.specs))
    changes, wish, reasons = _meant(found, meant)
    told = dep.words(changes.put, changes.remove)
    reasons = [*_other_flavor(found, meant), *reasons, *(
        [f'its metadata is to be changed: {told}'] if told else [])]
    if layout is not None and found.cells:
        reasons += wish_mod.unmet(wish, found.cells, layout,
                                  meant.guest.emulator_isolated)
    return reasons


def _is_as_its_flavor(found: dep.FoundServer) -> bool:
    """Whether it has the cells that its flavor alone makes."""
    cells = found.guest.cells
    return [cell.dedicated for cell in cells] == [
        pins.keys() for _node, pins in found.cells]


def _resident(found: dep.FoundServer,
              wish: template_mod.Template) -> rearrange.Resident:
    return rearrange.Resident(
        found.id, found.guest, wish,
        {vcpu: pcpu for _node, pins in found.cells
         for vcpu, pcpu in pins.items()},
        [node for node, _pins in found.cells])
