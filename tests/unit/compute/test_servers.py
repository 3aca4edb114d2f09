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

"""What Nova's answers mean; that Nova gives them is a functional test."""

from unittest import mock

from kongming.compute import api
from kongming.compute import servers
from kongming.host import usage
from kongming.placement import reserved
from tests import base

NODE = usage.NodeState(0, {2, 3, 10, 11}, siblings=[{2, 10}, {3, 11}])


def cell(pins, vcpus, memory_mb=512):
    return {'cpu_pinning': {str(v): p for v, p in pins.items()},
            'vcpu_set': vcpus, 'memory_mb': memory_mb, 'host_node': 0}


class OwnedTest(base.TestCase):

    def test_dedicated_and_shared(self):
        self.assertEqual(
            reserved.Owned(frozenset({2, 3}), 2, 512, 2048),
            servers.owned(cell({0: 2, 1: 3}, [0, 1, 2, 3]), 2048, NODE,
                          False))

    def test_isolate_has_the_siblings_too(self):
        self.assertEqual(
            reserved.Owned(frozenset({2, 10}), 0, 512),
            servers.owned(cell({0: 2}, [0]), None, NODE, True))


class PoliciesTest(base.TestCase):

    def policies(self, specs=None, properties=None):
        return servers.policies({
            'flavor': {'extra_specs': specs or {}},
            'image': '' if properties is None else {
                'properties': properties}})

    def test_of_flavor_or_image(self):
        self.assertEqual((False, False), self.policies())
        self.assertEqual((True, False), self.policies(
            {'hw:cpu_thread_policy': 'isolate'}))
        self.assertEqual((False, True), self.policies(
            {}, {'hw_emulator_threads_policy': 'isolate'}))


class NewestChangeTest(base.TestCase):

    DETAILS = servers.LiveChange('req-2', 'later', 'Error', 'why')

    def newest(self, is_over, *actions):
        asked = []

        def live_change(_conn, _uuid, request_id):
            asked.append(request_id)
            return self.DETAILS

        with mock.patch.object(api, 'entries', lambda *_args, **_kwargs: [
                {'action': action, 'request_id': f'req-{number}',
                 'start_time': 'later', 'message': message}
                for number, (action, message) in reversed(list(enumerate(
                    actions, 1)))]), mock.patch.object(
                        servers, 'live_change', live_change):
            return (*servers.newest_change(None, 'u', is_over), asked)

    def test_none(self):
        self.assertEqual(([], None, []),
                         self.newest(True, ('create', None)))

    def test_over(self):
        """What has not failed has succeeded, and nobody is asked."""
        self.assertEqual(
            (['req-3', 'req-1'],
             servers.LiveChange('req-3', 'later', 'Success', ''), []),
            self.newest(True, (servers.LIVE_CHANGE, 'Error'),
                        ('reboot', None), (servers.LIVE_CHANGE, None)))

    def test_failed(self):
        self.assertEqual(
            (['req-2', 'req-1'], self.DETAILS, ['req-2']),
            self.newest(True, (servers.LIVE_CHANGE, None),
                        (servers.LIVE_CHANGE, 'Error')))

    def test_not_known_to_be_over(self):
        self.assertEqual((['req-1'], self.DETAILS, ['req-1']),
                         self.newest(False, (servers.LIVE_CHANGE, None)))
