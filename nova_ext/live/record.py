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

"""What is left behind of a live change, for people and programs.

An instance action (``openstack server event list|show``), one log line with
everything in it as JSON, and, where Nova is told to emit versioned
notifications, one of these.
"""

from nova import exception
import time

import nova.context
from nova import objects
from nova import rpc
from oslo_log import log as logging
from oslo_serialization import jsonutils

LOG = logging.getLogger(__name__)
#: What 'openstack server event list' shows; servers.LIVE_CHANGE for clients.
ACTION = 'kongming_live_change'
EVENT = 'kongming_repin'


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
        self._notify(facts)

    def _notify(self, facts):
        """As Nova's versioned notifications are (doc, notifications)."""
        notifier = rpc.get_versioned_notifier(f'nova-compute:{self._host}')
        emit = notifier.error if facts['reason'] else notifier.info
        emit(self._context, f'instance.{ACTION}.'
             + ('error' if facts['reason'] else 'end'), {
                 'nova_object.namespace': 'kongming',
                 'nova_object.name': 'LiveChangePayload',
                 'nova_object.version': '1.0',
                 'nova_object.data': facts})


def refused(server, host, error):
    """A change that was not begun."""
    Change(server, host).end(error)
