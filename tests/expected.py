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

"""Tests of known faults: they assert the right value and fail until then.

:func:`failure` marks such a test with the number of the issue and with what
is seen until the issue is done.  It differs from
:func:`unittest.expectedFailure` in two ways: a test that fails for another
reason is an error, and a test that succeeds is a failure that asks for the
mark to be removed.
"""

from collections.abc import Callable
import functools
import re
from typing import Any
import unittest


class OtherReason(Exception):
    """A test failed, but not for the reason that its mark states."""


def failure(issue: int, because: str) -> Callable[..., Any]:
    """Mark a test method that fails until an issue is done.

    It is reported as an expected failure (``xfail`` in a subunit stream), so
    the class has to be a :class:`testtools.TestCase`.  A skipped test stays
    skipped.

    :param issue: number of the issue
    :param because: regular expression, searched in
        ``ExceptionClass: message`` of what the test raises, where each run
        of white space is one blank
    """
    def mark(test: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(test)
        def run(case: Any, *args: Any, **kwargs: Any) -> None:
            try:
                test(case, *args, **kwargs)
            except unittest.SkipTest:
                raise
            except Exception as exc:
                raised = exc
            else:
                case.fail(f'issue {issue} seems mended: take the mark away')
            text = ' '.join(f'{type(raised).__name__}: {raised}'.split())
            if not re.search(because, text):
                raise OtherReason(
                    f'issue {issue}: the test is expected to fail because '
                    f'of {because!r}; it fails with {text}') from raised

            def fail() -> None:
                raise case.failureException(text) from raised

            case.expectFailure(f'issue {issue}: {because}', fail)

        return run

    return mark
