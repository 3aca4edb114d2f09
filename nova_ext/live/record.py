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

import collections
import collections.abc
import dataclasses
import hashlib
import threading
import time
import traceback

from kongming.host import topology
import nova.context
from nova import exception
from nova import objects
from nova import rpc
from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_serialization import jsonutils

from nova_ext import figures

LOG = logging.getLogger(__name__)
#: What 'openstack server event list' shows; servers.LIVE_CHANGE for clients.
ACTION = 'kongming_live_change'
EVENT = 'kongming_repin'
#: An event of the same action that has ended before it: why a profile
#: switched by its server's load, in words after a colon.
EVIDENCE = 'kongming_by_load'
#: What Nova stores of its name (nova/db/main/models.py, InstanceActionEvent).
_LONGEST = 255
#: Of a notification.
EVICTION = 'kongming_eviction'
STOP = 'kongming_live_changes_stopped'
#: What stands for a traceback where nothing was begun, and before the
#: fingerprint of what was desired (:mod:`nova_ext.live.history`).
NOT_BEGUN, DESIRED = 'nothing was begun', 'desired state'


class ChangeFailed(exception.NovaException):
    msg_fmt = 'The change was not made: %(reason)s'


class Change:
    """One change of one server, from its start to its end.

    :ivar steps: what was done, in words
    :ivar desired: fingerprint of what was desired; empty: not known
    :ivar moved_kib: memory that went to another node with it
    :param evidence: what of the server's load has led to it, in words
    """

    def __init__(self, server, host, steps=(), evidence=''):
        # Each has a request of its own.
        self._context = nova.context.get_admin_context()
        self._server = server
        self._host = host
        self.steps = [str(step) for step in steps]
        self._evidence = self._why = evidence
        self._began = time.monotonic()
        self.moved_kib = 0
        #: what was done of recording it; the rest can be done later
        self._recorded = 0
        self._is_evidence_begun = False
        self._facts = None
        self._times = 1
        self.desired = ''

    @classmethod
    def refused_before(cls, server, host, request_id, times):
        """One that another process has recorded.

        :param request_id: of its instance action
        """
        change = cls(server, host)
        change._context.request_id = request_id
        change._recorded, change._times = 2, times
        return change

    @property
    def is_begun(self):
        """Whether anything of it is recorded, so that its end has to be."""
        return self._recorded > 0

    def start(self):
        """Record that it begins, unless that has been done."""
        if self._recorded < 1:
            objects.InstanceAction.action_start(
                self._context, self._server.uuid, ACTION, want_result=False)
            self._recorded = 1
        if self._recorded < 2:
            if self._evidence:
                name = f'{EVIDENCE}: {self._evidence}'[:_LONGEST]
                if not self._is_evidence_begun:
                    objects.InstanceActionEvent.event_start(
                        self._context, self._server.uuid, name,
                        want_result=False, host=self._host)
                    self._is_evidence_begun = True
                objects.InstanceActionEvent.event_finish(
                    self._context, self._server.uuid, name,
                    want_result=False)
                self._evidence = ''
            objects.InstanceActionEvent.event_start(
                self._context, self._server.uuid, EVENT, want_result=False,
                host=self._host)
            self._recorded = 2

    def again(self, other):
        """It has failed once more.

        :param other: Change, of which nothing is recorded
        """
        self._times += 1
        self.steps, self._began = other.steps, other._began
        self._facts = None
        self._recorded = min(self._recorded, 2)

    def log(self, error=None):
        """Log how it ended, once.

        :param error: an exception that was raised, or None
        """
        if self._facts is not None:
            return
        self._facts = {
            'change': ACTION, 'server': self._server.uuid,
            'name': self._server.display_name, 'host': self._host,
            'request_id': self._context.request_id,
            'result': 'Error' if error else 'Success',
            'reason': str(error) if error else None,
            'steps': self.steps, 'by_load': self._why or None,
            'moved_kib': self.moved_kib,
            'seconds': round(time.monotonic() - self._began, 3),
            'times': self._times}
        LOG.log(logging.WARNING if error else logging.INFO,
                'Live change: %s', jsonutils.dumps(
                    self._facts, sort_keys=True), instance=self._server)
        figures.COUNTS.change_ended(self._facts['seconds'], bool(error),
                                    self.moved_kib)

    def end(self, error=None):
        """Record how it ended, and that it began.

        It can be repeated where Nova could not be told.

        :param error: an exception that was raised, or None
        """
        self.log(error)
        self.start()
        if error and self._times > 1:
            error = ChangeFailed(
                reason=f'{error.kwargs["reason"]} ({self._times} times)'
                ).with_traceback(error.__traceback__)
        if self._recorded < 3:
            objects.InstanceActionEvent.event_finish_with_failure(
                self._context, self._server.uuid, EVENT, exc_val=error,
                exc_tb=error and self._traceback(error),
                want_result=False)
            self._recorded = 3
        _notify(self._context, self._host, f'{ACTION}.'
                + ('error' if error else 'end'), 'LiveChangePayload',
                self._facts, bool(error))

    def _traceback(self, error):
        text = ''.join(traceback.format_tb(error.__traceback__)) or NOT_BEGUN
        return f'{text}\n{DESIRED} {self.desired}' if self.desired else text


def fingerprint(desired):
    """The same for equal templates, in any process.

    :param desired: kongming.template.template.Template
    """
    return hashlib.sha256(_canonical(desired).encode()).hexdigest()[:16]


def _canonical(value):
    if dataclasses.is_dataclass(value):
        return _canonical({field.name: getattr(value, field.name)
                           for field in dataclasses.fields(value)})
    if isinstance(value, collections.abc.Mapping):
        return '{%s}' % ','.join(sorted(
            f'{_canonical(key)}:{_canonical(found)}'
            for key, found in value.items()))
    if isinstance(value, (set, frozenset)):
        return '(%s)' % ','.join(sorted(map(_canonical, value)))
    if isinstance(value, (list, tuple)):
        return '[%s]' % ','.join(map(_canonical, value))
    return repr(value)


class Records:
    """What is to be recorded, in its order.

    While Nova can not be told it is kept, and recorded later.  What conductor
    answers with an error of its own goes behind the others.
    """

    def __init__(self):
        #: held by the one thread that records
        self._lock = threading.Lock()
        self._pending: collections.deque[
            tuple[Change, Exception | None]] = collections.deque()

    def __bool__(self):
        """Whether Nova is to be told of something still."""
        return bool(self._pending)

    def end(self, change, error=None):
        """Record how a change has ended, with the next :meth:`flush`.

        Nobody is asked here, so that locks may be held.

        :param change: Change
        """
        change.log(error)
        self._pending.append((change, error))

    def flush(self):
        """Record what is pending, as far as Nova can be told.

        Where a thread is at that already, it does it all.
        """
        while self._pending and self._lock.acquire(blocking=False):
            try:
                self._flush()
            except Exception as exc:
                LOG.warning('%(number)d live changes are recorded later: '
                            '%(reason)s', {'number': len(self._pending),
                                           'reason': exc})
                return
            finally:
                self._lock.release()

    def _flush(self):
        while self._pending:
            change, error = self._pending[0]
            try:
                change.end(error)
            except exception.NovaException:
                # Its server is gone, say; that is so later as well.
                LOG.warning('A live change is not recorded', exc_info=True)
            except messaging.RemoteError:
                # Conductor answers and can't; the next flush begins with
                # another one.
                self._pending.rotate(-1)
                raise
            self._pending.popleft()


def _notify(context, host, event, payload, facts, is_error):
    """As Nova's versioned notifications are (doc, notifications)."""
    notifier = rpc.get_versioned_notifier(f'nova-compute:{host}')
    emit = notifier.error if is_error else notifier.info
    emit(context, f'instance.{event}', {
        'nova_object.namespace': 'kongming',
        'nova_object.name': payload,
        'nova_object.version': '1.0',
        'nova_object.data': facts})


def stopped(host, reason):
    """A host changes no running server by itself any more."""
    _notify(nova.context.get_admin_context(), host, f'{STOP}.error',
            'StopPayload', {'host': host, 'reason': reason}, True)


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
