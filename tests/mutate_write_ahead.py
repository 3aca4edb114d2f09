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

"""``python -m tests.mutate_write_ahead``: is each line of it looked at?

Deletes each statement of :mod:`nova_ext.ownership.write_ahead` in turn, and
each condition, but no log line, and has the model run with what is left: the
histories that found faults before (tests/unit/nova_ext/
test_ownership_faults.py), then random ones as in CI.  Prints a table; exits
with 1 if one of them was not missed.
"""

import argparse
import ast
import copy
import inspect
import logging
import os
import signal
import sys
import time
import unittest

import hypothesis
from hypothesis import stateful

from nova_ext.ownership import write_ahead
from tests.model import test_ownership as model
from tests.unit.nova_ext import test_ownership_faults as faults

#: Of which each line counts.
FUNCTIONS = ('write', 'both', 'charge_again', '_with_both_places', 'audit',
             'resolve', '_is_known')
#: (function, what is deleted) -> why that is the same for all that counts.
EQUIVALENT = {}
#: A mutant that hangs, in seconds.
LONGEST = 900
#: What a process ends with.
KNOWN, RANDOM = 1, 2


class _Delete(ast.NodeTransformer):
    """Has one statement do nothing, or one condition be a constant."""

    def __init__(self, node, constant=None):
        self._node, self._constant = node, constant

    def visit(self, node):
        if node is not self._node:
            return super().visit(node)
        if self._constant is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Constant(self._constant), node)


def mutants():
    """(function, line, what is deleted, the module without it) of each."""
    tree = ast.parse(inspect.getsource(write_ahead))
    for function in tree.body:
        if getattr(function, 'name', None) not in FUNCTIONS:
            continue
        # Not the docstring.
        for statement in function.body[1:]:
            for node in ast.walk(statement):
                yield from _of(tree, function, node)


def _of(tree, function, node):
    found = []
    if isinstance(node, ast.stmt) and not _first_line(node).startswith(
            'LOG.'):
        found.append((node, None))
    if isinstance(node, (ast.If, ast.IfExp)):
        found += [(node.test, constant) for constant in (True, False)]
    if isinstance(node, ast.BoolOp):
        found += [(operand, isinstance(node.op, ast.And))
                  for operand in node.values]
    for deleted, constant in found:
        what = _first_line(deleted)
        yield (function.name, deleted.lineno,
               what if constant is None else f'{what}: {constant}',
               _without(tree, deleted, constant))


def _first_line(node):
    return ast.unparse(node).split('\n')[0]


def _without(tree, node, constant):
    # The node is known by its identity, so it goes into the copy as well.
    memo = {id(node): node}
    mutant = _Delete(node, constant).visit(copy.deepcopy(tree, memo))
    return ast.fix_missing_locations(mutant)


def missed_by(mutant, seed, steps):
    """Which histories fail without it, in words; empty: none."""
    pid = os.fork()
    if not pid:
        status = RANDOM
        try:
            signal.alarm(LONGEST)
            logging.disable(logging.CRITICAL)
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            exec(compile(mutant, write_ahead.__file__, 'exec'),
                 write_ahead.__dict__)
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromModule(faults).run(result)
            if not result.wasSuccessful():
                os._exit(KNOWN)
            for half in range(2):
                stateful.run_state_machine_as_test(
                    hypothesis.seed(seed + half)(model.Ownership),
                    settings=model.settings(
                        steps // 2, phases=[hypothesis.Phase.generate]))
            status = 0
        finally:
            os._exit(status)
    _pid, status = os.waitpid(pid, 0)
    return {0: '', KNOWN: 'known history'}.get(
        os.waitstatus_to_exitcode(status), 'random history')


def main():
    parser = argparse.ArgumentParser(
        prog='python -m tests.mutate_write_ahead',
        description=__doc__.split('\n')[0])
    parser.add_argument('--steps', type=int, default=model.STEPS)
    parser.add_argument('--seed', type=int, default=model.SEED)
    parser.add_argument('--only', default='', metavar='TEXT',
                        help='what is deleted has this in it')
    parser.add_argument('--line', type=int, default=0,
                        help='what is deleted is not before it')
    args = parser.parse_args()
    survived = 0
    for function, line, what, mutant in mutants():
        if args.only not in f'{function} {what}' or line < args.line:
            continue
        reason = EQUIVALENT.get((function, what))
        began = time.monotonic()
        if reason is None:
            reason = missed_by(mutant, args.seed, args.steps)
            survived += not reason
            reason = reason or 'SURVIVED'
        print(f'{line:4} {function:12} {what:60} {reason} '
              f'({time.monotonic() - began:.0f} s)', flush=True)
    print(f'{survived} survived')
    return 1 if survived else 0


if __name__ == '__main__':
    sys.exit(main())
