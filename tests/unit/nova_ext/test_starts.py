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

"""Every way by which Nova's driver starts or defines a domain.

The source of the Nova that is installed is walked from what libvirt offers up
to the methods of ``ComputeDriver``; each way that is found has to be in
``doc/source/contributor/starts.csv``, with what makes it safe.
"""

import ast
import csv
import functools
import importlib.util
import pathlib
import re

import fixtures
from nova.virt import driver as nova_driver

from nova_ext import driver
from tests import base

#: Of virDomain and virConnect: what defines, starts, saves or restores a
#: domain, or has another libvirtd do so.
LIBVIRT = {
    'create', 'createLinux', 'createWithFiles', 'createWithFlags',
    'createXML', 'createXMLWithFiles', 'defineXML', 'defineXMLFlags',
    'managedSave', 'managedSaveDefineXML', 'migrate', 'migrate2', 'migrate3',
    'migrateToURI', 'migrateToURI2', 'migrateToURI3', 'reboot', 'reset',
    'restore', 'restoreFlags', 'restoreParams', 'resume', 'revertToSnapshot',
    'save', 'saveFlags', 'saveImageDefineXML', 'saveParams', 'setAutostart'}
#: What such a method is called on.
_LIBVIRT_OBJECT = re.compile(r'(^|[._])(dom|domain)$|get_connection\(\)$|'
                             r'conn(ection)?$')
#: Of these names, but on other objects: libvirt's event loop, a mediated
#: device.
OTHERS = {'LibvirtEventHandler.create', 'dev.create'}
DRIVER = 'LibvirtDriver'
TABLE = (pathlib.Path(__file__).parents[3]
         / 'doc/source/contributor/starts.csv')


def functions(folder):
    """(module, class or '', name) -> {name that it refers to: [on what]}.

    On what is a syntax tree, None for a name by itself.  Nested functions are
    parts of the one that they are in.
    """
    found = {}
    for path in sorted(folder.rglob('*.py')):
        for node in ast.parse(path.read_text()).body:
            owner = node.name if isinstance(node, ast.ClassDef) else ''
            for each in node.body if owner else [node]:
                if isinstance(each, ast.FunctionDef):
                    found[path.stem, owner, each.name] = references(each)
    return found


def references(function):
    found = {}
    for part in ast.walk(function):
        if isinstance(part, ast.Attribute):
            found.setdefault(part.attr, []).append(part.value)
        elif isinstance(part, ast.Name):
            found.setdefault(part.id, []).append(None)
    return found


def is_libvirt(on):
    return on is not None and _LIBVIRT_OBJECT.search(ast.unparse(on))


def refers(function, on, target):
    """Whether a function's reference to a name may be to a target.

    Of what is called on an object only the name is known.
    """
    on = '' if on is None else ast.unparse(on)
    if f'{on}.{target[2]}' in OTHERS or _LIBVIRT_OBJECT.search(on):
        return False
    if not on:
        return (function[0], '') == target[:2]
    if on in ('self', 'cls'):
        return function[:2] == target[:2]
    # Others have a driver by that name only.
    return target[1] != DRIVER or on.endswith('driver')


def callers(known, targets):
    """function -> those of the targets that it refers to."""
    found = {}
    for function, names in known.items():
        called = {target for target in targets if target[2] != '__init__'
                  and any(refers(function, on, target)
                          for on in names.get(target[2], ()))}
        if called:
            found[function] = called
    return found


@functools.cache
def ways(folder):
    """How a domain is defined or started: {(method, by way of, calls)}.

    ``calls`` are the functions that call Nova's wrappers of libvirt, each
    with the wrapper's name.
    """
    known = functions(folder)
    wrappers = {
        function for function, names in known.items()
        if any(is_libvirt(on) for name in LIBVIRT & names.keys()
               for on in names[name])}
    edges = {}
    new = wrappers
    while new:
        found = callers(known, new)
        new = set()
        for function, targets in found.items():
            if function not in edges and function not in wrappers:
                new.add(function)
            edges.setdefault(function, set()).update(targets)
    public = {name for name in vars(nova_driver.ComputeDriver)
              if not name.startswith('_')}

    def calls(function, seen=()):
        """(caller, wrapper) at the lower ends."""
        for target in edges.get(function, set()) - set(seen):
            if target in wrappers:
                yield f'{function[2]}:{target[2]}'
            else:
                yield from calls(target, (*seen, function))

    called = set().union(*edges.values())
    result = set()
    for function in edges:
        _module, owner, method = function
        if not (owner == DRIVER and method in public
                or function not in called):
            continue  # a part of a way
        if owner != DRIVER:
            method = '.'.join(function)
        for target in edges[function]:
            if target in wrappers:
                result.add((method, '', f'{function[2]}:{target[2]}'))
            else:
                result.add((method, target[2],
                            ' '.join(sorted(set(calls(target))))))
    return result


def table():
    with TABLE.open(newline='') as lines:
        return list(csv.DictReader(lines))


class StartsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        spec = importlib.util.find_spec('nova.virt.libvirt')
        self.ways = ways(pathlib.Path(spec.origin).parent)
        self.table = {(row['method'], row['by way of'], row['calls']): row
                      for row in table()}

    def test_each_way_is_in_the_table(self):
        self.assertEqual(set(), self.ways - self.table.keys())

    def test_each_entry_is_a_way(self):
        self.assertEqual(set(), self.table.keys() - self.ways)

    def test_each_entry_says_why(self):
        for row in self.table.values():
            self.assertTrue(row['because'], row)
            for name in row['handled by'].split():
                self.assertIn(name, vars(driver.LibvirtDriver), row)

    def test_an_override_stands_before_its_method(self):
        """What is called by Nova's manager is ours, where it says so."""
        for row in self.table.values():
            if row['method'] in vars(driver.LibvirtDriver):
                self.assertIn(row['method'], row['handled by'].split(), row)


class WalkTest(base.TestCase):
    """A driver that starts domains in ways that nobody has thought of."""

    SOURCE = '''
class Guest:
    def launch(self):
        self._domain.createWithFlags(0)
    def hide(self):
        self._domain.suspend()
class Host:
    def write(self, xml):
        return self.get_connection().defineXML(xml)
    def device_start(self, dev):
        dev.create()
class LibvirtDriver:
    def spawn(self):
        self._host.write('')
        self._later()
    def _later(self):
        def go():
            guest.launch()
        utils.spawn_n(go)
    def pause(self):
        guest.hide()
    def _by_nobody(self):
        guest.launch()
'''

    def test_walk(self):
        folder = self.useFixture(fixtures.TempDir()).path
        path = pathlib.Path(folder, 'driver.py')
        path.write_text(self.SOURCE)
        self.assertEqual({
            ('spawn', '', 'spawn:write'),
            ('spawn', '_later', '_later:launch'),
            ('_by_nobody', '', '_by_nobody:launch')},
            ways(pathlib.Path(folder)))
