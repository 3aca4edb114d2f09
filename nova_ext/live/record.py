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

"""What is recorded of a live change, for people and programs.

An instance action (``openstack server event list|show``), one log line with
everything in it as JSON, and, where Nova emits versioned notifications, one of
these.
"""

import time

from kongming.host import topology
import nova.context
from nova import exception
from nova import objects
from nova import rpc
from oslo_log import log as logging
from oslo_serialization import jsonutils

LOG = logging.getLogger(__name__)
#: What 'openstack server event list' shows; servers.LIVE_CHANGE for clients.
ACTION = 'kongming_live_change'
EVENT = 'kongming_repin'
#: Of a notification.
EVICTION = 'kongming_eviction'


class ChangeFailed(exception.NovaException):
    msg_fmt = 'The change was not made: %(reason)s'


class Change:
    """One change of one server, from its start to its end.

    :ivar steps: what was done, in words
    :ivar moved_kib: memory that went to another node with it
    """

    def __init__(self, server, host, steps=()):
        # Each has a request of its own.
        self._context = nova.context.get_admin_context()
        self._server = server
        self._host = host
        self.steps = [str(step) for step in steps]
        self._began = time.monotonic()
        self.moved_kib = 0
        objects.InstanceAction.action_start(
            self._context, server.uuid, ACTION, want_result=False)
        objects.InstanceActionEvent.event_start(
            self._context, server.uuid, EVENT, want_result=False, host=host)

    def end(self, error=None):
        """Record how it ended.

        :param error: an exception that was raised, or None
        """
        facts = {
            'change': ACTION, 'server': self._server.uuid,
            'name': self._server.display_name, 'host': self._host,
            'request_id': self._context.request_id,
            'result': 'Error' if error else 'Success',
            'reason': str(error) if error else None,
            'steps': self.steps, 'moved_kib': self.moved_kib,
            'seconds': round(time.monotonic() - self._began, 3)}
        LOG.log(logging.WARNING if error else logging.INFO,
                'Live change: %s', jsonutils.dumps(facts, sort_keys=True),
                instance=self._server)
        objects.InstanceActionEvent.event_finish_with_failure(
            self._context, self._server.uuid, EVENT, exc_val=error,
            exc_tb=error and (error.__traceback__ or 'nothing was begun'),
            want_result=False)
        _notify(self._context, self._host, f'{ACTION}.'
                + ('error' if error else 'end'), 'LiveChangePayload', facts,
                bool(error))


def _notify(context, host, event, payload, facts, is_error):
    """As Nova's versioned notifications are (doc, notifications)."""
    notifier = rpc.get_versioned_notifier(f'nova-compute:{host}')
    emit = notifier.error if is_error else notifier.info
    emit(context, f'instance.{event}', {
        'nova_object.namespace': 'kongming',
        'nova_object.name': payload,
        'nova_object.version': '1.0',
        'nova_object.data': facts})


def refused(server, host, error):
    """A change that was not begun."""
    Change(server, host).end(error)


def evicted(server, host, pcpus, error=None):
    """A borrower that libvirt did not move was moved by the kernel.

    The owner of the pCPUs starts, as it must not fail for this.

    :param server: nova.objects.Instance that has borrowed
    :param error: why the kernel has not moved it either
    """
    facts = {
        'server': server.uuid, 'name': server.display_name, 'host': host,
        'pcpus': sorted(pcpus), 'result': 'Error' if error else 'Success',
        'reason': str(error) if error else None}
    LOG.error('pCPU %(pcpus)s: libvirt could not move the server that has '
              'borrowed it and its owner starts; %(outcome)s', {
                  'pcpus': topology.format_cpu_list(pcpus),
                  'outcome': f'nor could the kernel: {error}' if error
                  else 'the kernel has moved its threads'}, instance=server)
    _notify(nova.context.get_admin_context(), host,
            f'{EVICTION}.' + ('error' if error else 'end'),
            'EvictionPayload', facts, True)
