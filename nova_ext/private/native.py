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

"""Nova's own driver, where the hook does not fit the installed Nova.

It imports nothing of the hook.  The only thing that it adds is a report that
running servers are not changed; where even that can't be made, it adds
nothing.
"""

from kongming.placement import inventory
from nova.virt.libvirt import driver
from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class LibvirtDriver(driver.LibvirtDriver):
    """``openstack kongming host list --long`` shows ``off`` for its host."""

    def get_available_resource(self, *args, **kwargs):
        found = super().get_available_resource(*args, **kwargs)
        try:
            found['stats'] = {**(found.get('stats') or {}),
                              'kongming_live': 'off'}
        except Exception:
            LOG.debug('Not reported', exc_info=True)
        return found

    def update_provider_tree(self, provider_tree, nodename, *args, **kwargs):
        super().update_provider_tree(provider_tree, nodename, *args, **kwargs)
        try:
            off = inventory.TRAIT_LIVE['off']
            provider_tree.add_traits(nodename, off)
            provider_tree.remove_traits(
                nodename, inventory.TRAIT_HOOK,
                *(set(inventory.TRAIT_LIVE.values()) - {off}),
                *inventory.TRAIT_POWER.values())
        except Exception:
            LOG.debug('Not reported', exc_info=True)
