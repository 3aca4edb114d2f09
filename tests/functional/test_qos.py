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
"""QoS where its cgroups can't be seen: told, and nothing else suffers.

What is in real cgroups is in tests.libvirt.test_qos.
"""

from tests.functional import test_live

REPORTED = "its domain's process is not to be seen here"


class OutOfSightTest(test_live.LiveBase):

    def test_reported_once_for_each_change(self):
        """Simulated domains have no process at all."""
        server = self.boot(self.template('0:13 1:10', qos='0:weight=300'))
        for _pass in range(2):
            self.ring(server)
        self.assertEqual(1, self.stdlog.logger.output.count(REPORTED))
        # Its pins are looked after all the same.
        self.want(server, pin_0='0:12 1:10')
        self.assertHolds(server, {0: 12, 1: 10})
        self.assertEqual(1, len(self.actions(server)))
        self.assertEqual(1, self.stdlog.logger.output.count(REPORTED))

    def test_nobody_asks(self):
        server = self.boot(self.template('0:13 1:10', grant='template qos'))
        self.ring(server)
        self.assertNotIn(REPORTED, self.stdlog.logger.output)
