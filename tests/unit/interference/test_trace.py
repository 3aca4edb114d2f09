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


from kongming.interference import trace
from tests import base

_SWITCH = ('{name:>16}-{before} [001] d..2. {at:.6f}: sched_switch: prev_comm='
           '{name} prev_pid={before} prev_prio=120 prev_state=S ==> next_comm='
           'x next_pid={after} next_prio=120\n')


def switch(at, before, after):
    return _SWITCH.format(name='x', at=at, before=before, after=after)


class IdleTest(base.TestCase):

    def spent(self, *lines):
        found = trace.Trace()
        found.add(lines)
        return found.spent

    def test_from_idle(self):
        self.assertEqual(
            {trace.Seen(1, trace.RAN, '7'): trace.Spent(2, 3000.0)},
            self.spent(switch(1, 0, 7), switch(1.001, 7, 0),
                       switch(1.5, 0, 7), switch(1.502, 7, 0)))

    def test_a_switch_from_idle_that_is_not_traced(self):
        """Counted all the same; how long it took is not known."""
        self.assertEqual(
            {trace.Seen(1, trace.RAN, '7'): trace.Spent(2, None)},
            self.spent(switch(1, 0, 7), switch(1.001, 7, 0),
                       switch(1.502, 7, 0)))

    def test_what_began_before_the_trace(self):
        self.assertEqual({}, self.spent(switch(1, 7, 0)))
