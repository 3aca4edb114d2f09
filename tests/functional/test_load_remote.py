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

"""Profiles by where the memory of servers is.

Its pages are a table's; tests.nested.test_memory has real ones.
"""

import threading

from tests.functional import test_live
from tests.functional import test_load
from tests.functional import test_profile


class RemoteTest(test_load.LoadBase, test_live.MemoryBase):
    """Memory that is preferred on its node may be on another one."""

    AWAY = dict.fromkeys(range(2), frozenset({10, 13}))
    AT_HOME = {0: test_profile.only(13), 1: test_profile.only(10)}

    def live(self, seconds, step=5.0):
        def read():
            self.load.read()
            for thread in threading.enumerate():
                if thread.name == 'kongming-load-memory':
                    thread.join()

        self.guests.live(seconds, read, step)

    def test_memory_on_another_node(self):
        server = self.boot(self.template('0:13 1:10', **{
            'memory.0': 'preferred',
            'profile.away.when': 'remote>10% for 2m hold 5m',
            'profile.away.pin.0': '0-1~v0-1'}))
        self.ring(server)
        # As long as its process is not seen nothing is known.
        self.live(600)
        self.assertIsNone(self.known(server)['remote'])
        self.guests.pids[server['id']] = self.kernel._pid(self.domain(server))
        pages = self.process(server).mappings[0].pages
        self.live(600)
        self.assertEqual((0.0, None), tuple(
            self.known(server)[key] for key in ('remote', 'profile')))
        pages[:4] = [0] * 4
        # A figure is of one moment; it has to be so for a while.
        self.live(65)
        self.assertEqual(50.0, self.known(server)['remote'])
        self.assertRuns(server, self.AT_HOME)
        self.live(120)
        self.assertRuns(server, self.AWAY)
        self.ring(server)
        self.assertEqual(
            [('kongming_repin', 'Success'),
             ('kongming_by_load: profile away: remote 50.0%, above 10% for '
              '2m', 'Success')], self.events(server))
        # What is preferred only is nobody's to bring home.
        self.assertEqual([{0, 1}], self.process(server).where())
        pages[:4] = [1] * 4
        self.live(65)
        self.assertRuns(server, self.AWAY)
        self.live(300)
        self.assertRuns(server, self.AT_HOME)
        self.ring(server)
        self.assertRegex(self.events(server)[1][0],
                         r'^kongming_by_load: profile -: remote 0\.0%, below '
                         r'5% for \d+m$')

    def test_it_can_not_be_read_any_more(self):
        server = self.boot(self.template('0:13 1:10', **{
            'memory.0': 'preferred',
            'profile.away.when': 'remote>10% for 5s hold 0s',
            'profile.away.pin.0': '0-1~v0-1'}))
        self.ring(server)
        self.guests.pids[server['id']] = self.kernel._pid(self.domain(server))
        self.process(server).mappings[0].pages[:] = [0] * 8
        self.live(125)
        self.assertRuns(server, self.AWAY)
        self.guests.pids.clear()
        self.live(700)
        self.assertRuns(server, self.AT_HOME)
        # No pass was made between the two, and each has what led to it.
        self.ring(server)
        self.assertEqual(
            ['kongming_by_load: profile -: remote is not known',
             'kongming_by_load: profile away: remote 100.0%, above 10%'],
            [self.events(server, action)[1][0]
             for action in self.changes(server)])
