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
"""``python -m tests.nested.soak``: an hour in which everything happens.

On the nested host of four nodes (``tools/nested up --nodes 4``): a server that
lends one of its two pCPUs at night, one of two cells, one of one cell and a
borrower.  Each round they are asked to be somewhere else, memory and all, and
something goes wrong meanwhile: nova-compute is killed at a random point,
libvirtd is killed, the answer of conductor or the statement of the database
is lost, Placement is away, Nova stops, starts or reboots a server, the
night begins or ends.  After each round every invariant is looked at.

At the end nothing may have grown: threads, open files, the memory that our
code holds (by tracemalloc), the keys that servers have in the database.
``KONGMING_TEST_MINUTES`` (60) and ``KONGMING_TEST_SEED`` change a run.
"""

import sys

from testtools import run

from tests.embedded import hour
from tests.nested import memory_soak
from tests.nested import test_live


class HourTest(hour.HourMixin, memory_soak.Base):

    def restart_libvirtd(self):
        self.shell(test_live.RESTART)

    def test_an_hour(self):
        self.an_hour()


if __name__ == '__main__':
    run.main(['run', 'tests.nested.soak.HourTest'], sys.stdout)
