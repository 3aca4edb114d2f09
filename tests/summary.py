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

"""What a run of the tests came to, printed at its end.

Reads a subunit stream; prints what failed, each with the end of its
traceback, and as its last line the counts as shell assignments.

    stestr last --subunit | python -m tests.summary
"""

import sys

import subunit
import testtools

#: Lines of a traceback that are shown.
_TAIL = 12


def main():
    result = testtools.StreamSummary()
    result.startTestRun()
    subunit.ByteStreamToStreamResult(
        getattr(sys.stdin, 'buffer', sys.stdin),
        non_subunit_name='stdout').run(result)
    result.stopTestRun()
    failed = [*result.errors, *result.failures]
    for test, trace in failed:
        print(f'FAILED {test.id()}', file=sys.stderr)
        for line in trace.strip().splitlines()[-_TAIL:]:
            print(f'    {line[:300]}', file=sys.stderr)
    skipped, expected = len(result.skipped), len(result.expectedFailures)
    passed = result.testsRun - len(failed) - skipped - expected
    print(f'Passed={passed} Failed={len(failed)} Skipped={skipped} '
          f'Expected={expected}')


if __name__ == '__main__':
    main()
