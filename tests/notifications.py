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

"""Notifications of nova-compute's hook, as they are on the bus."""

SERVER = '5e7d0b1c-0000-4000-8000-000000000001'


def live_change(result='Success', reason=None, moved_kib=2048):
    return _notification(
        'kongming_live_change.' + ('end' if result == 'Success' else 'error'),
        'LiveChangePayload', {
            'change': 'kongming_live_change', 'server': SERVER,
            'name': 'web-1', 'host': 'compute1', 'request_id': 'req-1',
            'result': result, 'reason': reason,
            'steps': ['vCPU 0 to pCPU 9'], 'by_load': None,
            'moved_kib': moved_kib, 'seconds': 1.5, 'times': 1})


def eviction():
    return _notification('kongming_eviction.end', 'EvictionPayload', {
        'server': SERVER, 'name': 'web-1', 'host': 'compute1',
        'pcpus': [4, 5], 'result': 'Success', 'reason': None})


def stop():
    return _notification('kongming_live_changes_stopped.error',
                         'StopPayload', {'host': 'compute1',
                                         'reason': 'five failed'})


def _notification(event, payload, facts):
    return {
        'publisher_id': 'nova-compute:compute1',
        'event_type': f'instance.{event}', 'payload': {
            'nova_object.namespace': 'kongming',
            'nova_object.name': payload, 'nova_object.version': '1.0',
            'nova_object.data': facts},
        'metadata': {'message_id': 'e9b1', 'timestamp': '2026-11-27 20:00:00'},
        'ctxt': {'user_id': None, 'project_id': None,
                 'request_id': 'req-9'}}
