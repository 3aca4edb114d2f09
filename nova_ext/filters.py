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

import collections
import typing

from kongming import exception as km_exc
from kongming.fit import capacity
from kongming.fit import demand
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.host import usage
from kongming.placement import claim
from kongming.placement import naming
from kongming.template import template
from nova import objects
from nova.scheduler import filters
from nova.scheduler import utils
from nova.virt import hardware
from oslo_log import log as logging

from nova_ext.private import check
from nova_ext.private import installed
from nova_ext import stats
from nova_ext import translate

LOG = logging.getLogger(__name__)


class KongmingFilter(filters.BaseHostFilter):
    """Passes the hosts on which a server's template fits, now.

    To be placed before NUMATopologyFilter.  Of a host that passes, each
    allocation candidate is given what the template binds to the host's NUMA
    nodes, so that Nova claims it with the rest, in one request.
    """

    RUN_ON_REBUILD = False

    def __init__(self):
        super().__init__()
        found = installed.differences(check.SCHEDULER)
        if found:
            LOG.error('Servers with a template may be refused or misplaced: '
                      'the installed Nova has parts that look different: %s',
                      '; '.join(map(str, found)))

    def filter_all(self, filter_obj_list, spec_obj):
        # The flavor is read once a request, whatever the number of hosts.
        if (not template.has_template(spec_obj.flavor.extra_specs)
                or utils.request_is_rebuild(spec_obj)):
            return filter_obj_list
        request = Request(spec_obj)
        passed = []
        reasons: collections.Counter[str] = collections.Counter()
        examples: dict[str, str] = {}
        for host in filter_obj_list:
            reason = request.problem or self._misfit(host, request)
            # A refusal is false.
            if reason is not None:
                LOG.debug('%(host)s: %(reason)s',
                          {'host': host.host, 'reason': reason},
                          instance_uuid=request.instance_uuid)
                kind = _kind(reason)
                reasons[kind] += 1
                examples.setdefault(kind, host.host if reason == kind
                                    else f'{host.host}: {reason}')
            else:
                passed.append(host)
        LOG.info('The template fits on %(passed)d of %(all)d hosts%(why)s',
                 {'passed': len(passed),
                  'all': len(passed) + sum(reasons.values()),
                  'why': ''.join(f'; {count}: {kind} ({examples[kind]})'
                                 for kind, count in reasons.most_common())},
                 instance_uuid=request.instance_uuid)
        return passed

    def host_passes(self, host_state, spec_obj):
        """The same for one host by itself."""
        return bool(self.filter_all([host_state], spec_obj))

    def _misfit(self, host_state, request):
        """Why the server can't be on this host, or None.

        :returns: a string or kongming.fit.fit.Refusal
        """
        reported = stats.reported(host_state.stats)
        if stats.BOOT not in reported.obeys:
            return 'its nova-compute obeys no templates'
        if not host_state.numa_topology:
            return 'the host reports no NUMA topology'
        reason = translate.inconsistency(host_state.numa_topology)
        if reason:
            return reason
        if not host_state.allocation_candidates:
            return 'Placement left no allocation candidate'
        host = state_of(host_state, reported)
        limits = usage.Limits(host_state.cpu_allocation_ratio,
                              host_state.ram_allocation_ratio)
        result = fit.fit(host, request.demand, limits=limits)
        if not result and _may_be_provisional(host_state, reported, request):
            found = fit.fit(without_owners(host, request.demand),
                            request.demand, limits=limits)
            result = found or result
        if not isinstance(result, fit.Assignment):
            return result
        if not _restrict_to_bootable(host_state, request):
            return fit.Refusal((fit.Reason('nova', nova_fitter.objection(
                host, request.demand, limits) or (
                    "Nova's own fitter refuses its cells here, or takes one "
                    'for another')),))
        _claim(host_state, reported, host, request.demand, result)
        setattr(host_state, _LAST, _Last(host_state.num_instances, host,
                                         request.demand, result))
        return None


class Request:
    """What is the same for every host of one request."""

    def __init__(self, spec_obj):
        self.instance_uuid = spec_obj.instance_uuid
        self.spec = spec_obj
        self.demand = None
        self.problem = None
        try:
            self.demand = demand.Demand(
                translate.guest_of(spec_obj.numa_topology),
                template.decode(spec_obj.flavor.extra_specs))
            self.problem = self.demand.problem
        except km_exc.InvalidTemplate as exc:
            self.problem = f'flavor {spec_obj.flavor.name}: {exc}'


def _restrict_to_bootable(host_state, request):
    """Leave the candidates with which Nova's own claim succeeds.

    Where cells differ, its fitter may say a node and give pCPUs of another
    one (:mod:`kongming.fit.nova_fitter`): NUMATopologyFilter takes that for
    an answer, and the scheduler or the claim on the host fails with an error.

    :returns: whether there are any
    """
    if nova_fitter.are_equal(request.demand):
        return True
    spec = request.spec
    limits = objects.NUMATopologyLimits(
        cpu_allocation_ratio=host_state.cpu_allocation_ratio,
        ram_allocation_ratio=host_state.ram_allocation_ratio)
    if spec.obj_attr_is_set('network_metadata') and spec.network_metadata:
        limits.network_metadata = spec.network_metadata
    devices = spec.pci_requests.requests if spec.pci_requests else []
    nodes = {cell.id: cell.pcpuset for cell in host_state.numa_topology.cells}

    def boots(candidate):
        # It changes what it is given.
        found = hardware.numa_fit_instance_to_host(
            host_state.numa_topology, spec.numa_topology.obj_clone(),
            limits=limits, pci_requests=devices,
            pci_stats=host_state.pci_stats,
            provider_mapping=candidate['mappings'])
        return found is not None and all(
            nodes[cell.id].issuperset((cell.cpu_pinning or {}).values())
            for cell in found.cells)

    candidates = host_state.allocation_candidates
    if devices:
        host_state.allocation_candidates = [*filter(boots, candidates)]
    elif not boots(candidates[0]):
        # Of devices alone a candidate says more than of the cells.
        host_state.allocation_candidates = []
    return bool(host_state.allocation_candidates)


#: Attribute of a HostState, which is made for one request.
_LAST = '_kongming_last'


class _Last(typing.NamedTuple):
    """What was written into a host's candidates last.

    :ivar num_instances: of the host then
    :ivar state: what the host was looked at as, a
        kongming.host.usage.HostState
    """

    num_instances: int
    state: usage.HostState
    demand: demand.Demand
    assignment: fit.Assignment


def state_of(host_state, reported):
    """A host, with the servers that this request has put there before.

    Nova counts them where its own fitter would have put them
    (nova/scheduler/host_manager.py, consume_from_request).

    :param reported: nova_ext.stats.Reported
    :returns: kongming.host.usage.HostState
    """
    last = getattr(host_state, _LAST, None)
    if last is None:
        return translate.host_state(
            host_state.numa_topology, never=reported.never, l3=reported.l3,
            caches=reported.caches)
    if host_state.num_instances == last.num_instances:
        return last.state
    return capacity.after(last.state, last.demand, last.assignment)


def _kind(reason):
    """What hosts are counted by; a text that names no host's own things."""
    if isinstance(reason, fit.Refusal):
        return ', '.join(dict.fromkeys(
            _WORDS.get(each.kind, each.kind) for each in reason.reasons))
    return reason


#: By :class:`kongming.fit.packing.Unfit`'s kinds.
_WORDS = {
    'pcpu': 'a pCPU that the template names is not to be had',
    'core': 'too few free cores',
    'count': 'too few free pCPUs',
    'memory': 'too little free memory',
    'pages': 'too few free pages',
    'shared': 'too few shared pCPUs',
    'node': 'a node that the template names is not there',
    'cells': 'the cells need other nodes',
    'cache': 'too little of the caches is free',
    'never': 'a pCPU that is never given to a template',
    'nova': "Nova's own fitter would not boot cells that differ",
}


def _may_be_provisional(host_state, reported, request):
    """Whether a pCPU that is taken may be about to be left again.

    Nova claims pCPUs of its own choice for a server that boots, which is
    given those of its template a moment later.  Placement knows better: it
    grants a pCPU by its name to one of them only, and none that has an owner
    (the one that is claimed next waits for that,
    :mod:`nova_ext.ownership.claim`).
    """
    return (request.demand.names_pcpus
            and reported.published >= {
                cell.id for cell in host_state.numa_topology.cells}
            and int(host_state.stats.get('num_vm_building') or 0) > 0)


def without_owners(host, asked):
    """A host with the pCPUs free that a template names."""
    try:
        exact = demand.resolve(host, asked).exact
    except demand.Unfit:
        return host
    named = {pcpu for pins in exact for pcpu in pins.values()}
    return usage.HostState(
        node.holding(node.taken - named) if named & node.taken else node
        for node in host.nodes)


def _claim(host_state, reported, host, asked, assignment):
    """Have each candidate claim what the server will use of the nodes.

    Only where there is something to be claimed of; else the claim on the
    host decides, and is reported of afterwards.
    """
    amounts = claim.claim(host, asked, assignment)
    ours = {naming.provider_uuid(host_state.uuid, cell.id)
            for cell in host_state.numa_topology.cells}
    claimed = {}
    if reported.published >= amounts.keys():
        claimed = {naming.provider_uuid(host_state.uuid, node): {
            'resources': resources} for node, resources in amounts.items()}
    # Others hold these candidates, too; nor is trusted what was written for
    # a server before this one of the same request.
    host_state.allocation_candidates = [
        {**candidate, 'allocations': {
            **{uuid: allocation for uuid, allocation
               in candidate['allocations'].items() if uuid not in ours},
            **claimed}}
        for candidate in host_state.allocation_candidates]
