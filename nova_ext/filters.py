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

"""The scheduler filter: hosts on which the template fits."""

from kongming import exception as km_exc
from kongming.fit import demand
from kongming.fit import fit
from kongming.host import usage
from kongming.placement import flavor
from kongming.placement import inventory
from kongming.template import template
from nova.scheduler import filters
from nova.scheduler import utils
from oslo_log import log as logging

from nova_ext import translate

LOG = logging.getLogger(__name__)


class KongmingFilter(filters.BaseHostFilter, filters.CandidateFilterMixin):
    """Passes the hosts on which a server's template fits, now.

    To be placed before NUMATopologyFilter.  Where several allocation
    candidates are left for a host, those are dropped whose nodes don't go
    with the template.
    """

    RUN_ON_REBUILD = False

    def filter_all(self, filter_obj_list, spec_obj):
        # The flavor is read once a request, whatever the number of hosts.
        if (not template.has_template(spec_obj.flavor.extra_specs)
                or utils.request_is_rebuild(spec_obj)):
            return filter_obj_list
        request = Request(spec_obj)
        return [host for host in filter_obj_list
                if self._passes(host, request)]

    def host_passes(self, host_state, spec_obj):
        """The same for one host by itself."""
        return bool(list(self.filter_all([host_state], spec_obj)))

    def _passes(self, host_state, request):
        reason = request.problem or self._misfit(host_state, request)
        if reason:
            LOG.info('%(host)s: %(reason)s',
                     {'host': host_state.host, 'reason': reason},
                     instance_uuid=request.instance_uuid)
        return not reason

    def _misfit(self, host_state, request):
        """Why the server can't be on this host, or None."""
        if not host_state.numa_topology:
            return 'the host reports no NUMA topology'
        reason = translate.inconsistency(host_state.numa_topology)
        if reason:
            return reason
        host = translate.host_state(host_state.numa_topology)
        limits = usage.Limits(host_state.cpu_allocation_ratio,
                              host_state.ram_allocation_ratio)
        why: list[object] = ['Placement left no allocation candidate']

        def fits(candidate):
            missing = flavor.ungranted(request.claims, [
                candidate['allocations'][uuid]['resources']
                for suffix, providers in candidate['mappings'].items()
                if flavor.cell_of_group(suffix) is not None
                for uuid in providers]) if request.claims else None
            if missing:
                why.append(missing)
                return None
            result = fit.fit(
                allocated(host, candidate), request.demand, limits=limits,
                allowed=candidate_nodes(host_state, host, candidate))
            why.append(result)
            return result

        if self.filter_candidates(host_state, fits):
            return None
        return str(why[-1])


class Request:
    """What is the same for every host of one request."""

    def __init__(self, spec_obj):
        self.instance_uuid = spec_obj.instance_uuid
        self.demand = None
        self.problem = None
        self.claims = {}
        try:
            self.demand = demand.Demand(
                translate.guest_of(spec_obj.numa_topology),
                template.decode(spec_obj.flavor.extra_specs))
            self.problem = self.demand.problem
            self.claims = {cell.number: cell.claim
                           for cell in self.demand.cells if cell.claim}
        except km_exc.InvalidTemplate as exc:
            self.problem = f'flavor {spec_obj.flavor.name}: {exc}'


def allocated(host, candidate):
    """A host with the pCPUs free that a candidate has by their names.

    Placement holds back those that are owned.  What it gives is taken at
    most by the claim of a server that is about to leave it for what its own
    template names, and the one that is claimed next waits for that
    (:mod:`nova_ext.ownership.claim`).

    :param candidate: a dict whose ``allocations`` say what each provider
        gives
    """
    named = {pcpu for allocation in candidate['allocations'].values()
             for pcpu in inventory.named_pcpus(allocation['resources'])}
    if not named:
        return host
    return usage.HostState(
        node.holding(node.taken - named) if named & node.taken else node
        for node in host.nodes)


def candidate_nodes(host_state, host, candidate):
    """Cell -> its only node, as an allocation candidate has chosen.

    :param candidate: a dict whose ``mappings`` name the providers that each
        granular group was given
    """
    nodes = {inventory.provider_uuid(host_state.uuid, number): number
             for number in host.node_ids()}
    allowed = {}
    for suffix, providers in candidate['mappings'].items():
        cell = flavor.cell_of_group(suffix)
        if cell is not None:
            allowed[cell] = {nodes[p] for p in providers if p in nodes}
    return allowed or None
