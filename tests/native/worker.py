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

"""One of the two runs: ``python -m tests.native.worker``, by __main__ only.

Tells what happens in lines of JSON:

- ``{"tests": [id, ...]}``, or ``{"problems": [...]}`` where there are none
- ``{"start": id}``
- ``{"test": id, "result": one of RESULTS, "text": ...}``
- ``{"stop": id, "counts": {...}, "faults": [...]}``: what the witness has
  counted and heard meanwhile
- ``{"modules": [...]}`` at the end: what is imported of KongMing
"""

# Before all that knows eventlet.
import tests.embedded  # noqa: F401

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import unittest  # noqa: E402

import testtools  # noqa: E402

from tests.native import hook  # noqa: E402

RESULTS = 'passed', 'skipped', 'failed'


class Teller(testtools.TestResult):
    """Tells the results as they come."""

    def __init__(self, emit, witness):
        super().__init__()
        self._emit = emit
        self._witness = witness
        self._before = {}

    def startTest(self, test):
        super().startTest(test)
        self._before = dict(self._witness.counts)
        self._emit(start=test.id())

    def stopTest(self, test):
        super().stopTest(test)
        hook.end_test()
        faults, self._witness.faults = self._witness.faults, []
        self._emit(stop=test.id(), faults=faults, counts={
            name: count - self._before.get(name, 0)
            for name, count in dict(self._witness.counts).items()})

    def _outcome(self, test, result, err=None, details=None, text=''):
        if err is not None:
            text = self._exc_info_to_unicode(err, test)
        elif details:
            text = '\n'.join(f'{name}:\n{content.as_text()}'
                             for name, content in sorted(details.items())
                             if content.content_type.type == 'text')
        self._emit(test=test.id(), result=result, text=text)

    def addSuccess(self, test, details=None):
        self._outcome(test, 'passed')

    def addExpectedFailure(self, test, err=None, details=None):
        self._outcome(test, 'passed')

    def addSkip(self, test, reason=None, details=None):
        self._outcome(test, 'skipped', None, details, reason or '')

    def addError(self, test, err=None, details=None):
        self._outcome(test, 'failed', err, details)

    addFailure = addError

    def addUnexpectedSuccess(self, test, details=None):
        self._outcome(test, 'failed', text='an unexpected success')


def _ids(suite):
    if isinstance(suite, unittest.TestSuite):
        return [found for test in suite for found in _ids(test)]
    return [suite.id()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('mode', choices=['native', 'hooked'])
    parser.add_argument('events', type=int, help='file descriptor')
    parser.add_argument('names', nargs='+')
    args = parser.parse_args()
    # Nova parses the command line again.
    del sys.argv[1:]
    events = os.fdopen(args.events, 'w')

    def emit(**event):
        print(json.dumps(event), file=events, flush=True)

    hook.patch_nova()
    witness = hook.Witness()
    if args.mode == 'native':
        hook.forbid_import()
    else:
        hook.install()
        witness.watch()
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(args.names)
    if loader.errors:
        emit(problems=loader.errors)
    else:
        emit(tests=_ids(suite))
        suite.run(Teller(emit, witness))
        emit(modules=sorted(
            name for name in sys.modules
            if name.split('.')[0] in ('kongming', 'nova_ext')))
    events.close()
    # Threads that Nova's tests leave behind would keep the process.
    os._exit(0)


if __name__ == '__main__':
    main()
