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

"""KongmingWeigher: a template server goes where it breaks up the least.

``weight_classes = nova.scheduler.weights.all_weighers`` and
``nova_ext.weights.KongmingWeigher`` in ``[filter_scheduler]``.
"""

from kongming import conf as km_conf
from kongming.fit import fit
from kongming.fit import fragmentation
from kongming.host import usage
from kongming.template import template
import nova.conf
from nova.scheduler import utils
from nova.scheduler import weights

from nova_ext import filters
from nova_ext import stats

CONF = nova.conf.CONF
km_conf.register_opts(CONF)


class KongmingWeigher(weights.BaseHostWeigher):
    """Servers without a template weigh the same everywhere."""

    def weight_multiplier(self, host_state):
        return utils.get_weight_multiplier(
            host_state, 'kongming_weight_multiplier',
            CONF.kongming.weight_multiplier)

    def weigh_objects(self, weighed_obj_list, weight_properties):
        # The flavor is read once a request, whatever the number of hosts.
        if not template.has_template(
                weight_properties.flavor.extra_specs):
            return [0.0] * len(weighed_obj_list)
        # Not kept on self: requests are weighed at the same time.
        request = filters.Request(weight_properties)
        found = [self._weight(weighed.obj, request)
                 for weighed in weighed_obj_list]
        # A host where what it was given is on its way out comes last.
        last = min((one for one in found if one is not None), default=0.0) - 1
        return [last if one is None else one for one in found]

    def _weigh_object(self, host_state, weight_properties):
        """The same for one host by itself."""
        return self._weight(
            host_state, filters.Request(weight_properties)) or 0.0

    @staticmethod
    def _weight(host_state, request):
        """None where it does not fit yet (:func:`.filters.without_owners`)."""
        if (request.problem or request.demand is None
                or not host_state.numa_topology):
            return 0.0
        reported = stats.reported(host_state.stats)
        host = filters.state_of(host_state, reported)
        result = fit.fit(host, request.demand, limits=usage.Limits(
            host_state.cpu_allocation_ratio,
            host_state.ram_allocation_ratio))
        if not isinstance(result, fit.Assignment):
            return None
        return -fragmentation.of(host, result)
