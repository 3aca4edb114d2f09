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

"""How a command waits for a host, and what it asks for meanwhile."""

import threading
import time
import types
from unittest import mock

import fixtures
from kongming.compute import api
from kongming.compute import servers
from kongming import exception
from kongming.live import progress
from kongming.template import metadata
from openstack.compute.v2 import _proxy
from osc_lib import exceptions
import requests

from osc_plugin.server import running
from tests import base

FOUND = {'id': 'u', 'name': 'du-1', 'metadata': {}, 'flavor': {
    'extra_specs': {'kongming:node.0': '1'}}}
CHANGE = servers.LiveChange('req-1', 'now', 'Success', '')


class WriteTest(base.TestCase):
    """Metadata by the SDK, and a Nova that knows some of the keys."""

    def setUp(self):
        super().setUp()
        self.here = {'kongming:pin.0': '', 'kongming:pin.0.1': '',
                     'kongming:pin.0.2': '', 'kongming:qos': ''}
        self.asked = []
        self.status = None
        compute = _proxy.Proxy(session=mock.Mock())
        compute.request = self.answer
        self.server = running.Server(
            types.SimpleNamespace(compute=compute), FOUND)

    def answer(self, url, method, **kwargs):
        self.asked.append((method, url.rpartition('/')[2]))
        status = self.status or 200
        if method == 'DELETE' and self.here.pop(
                self.asked[-1][1], None) is None:
            status = 404
        answer = requests.Response()
        answer.status_code = status
        answer.headers['Content-Type'] = 'application/json'
        answer._content = b'{"metadata": {}}' if status == 200 else (
            b'{"itemNotFound": {"message": "not found", "code": 404}}')
        answer.request, answer.url = mock.Mock(), url
        return answer

    def remove(self, *keys):
        running.write(self.server, metadata.Changes({}, [*keys]))

    def test_in_order(self):
        """What is left of a map is a shorter one at each moment."""
        keys = sorted(self.here, reverse=True)
        self.remove(*keys)
        self.assertEqual([('DELETE', key) for key in keys], self.asked)

    def test_a_key_that_somebody_else_has_removed(self):
        del self.here['kongming:pin.0.2']
        self.remove('kongming:pin.0.2', 'kongming:pin.0.1')
        self.assertEqual({'kongming:pin.0', 'kongming:qos'},
                         self.here.keys())

    def test_the_server_is_gone(self):
        self.here.clear()
        self.status = 404
        exc = self.assertRaises(exceptions.CommandError, self.remove,
                                'kongming:qos')
        self.assertIn('Nova refused the metadata: not found', str(exc))


class WaitTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.now, self.pauses, self.answers, self.reported = 0.0, [], [], []
        for owner, name, value in (
                (time, 'sleep', self._sleep),
                (time, 'monotonic', lambda: self.now),
                (servers, 'going_on', lambda *_args: self.answers.pop(0))):
            self.useFixture(fixtures.MockPatchObject(owner, name, value))
        self.server = running.Server(None, FOUND)
        self.useFixture(fixtures.MockPatchObject(
            running.Server, 'see', lambda server, looked, itself, is_over:
            running.Seen(looked and is_over, None, ['req-1'], CHANGE,
                         server)))
        self.useFixture(fixtures.MockPatchObject(
            running.Server, 'unmet', lambda *_args: None))

    def _sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def wait(self, *answers, timeout=120):
        self.answers = list(answers)
        return running.Wait(self.server, (), False, timeout,
                            self.reported.append).run()

    def test_done_at_once(self):
        self.assertEqual(CHANGE, self.wait('').newest)
        self.assertEqual([], self.pauses)

    def test_what_goes_on_is_looked_at_soon_and_then_each_second(self):
        self.wait(*['a live change, 1 s'] * 6, '')
        self.assertEqual([0.1, 0.2, 0.4, 1.0, 1.0, 1.0], self.pauses)
        self.assertEqual(['du-1: a live change, 1 s\n'], self.reported)

    def test_each_pass_takes_longer_than_a_request(self):
        """The one that began after the first request has to have ended."""
        self.assertEqual(CHANGE, self.wait(
            *(progress.looks(*each) for each in (
                (7, 5), (7, 5), (8, 6), (9, 7)))).newest)
        self.assertEqual([0.1, 0.2, 0.4], self.pauses)
        self.assertEqual(1, len(self.reported))

    def test_nova_compute_is_restarted_meanwhile(self):
        self.wait(*(progress.looks(*each) for each in (
            (7, 5), (1, 0), (2, 0), (3, 1))))
        self.assertEqual([0.1, 0.2, 0.4], self.pauses)

    def test_time_is_up(self):
        error = self.assertRaises(exceptions.CommandError, self.wait,
                                  *['a live change, 1 s'] * 9, timeout=5)
        self.assertIn('was not changed within 5 s', str(error))
        self.assertLess(sum(self.pauses), 7)


class SeeTest(base.TestCase):

    def test_all_chains_at_once(self):
        """Each waits for the others to have begun."""
        every = threading.Barrier(3, timeout=20)

        def newest(*_args):
            every.wait()
            return ['req-1'], CHANGE

        def cells(*_args):
            every.wait()
            return [(1, {0: 13})]

        def get(*_args):
            every.wait()
            return {'server': FOUND}

        with mock.patch.multiple(
                servers, newest_change=newest, cells=cells), (
                    mock.patch.object(api, 'get', get)):
            seen = running.Server(None, FOUND).see(True, itself=True)
        self.assertEqual((True, [(1, {0: 13})], ['req-1'], CHANGE), seen[:4])
        self.assertEqual(FOUND, seen.server.found)


class FindTest(base.TestCase):

    UUID = 'b7a1c7e2-3f64-4a55-9f0d-0f4f6a0c2b11'

    def find(self, name, changes):
        found = {**FOUND, 'id': self.UUID}
        with mock.patch.multiple(servers, find=lambda *_args: found,
                                 live_change_ids=changes):
            server, ids = running.Server.find_with_changes(None, name)
        self.assertEqual(self.UUID, server.id)
        return ids

    def test_by_id(self):
        self.assertEqual([self.UUID], self.find(
            self.UUID, lambda _conn, uuid: [uuid]))

    def test_by_name(self):
        self.assertEqual([self.UUID], self.find(
            'du-1', lambda _conn, uuid: [uuid]))

    def test_the_id_of_another_one_is_its_name(self):
        """Of that one nothing may be known to this user."""
        other = 'c7a1c7e2-3f64-4a55-9f0d-0f4f6a0c2b11'

        def changes(_conn, uuid):
            if uuid == other:
                raise exception.NotFound('no server')
            return [uuid]

        self.assertEqual([self.UUID], self.find(other, changes))
