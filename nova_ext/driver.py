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

"""The compute hook: Nova's libvirt driver, and a few lines before it.

A server without a ``kongming:`` key meets nothing here but ``super()``.
"""

from kongming import conf as km_conf
from kongming import inventory
from kongming import template
import nova.conf
import nova.context
from nova import objects
from nova.virt.libvirt import driver
from oslo_log import log as logging

from nova_ext import claim
from nova_ext import publish
from nova_ext import translate

CONF = nova.conf.CONF
km_conf.register_opts(CONF)
LOG = logging.getLogger(__name__)


class LibvirtDriver(driver.LibvirtDriver):
    """``compute_driver = kongming.LibvirtDriver``."""

    @property
    def _tracker(self):
        # The resource tracker belongs to the compute manager, which the
        # driver knows by its VirtAPI only (nova/compute/manager.py,
        # ComputeVirtAPI).
        return self.virtapi._compute.rt

    def spawn(self, context, instance, image_meta, injected_files,
              admin_password, allocations, *args, **kwargs):
        if template.has_template(instance.flavor.extra_specs):
            claim.settle(self._tracker, context, instance, allocations)
        return super().spawn(context, instance, image_meta, injected_files,
                             admin_password, allocations, *args, **kwargs)

    def update_provider_tree(self, provider_tree, nodename,
                             allocations=None):
        super().update_provider_tree(provider_tree, nodename,
                                     allocations=allocations)
        if not CONF.kongming.publish_inventory:
            return
        try:
            self._publish(provider_tree, nodename)
        except Exception:
            # One of the two edges that guard Nova: whatever goes wrong with
            # our children, the compute node's own provider is reported.
            LOG.exception('The NUMA nodes of %s could not be published',
                          nodename)

    def _publish(self, provider_tree, nodename):
        compute = self._tracker.compute_nodes.get(nodename)
        if compute is None or not compute.numa_topology:
            LOG.debug('%s reports no NUMA topology, so none is published',
                      nodename)
            return
        topology = objects.NUMATopology.obj_from_db_obj(compute.numa_topology)
        host = translate.host_state(topology)
        context = nova.context.get_admin_context()
        held = publish.reserved(
            context, self._tracker, self.virtapi.reportclient, provider_tree,
            nodename, topology, host)
        ratios = self._get_allocation_ratios(
            provider_tree.data(nodename).inventory)
        publish.update(
            provider_tree, nodename, host,
            inventory.Ratios(ratios['VCPU'], ratios['MEMORY_MB']), held,
            lambda uuid: self._allocated(context, uuid))

    def _allocated(self, context, uuid):
        """Resource classes that somebody has on a provider."""
        client = self.virtapi.reportclient
        found = client.get_allocations_for_resource_provider(context, uuid)
        return {name for consumer in found.allocations.values()
                for name in consumer['resources']}
