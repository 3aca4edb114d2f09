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

"""What the largest metadata that Nova takes cost a pass of nova-compute.

``python -m benchmarks.metadata``: the time of one core to read them, without a
grant and with all of them; the least of several rounds, of the worst of what
the tests of hostile metadata have.
"""

import time

from kongming.intent import merge
from tests.unit.template import test_hostile

_ROUNDS = 5


def cost(grant, metadata):
    """Seconds, the least of the rounds."""
    wanted = test_hostile.flavor(grant)
    found = []
    for _round in range(_ROUNDS):
        begun = time.process_time()
        merge.merge(wanted, metadata, test_hostile.NOON)
        found.append(time.process_time() - begun)
    return min(found)


def main():
    for name, grant in (('without a grant', ''),
                        ('with all grants', test_hostile.EVERY_GRANT)):
        kind, worst = max(
            ((kind, cost(grant, metadata))
             for kind, metadata in test_hostile.LARGEST.items()),
            key=lambda pair: pair[1])
        print(f'{name:<16} {worst * 1000:8.2f} ms   ({kind})')


if __name__ == '__main__':
    main()
