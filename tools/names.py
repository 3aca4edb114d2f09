#!/usr/bin/env python3
# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""``tools/names.py FILE ...``: names are the field's.

Checks of Python files, by their syntax trees:

- no module, class, function, attribute, argument or variable has one of
  ``WORDS`` as a part of its name; HACKING.rst has the table with the words
  that are used instead;
- a docstring's ``:param name:`` names an argument that there is;
- ``:meth:`name``` and the like name something that there is in the module;
- nobody uses a private name of a module of another package.

Checks of all texts (docstrings, log lines, help, documentation): none of
``PHRASES``.  The status is 1 if anything was found.
"""

import argparse
import ast
import pathlib
import re
import sys

#: part of a name -> what the field says
WORDS = {
    'astray': 'drift',
    'bare': 'what it is without',
    'behind': 'stale',
    'breath': 'delay',
    'bring': 'reconcile, enforce',
    'doorbell': 'trigger',
    'hands': 'lock',
    'heal': 'put_back, repair',
    'healed': 'put_back, repaired',
    'held': 'claimed, reserved',
    'keep': 'enforce, retain, save',
    'keeper': 'enforcer',
    'kept': 'enforced, unchanged',
    'loose': 'what it is without',
    'mend': 'repair, restore',
    'pace': 'rate_limit',
    'plain': 'standalone, native',
    'promised': 'allocated, available',
    'quiet': 'silent',
    'room': 'capacity, package',
    'rooms': 'capacities, packages',
    'settled': 'current, idle',
    'stone': 'free_pcpu',
    'tell': 'report, log',
    'told': 'reported',
    'wish': 'desired',
    'wished': 'desired',
    'wishes': 'desired, resolved',
}
#: The same for whole names, without leading underscores.
NAMES = {
    'classes': 'clos, resource_classes',
    'shares': 'cpu_shares',
    'own_no_more': 'drop_target',
    'take_back': 'reclaim, roll_back',
    'BUSY': 'RETRY_INTERVAL',
}
#: Names that others have given.
THEIRS = {
    'keep_hypervisor_state',  # nova.tests.functional
    'kept',  # import-linter's ContractCheck
}
PHRASES = {
    r'\bdoorbell': 'trigger',
    r'\bstepping.stone': 'free pCPU',
    r'\bown(s|ed)? no more\b': 'drop the target',
    r'\bastray\b': 'drift',
    r'\bkeeper\b': 'enforcer',
    r'\bwish(es|ed)?\b': 'desired state, template',
    r'\b(tak(e|es|en|ing)|took) back\b':
        'reclaim, roll back, revert, unset',
    r'\bheal(s|ed|ing)?\b': 'put back, repair',
    r'\bpace[ds]?\b': 'rate limit',
    r'\bpromised\b': 'allocated, assigned',
    r'\brooms?\b': 'capacity, package, projection',
    r'\bstones?\b': 'free pCPU',
    # Of a server.  'Until it has settled' is English.
    r'(?<!has )(?<!have )\bsettled\b': 'current, idle; repinned',
    r'\btold (last|nobody|once|of each)\b|\bwas told of\b|\bis told\.':
        'reported',
}
#: Roles of documentation that a module's own names stand in.
_ROLE = re.compile(r':(?:meth|func|class|data|attr|exc):`(\w[\w.]*)`')
_ROOTS = ('kongming', 'nova_ext', 'osc_plugin', 'tests', 'benchmarks')


def parts(name):
    """The words of a name: ``RateLimiter`` has ``rate`` and ``limiter``."""
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', name).lower().split('_')


def objection(name):
    """What the field says instead of a name; None where it is fine."""
    if name in THEIRS:
        return None
    whole = NAMES.get(name.lstrip('_'))
    return whole or next(
        (WORDS[part] for part in parts(name) if part in WORDS), None)


def identifiers(tree):
    """(name, line) of all that a module names, imports included."""
    for node in ast.walk(tree):
        line = getattr(node, 'lineno', 0)
        if isinstance(node, ast.Name):
            yield node.id, line
        elif isinstance(node, ast.Attribute):
            yield node.attr, line
        elif isinstance(node, ast.FunctionDef | ast.ClassDef
                        | ast.AsyncFunctionDef):
            yield node.name, line
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg, line
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.rpartition('.')[2], line


def undefined_params(tree):
    """(function, argument, line) of each ``:param`` of no argument."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = node.args
        known = {arg.arg for arg in (
            *given.posonlyargs, *given.args, *given.kwonlyargs,
            given.vararg, given.kwarg) if arg is not None}
        for name in re.findall(r':param (\w+):',
                               ast.get_docstring(node) or ''):
            if name not in known:
                yield node.name, name, node.lineno


def undefined_references(tree, text):
    """(name, line) of each role whose name is nowhere in its module.

    Names with another module before them are not looked up.
    """
    known = {name for name, _line in identifiers(tree)}
    for number, line in enumerate(text.splitlines(), 1):
        for name in _ROLE.findall(line):
            first, dot, last = name.partition('.')
            mine = not dot or first[0].isupper()
            if mine and not {first, last or first} <= known:
                yield name, number


def foreign_privates(tree, package):
    """(module, name, line) of private names used of other packages.

    :param package: of the module that is looked at
    """
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and (
                node.module.partition('.')[0] in _ROOTS):
            for alias in node.names:
                modules[alias.asname or alias.name] = node.module
    for node in ast.walk(tree):
        # A variable of the same name hides the module.
        if isinstance(node, ast.arg):
            modules.pop(node.arg, None)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            modules.pop(node.id, None)
    for node in ast.walk(tree):
        if (isinstance(node, ast.Attribute)
                and re.match('_[^_]', node.attr)
                and isinstance(node.value, ast.Name)
                and modules.get(node.value.id, package) != package):
            yield (f'{modules[node.value.id]}.{node.value.id}', node.attr,
                   node.lineno)


def check_python(path, text):
    """Lines about a module."""
    tree = ast.parse(text, str(path))
    found = set()
    for name, line in [*identifiers(tree), (path.stem, 1)]:
        instead = objection(name)
        if instead:
            found.add((line, f"the name '{name}': the field says {instead}"))
    for function, name, line in undefined_params(tree):
        found.add((line, f"{function}() has no argument '{name}'"))
    for name, line in undefined_references(tree, text):
        found.add((line, f"a docstring names '{name}', which is not there"))
    if path.parts[0] != 'tests':
        package = '.'.join(path.parts[:-1])
        for module, name, line in foreign_privates(tree, package):
            found.add((line, f'{name} is private to {module}'))
    return [f'{path}:{line}: {what}' for line, what in sorted(found)]


def check_text(path, text):
    """Lines about phrases."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, instead in PHRASES.items():
            found = re.search(pattern, line, re.IGNORECASE)
            if found:
                yield f"{path}:{number}: '{found[0]}': {instead}"


def main():
    parser = argparse.ArgumentParser(
        description='Check that names are the field\'s.')
    parser.add_argument('file', nargs='+', type=pathlib.Path)
    found = []
    for path in parser.parse_args().file:
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.py':
            found += check_python(path, text)
        # Here they are written down.
        if path.name not in ('names.py', 'HACKING.rst'):
            found += check_text(path, text)
    print(*found, sep='\n', end='\n' if found else '')
    sys.exit(bool(found))


if __name__ == '__main__':
    main()
