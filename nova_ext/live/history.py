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

"""What instance actions tell of changes before nova-compute started.

Back-off and rate limits are remembered by the process.  After a restart they
are worked out again, where Nova's records allow: a template that was refused
is known by its fingerprint, which is the end of the traceback that its record
has, and how often, by the count in its details; a change by its time; one that
came of what was measured by its evidence.
"""

import dataclasses
import re

from nova import objects
from oslo_utils import timeutils

from nova_ext.live import record

#: Before what is looked at, in seconds: the longest pause.
_HOUR = 3600.0
#: What is read of a server's actions, of whatever kind, the newest.
_MOST = 200
_TIMES = re.compile(r'\((\d+) times\)\s*$')
_FINGERPRINT = re.compile(rf'{record.DESIRED} ([0-9a-f]{{16}})\s*$')


@dataclasses.dataclass(frozen=True)
class Refusal:
    """The newest change of a server, which was refused.

    :ivar fingerprint: of what was desired; empty: not known
    :ivar begun: whether it was rolled back, rather than not begun
    :ivar times: how often, so far
    :ivar seconds: since it was refused last
    :ivar request_id: of its instance action
    """

    fingerprint: str
    begun: bool
    times: int
    seconds: float
    request_id: str


def refusal(context, uuid):
    """The newest change of a server, if it was refused within the hour.

    :returns: Refusal, or None
    """
    for action in _actions(context, uuid):
        if action.message != 'Error':
            return None
        for event in objects.InstanceActionEventList.get_by_action(
                context, action.id):
            if event.event == record.EVENT and event.finish_time:
                times = _TIMES.search(event.details or '')
                desired = _FINGERPRINT.search(event.traceback or '')
                return Refusal(
                    desired[1] if desired else '',
                    not (event.traceback or '').startswith(
                        record.NOT_BEGUN),
                    int(times[1]) if times else 1,
                    _since(event.finish_time), action.request_id)
        return None
    return None


def changes(context, uuid):
    """For how long the changes within the hour have been, newest first.

    :returns: [seconds]
    """
    return [_since(action.start_time) for action in _actions(context, uuid)]


def by_load(context, uuid):
    """The changes within the hour that came of what was measured.

    :returns: [(seconds since, evidence in words, host)]
    """
    prefix = f'{record.EVIDENCE}: '
    return [(_since(action.start_time), event.event.removeprefix(prefix),
             event.host)
            for action in _actions(context, uuid)
            for event in objects.InstanceActionEventList.get_by_action(
                context, action.id) if event.event.startswith(prefix)]


def _actions(context, uuid):
    """Newest first.

    Nova's own filter of the time is not for nova-compute: a datetime among
    others arrives as text, which the database does not take
    (nova/db/main/api.py, _get_query_nova_resource_by_changes_time).
    """
    return [action for action in
            objects.InstanceActionList.get_by_instance_uuid(
                context, uuid, limit=_MOST)
            if action.action == record.ACTION
            and _since(action.updated_at or action.start_time) < _HOUR]


def _since(moment):
    return (timeutils.utcnow() - timeutils.normalize_time(
        moment)).total_seconds()
