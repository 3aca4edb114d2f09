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

"""What is to be so before a domain starts, is saved or moves.

Called by the driver around Nova's own methods (``doc/source/contributor/
starts.rst`` has all of them).
"""

from kongming.template import template
import nova.conf
from nova import exception
from oslo_log import log as logging

from nova_ext.live import definition
from nova_ext.live import reclaim
from nova_ext.ownership import claim as claims
from nova_ext.ownership import claimed
from nova_ext.ownership import ownership
from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


class Lifecycle:
    """:param driver: nova_ext.driver.LibvirtDriver"""

    def __init__(self, driver):
        self._driver = driver

    def reclaim(self, topology, has_template):
        """Whoever borrows a pCPU leaves it before its owner runs on it.

        :raises nova_ext.live.reclaim.StillBorrowed: if the owner has a
            template and must not run yet
        """
        if has_template:
            reclaim.wait(self._driver._reconciler,
                         ownership.Ownership(topology).pcpus)
            return
        try:
            reclaim.force(self._driver._reconciler,
                          ownership.Ownership(topology).pcpus)
        except Exception:
            # A native server is about to start.
            LOG.exception('Borrowers could not be asked to leave')

    def before_saved(self, instance):
        """Have written down only what a server owns or floats over.

        Nova starts it by that later.  By then what it borrows may have an
        owner again.  Nor is anything lent until then that it starts on.

        :raises Exception: if that can't be had
        """
        self._driver._reconciler.own_only(instance)
        if instance.numa_topology is None:
            return
        self._driver._reconciler.reclaim(ownership.pcpus_of(instance))
        config = self._driver.numa_config(
            instance.numa_topology, instance.flavor, instance.image_meta)
        try:
            domain = self._driver._host.get_guest(instance)._domain
        except exception.InstanceNotFound:
            return  # Nova makes what it saves anew
        definition.correct(domain, config,
                           max(self._driver._host.get_available_cpus()) + 1)

    def before_started(self, context, instance):
        """Before a domain starts with what was written down of it.

        What it owns has not changed meanwhile: see
        :data:`nova_ext.live.states.CHANGEABLE`.
        """
        self.refresh(context, instance)
        if instance.numa_topology is not None:
            self.reclaim(instance.numa_topology, True)

    def bind_saved(self, instance):
        """What a suspend has saved is resumed where memory is to be."""
        if instance.numa_topology is None:
            return
        nodes = [cell.id for cell in ownership.Ownership(
            instance.numa_topology).current.cells]
        try:
            definition.bind_saved(
                self._driver._host.get_guest(instance)._domain, nodes)
        except exception.InstanceNotFound:
            pass  # Nova makes it anew
        except Exception:
            # It is resumed where it was started; the next pass moves it.
            LOG.warning('Its saved state names other nodes of its memory',
                        exc_info=True, instance=instance)

    def refresh(self, context, instance):
        """See :func:`nova_ext.ownership.claimed.refresh`."""
        if (not template.has_template(instance.flavor.extra_specs)
                or instance.host != self._driver._tracker.host):
            return
        try:
            claimed.refresh(context, instance)
        except Exception:
            # Most probably it is as nova-api has read it.
            LOG.warning('What it owns could not be read again',
                        exc_info=True, instance=instance)

    def about_to_run(self, context, instance):
        """Before a domain is defined for a server that is here."""
        if not template.has_template(instance.flavor.extra_specs):
            return
        self.refresh(context, instance)
        server = claimed.ClaimedServer(
            instance, self._driver._host.get_hostname(), instance.image_meta)
        if server.has_let_go:
            # Its boot was cut short while it waited for others to be repinned.
            # Nova would have it float over shared pCPUs.
            self.repin(context, server)
        if instance.numa_topology is not None:
            # Before anything of it is destroyed.
            self.reclaim(instance.numa_topology, True)
            # Nova starts it after a soft reboot without a look at power.
            self._driver.cpu_api.ensure(ownership.pcpus_of(instance))

    def arrives(self, instance):
        """:returns: whether a server has a template, which is counted"""
        if not template.has_template(instance.flavor.extra_specs):
            return False
        self._driver._reconciler.present.arrives(instance.uuid)
        # Its first live change is not to wait for that.
        privileged.prepare()
        return True

    def repin(self, context, server, allocations=None):
        """Have a server own what its template says.

        :param allocations: as Nova has them, by provider uuid; None where
            it has not said
        """
        try:
            claims.repin(self._driver._tracker, context, server,
                         self._driver.publisher.cache_claims)
        except exception.ComputeResourcesUnavailable as exc:
            if server.at_home:
                # It ran with them, and its disk is gone by now.
                LOG.warning('Rebuilt with the pins that it had: %s', exc,
                            instance=server.instance)
            elif CONF.kongming.on_failure == 'fail':
                raise
            else:
                LOG.warning('Running with the pins that Nova chose, as '
                            '[kongming] on_failure says: %s', exc,
                            instance=server.instance)
            claims.take_any(self._driver._tracker, server)
        finally:
            self._driver.publisher.claimed_here(server, allocations)
