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

"""Steps from the actual state of a cluster to its desired state.

Everything is checked before there is a first step, with all servers on their
hosts together.  Steps are in such an order that no pCPU is assigned twice:
what goes gives up its pCPUs first, then servers that stay change hands, then
new ones come, those that name their pCPUs before those that leave them open.
"""

from __future__ import annotations

from kongming.deployment import deployment as dep
from kongming.deployment import drift as drift_mod
from kongming.deployment import placing
from kongming.deployment import projection
from kongming import exception
from kongming.live import drift
from kongming.live import rearrange
from kongming.placement import flavor as flavor_mod
from kongming.template import template as template_mod

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
        self._warnings: list[str] = [*cloud.doubts]
        self._projections = {name: projection.ProjectedHost(host)
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
            if gone.host in self._projections:
                self._projections[gone.host].leave(gone.id)
        steps += self._flavors()
        for host in sorted(self._changing):
            steps.append(self._change(host))
        steps += self._waits
        created, refused = placing.Placing(
            self._wanted.flavors, self._projections,
            self._cloud.left_out).place(self._new)
        for name, reason in sorted(refused.items()):
            self._problem(f'servers.{name}.template',
                          self._wanted.servers[name].template, reason)
        steps += created
        self._compare_zones(created)
        if self._problems:
            return dep.Plan((), tuple(self._problems), tuple(self._warnings))
        return dep.Plan(tuple(steps), (), tuple(self._warnings))

    def _problem(self, where: str, value: str, reason: str) -> None:
        self._problems.append(Problem(where, value, 0, reason))

    # What the document names.

    def _check(self, server: dep.Server) -> None:
        where = f'servers.{server.name}'
        known = ', '.join(sorted(self._projections)) or 'none'
        if server.host is not None and server.host not in self._projections:
            self._problem(f'{where}.host', server.host,
                          f'no host of that name obeys templates; those that '
                          f'do are {known}')
        elif not self._projections:
            self._problem(where, '...', 'no host obeys templates yet; set '
                          'compute_driver = '
                          'kongming.LibvirtDriver in its '
                          'nova.conf and restart nova-compute')
        if self._cloud.images.get(server.image) is None:
            self._problem(f'{where}.image', server.image,
                          "there is no such image, or several; 'openstack "
                          "image list' shows what there is")
        for network in (() if isinstance(server.networks, str)
                        else server.networks):
            if self._cloud.networks.get(network) is None:
                self._problem(f'{where}.networks', network,
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
                self._problem(f'servers.{name}', ' '.join(
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
        stays = [*drift_mod.elsewhere(server, found, self._cloud.images),
                 *(('', '...', reason)
                   for reason in drift_mod.other_flavor(found, flavor))]
        changes, desired, reasons = drift_mod.meant_by(found, flavor)
        if found.metadata.get(dep.LIKE) != server.flavor:
            changes.put[dep.LIKE] = server.flavor
        stays += [('', '...', reason) for reason in reasons]
        for what, value, reason in stays:
            self._problem(f'{where}{what}', value, f'{reason}; {_AGAIN}')
        if stays:
            return
        if found.status == 'BUILD':
            self._waits.append(dep.AwaitServer(found.id, found.name,
                                               found.host))
            return
        projected = self._projections.get(found.host or '')
        if projected is None:
            self._problem(where, found.host or found.status,
                          'it is on no host that obeys templates; move it to '
                          f'one, or {_AGAIN}')
            return
        if (changes.put or changes.remove or drift.unmet(
                desired, found.cells, projected.layout,
                flavor.guest.emulator_isolated)):
            self._changing.setdefault(found.host or '', []).append(
                (dep.Change(found.id, found.name, changes), found, desired))

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
                self._problem(wanted.place, key,
                              'there is a flavor of that name which is not of '
                              'this deployment; rename the one or the other')
            elif drift_mod.facts(found) != (wanted.vcpus, wanted.ram_mib,
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

    # Time zones.

    def _compare_zones(self, created: list[dep.CreateServer]) -> None:
        """Warn where servers' windows begin by different databases."""
        on = {found.name: found.host for found in self._cloud.servers}
        on.update((step.name, step.host) for step in created)
        hosts = {on.get(name) for name, server in self._wanted.servers.items()
                 if self._wanted.flavors[server.flavor].desired.goes_by_zones}
        versions = {name: self._cloud.hosts[name].zones or 'not said'
                    for name in hosts
                    if name is not None and name in self._cloud.hosts}
        mine = self._cloud.zones
        if len({*versions.values()} | {mine or version for version
                                       in versions.values()}) < 2:
            return
        self._warnings.append(
            'hosts decide by different databases of time zones, so windows '
            'may begin and end at different times ('
            + ', '.join(f'{name}: {version}'
                        for name, version in sorted(versions.items()))
            + (f', here: {mine}' if mine else '')
            + "); 'pip install --upgrade tzdata' and a restart of "
              'nova-compute make them the same')

    # Running servers.

    def _change(self, host: str) -> dep.ChangeServers:
        projected = self._projections[host]
        changing = self._changing[host]
        # What an image has made of its cells is the host's to judge.
        residents = [_resident(found, desired)
                     for _change, found, desired in changing
                     if drift_mod.is_as_its_flavor(found)]
        found_plan = rearrange.plan(projected.state(), residents)
        for _change, found, _desired in changing:
            if found.id in found_plan.refused:
                self._problem(f'servers.{found.name}', '...',
                              f'{host}: {found_plan.refused[found.id]}; name '
                              f'other pCPUs, or free capacity')
        for _change, found, _desired in changing:
            steps = [step for step in found_plan.steps
                     if step.server == found.id]
            if steps:
                projected.moved(found, steps)
        return dep.ChangeServers(
            host, tuple(change for change, _found, _desired in changing),
            found_plan.steps)


_GONE = 'the document has it no longer'


def _stays(what: str, name: str) -> str:
    return f'{what} {name} stays, though {_GONE}; --prune deletes it'


#: What there is to do where a server can't follow.
_AGAIN = 'delete the server, and apply makes it anew'


def _resident(found: dep.FoundServer,
              desired: template_mod.Template) -> rearrange.Resident:
    return rearrange.Resident(
        found.id, found.guest, desired,
        {vcpu: pcpu for _node, pins in found.cells
         for vcpu, pcpu in pins.items()},
        [node for node, _pins in found.cells])
