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

"""Diagnostics of a server: who asks for them has its host look at it.

What can be done within a second is done then.  What goes on, and what is
known of its load, is in ``hypervisor_os``, the only text that Nova has for an
admin there.
"""

from kongming.live import progress
from nova.compute import power_state
import nova.conf
from nova.objects import diagnostics
from nova.virt import configdrive
from oslo_log import log as logging

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
#: How long what is done is waited for, in seconds.
_PATIENCE = 0.9


class Diagnostics:
    """:param reconciler: nova_ext.live.reconciler.Reconciler"""

    def __init__(self, reconciler):
        self._reconciler = reconciler

    def is_blocked(self, instance):
        """Whether libvirt answers nothing about its domain now."""
        job = self._reconciler.jobs.of(instance.uuid)
        return job is not None and job.blocks

    def of(self, instance, native):
        """
        :param instance: nova.objects.Instance
        :param native: Nova's own, called with it
        :returns: nova.objects.diagnostics.Diagnostics
        """
        looked = self._look(instance)
        try:
            # Nova's own takes its time beside the pass.
            found = (_known(instance) if self.is_blocked(instance)
                     else native(instance))
        finally:
            going_on, load = self._looked(instance, looked)
        if load is not None:
            found.hypervisor_os = progress.add_load(
                found.hypervisor_os, load)
        if going_on:
            found.hypervisor_os = progress.add(
                found.hypervisor_os, going_on)
        return found

    def _look(self, instance):
        """See :meth:`nova_ext.live.trigger.Trigger.look`; None: no pass."""
        try:
            if self._reconciler.looks_after(instance):
                return self._reconciler.look(instance.uuid, _PATIENCE)
        except Exception:
            LOG.exception('The server could not be looked at now',
                          instance=instance)
        return None

    def _looked(self, instance, wait):
        """
        :param wait: what :meth:`_look` has returned
        :returns: what goes on, in words, and what is known of its load, or
            None
        """
        if wait is None:
            return '', None
        try:
            return wait(), self._reconciler.load.advice(instance.uuid)
        except Exception:
            LOG.exception('What goes on of the server is not known',
                          instance=instance)
            return '', None


def _known(instance):
    """Diagnostics of a server whose domain libvirt tells nothing about."""
    return diagnostics.Diagnostics(
        state=power_state.STATE_MAP[instance.power_state], driver='libvirt',
        hypervisor=CONF.libvirt.virt_type, hypervisor_os='linux',
        config_drive=configdrive.required_by(instance))
