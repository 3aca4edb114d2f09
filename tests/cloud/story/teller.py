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


"""Tells the chapters in their order and writes the table of results."""

import json
import sys
import time
import traceback
import unittest

from tests.cloud import daemon
from tests.cloud import error
from tests.cloud.story import boot
from tests.cloud.story import chapter
from tests.cloud.story import failures
from tests.cloud.story import life
from tests.cloud.story import live
from tests.cloud.story import moves
from tests.cloud.story import plans
from tests.cloud.story import races
from tests.cloud.story import tenants

_BOOKS = (boot, live, life, moves, plans, tenants, races, failures)


def chapters():
    """All of them, as (name, class, title, hosts, whether short)."""
    for book in _BOOKS:
        cases = sorted((case for case in vars(book).values()
                        if isinstance(case, type)
                        and issubclass(case, chapter.Chapter)
                        and case.__module__ == book.__name__),
                       key=lambda case: case.__qualname__)
        found = [(getattr(case, name), case, name) for case in cases
                 for name in dir(case) if name.startswith('test_')]
        for function, case, name in sorted(
                found, key=lambda each: each[0].__code__.co_firstlineno):
            yield (f'{book.__name__.rpartition(".")[2]}.{name[5:]}', case,
                   name, function.__doc__.strip().splitlines()[0].rstrip('.'),
                   getattr(function, 'hosts', ()),
                   getattr(function, 'short', False))


def _is_named(name, wanted):
    """Whether a chapter, or the book that it is in, is called so."""
    return wanted in (name, name.partition('.')[0])


class _Result(unittest.TestResult):
    """Knows how its one test ended, and why."""

    def addError(self, test, err):
        super().addError(test, err)
        self._print(err)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._print(err)

    def _print(self, err):
        text = ''.join(traceback.format_exception(*err))
        print(text, file=sys.stderr, flush=True)


def run_story(stage, only=(), short=False):
    """Tell the chapters.

    :returns: rows: (title, result, seconds, figures)
    """
    rows = []
    for name, case, method, title, hosts, is_short in chapters():
        if only and not any(_is_named(name, each) for each in only):
            continue
        if short and not is_short:
            continue
        missing = set(hosts) - stage.cloud.hosts.keys()
        if missing:
            rows.append((title, 'skipped', 0.0,
                         [('', f'needs {", ".join(sorted(missing))}')]))
            continue
        print(f'\033[1m--- {name}: {title}\033[0m', flush=True)
        how, seconds = _run_one(stage, case, method)
        rows.append((title, how, seconds, stage.figures))
    return rows


def _run_one(stage, case, method):
    stage.figures = []
    case.stage = stage
    result = _Result()
    begin = time.monotonic()
    case(method).run(result)
    seconds = time.monotonic() - begin
    how = ('failed' if result.errors or result.failures else
           'skipped' if result.skipped else 'ok')
    print(f'{how:8} {seconds:6.1f} s' + ''.join(
        f'   {what} {text}' for what, text in stage.figures), flush=True)
    return how, seconds


def table(rows):
    """The rows as a table of text."""
    lines = []
    for title, how, seconds, figures in rows:
        lines.append((title, how, f'{seconds:.0f} s' if seconds else '', ''))
        reported = [f'{what}: {text}' if what else text
                    for what, text in figures]
        for number, text in enumerate(reported):
            if number == 0:
                lines[-1] = (*lines[-1][:3], text)
            else:
                lines.append(('', '', '', text))
    heads = ('chapter', 'result', 'time', 'measured')
    widths = [max(len(row[column]) for row in [heads, *lines])
              for column in range(4)]
    rule = '+' + '+'.join('-' * (width + 2) for width in widths) + '+'
    shown = [rule]
    for number, row in enumerate([heads, *lines]):
        shown.append('| ' + ' | '.join(
            text.ljust(width) for text, width in zip(row, widths)) + ' |')
        if number == 0:
            shown.append(rule)
    return '\n'.join([*shown, rule])


def main(args, cloud, names):
    """``tools/cloud test``."""
    if args.list:
        for name, _case, _method, title, hosts, short in chapters():
            print(f'{name:32} {"short " if short else "      "}'
                  f'{title}'
                  + (f'  [{", ".join(hosts)}]' if hosts else ''))
        return 0
    known = [row[0] for row in chapters()]
    for only in args.chapters:
        if not any(_is_named(name, only) for name in known):
            raise error.Problem(f"there is no chapter '{only}'; "
                                f"tools/cloud test --list tells them")
    began = time.monotonic()
    was_up = bool(daemon.all_of(cloud.layout))
    try:
        cloud.up(names)
        ready = time.monotonic()
        stage = chapter.Stage(cloud)
        stage.clear()
        rows = run_story(stage, args.chapters, args.short)
    finally:
        if not (was_up or args.leave_up):
            cloud.down()
    print(table(rows))
    counts = {how: sum(row[1] == how for row in rows)
              for how in ('ok', 'failed', 'skipped')}
    (cloud.layout.folder / 'results.json').write_text(json.dumps(rows))
    print(f'cloud up in {ready - began:.0f} s, the story in '
          f'{time.monotonic() - ready:.0f} s; commands and logs are in '
          f'{cloud.layout.logs}')
    print(f'{counts["ok"]} passed, {counts["failed"]} failed, '
          f'{counts["skipped"]} skipped')
    return 1 if counts['failed'] or not counts['ok'] else 0
