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

"""The private parts of Nova: the list, the code and the installed Nova."""

import ast
import collections
import inspect
import os
import pathlib
import re
import subprocess
import sys
import types

import nova.compute.manager  # noqa: F401
from nova import objects
from nova_ext import driver
from nova_ext.live import mode
from nova_ext import power
from nova_ext.private import check
from nova_ext.private import symbols

from tests import base
from tests.unit.nova_ext import taking

TOP = pathlib.Path(__file__).parents[3]
BY_LABEL = {symbol.label: symbol for symbol in symbols.SYMBOLS}
#: Attributes of named tuples.
_TUPLES = {'_replace', '_asdict', '_fields', '_make'}
#: What of Nova is documented, or is a constant.
_OPEN = re.compile(
    r'nova\.(conf|exception|context)(\.|$)'
    r'|nova\.compute\.(vm_states|task_states|power_state)\.'
    r'|nova\.objects\.(fields|diagnostics)\.|nova\.virt\.event\.EVENT_'
    r'|nova\.scheduler\.filters\.BaseHostFilter$'
    r'|nova\.scheduler\.weights\.BaseHostWeigher$'
    r'|nova\.api\.validation\.extra_specs\.base\.ExtraSpecValidator$')
#: Read by id, and by nothing that a change of Nova's could break alone.
_SIMPLE = {
    'nova.objects.Instance.get_by_uuid', 'nova.objects.Migration.get_by_id',
    'nova.objects.Migration.get_by_uuid',
    'nova.objects.ImageMeta.from_instance',
    'nova.objects.ComputeNode', 'nova.objects.NUMATopologyLimits',
    'nova.virt.configdrive.required_by', 'nova.virt.hardware.InstanceInfo',
    'nova.virt.libvirt.driver.LibvirtDriver',
    'nova.virt.libvirt.cpu.api.API'}


class InstalledTest(base.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()

    def test_the_installed_nova(self):
        self.assertEqual([], check.differences(symbols.SYMBOLS))

    def test_each_taken_away(self):
        for symbol in symbols.SYMBOLS:
            with self.subTest(symbol.label), taking.taken_away(symbol):
                found = {each.symbol for each in check.differences(
                    symbols.SYMBOLS)}
                self.assertIn(symbol, found, symbol.label)
                # What another one is found by.
                self.assertLessEqual(
                    {each.need for each in found}, {symbol.need},
                    symbol.label)
        self.assertEqual([], check.differences(symbols.SYMBOLS))

    def test_each_called_otherwise(self):
        for symbol in symbols.SYMBOLS:
            if not isinstance(symbol.form, (check.Taken, check.Called)):
                continue
            with taking.changed(symbol):
                self.assertIsNotNone(symbol.problem(), symbol.label)

    def test_each_turns_live_changes_off(self):
        node = types.SimpleNamespace(_tracker=None, wake=lambda: None)
        for symbol in symbols.SYMBOLS:
            if symbol.need == check.SCHEDULER:
                continue
            found = mode.Mode(node)
            self.assertEqual(mode.ACT, found.current)
            with taking.taken_away(symbol):
                found.compare(check.differences(symbols.SYMBOLS))
            self.assertEqual(mode.OFF, found.current)
            # Nobody switches it on again but who starts nova-compute anew.
            found.resume()
            self.assertEqual(mode.OFF, found.current)

    def test_words(self):
        with taking.taken_away(BY_LABEL['Guest._domain']):
            found, = check.differences(symbols.SYMBOLS)
        self.assertEqual('Guest._domain (nova/virt/libvirt/guest.py) is set '
                         'by none of its methods', str(found))
        with taking.changed(BY_LABEL['API._power_down']):
            found, = check.differences(symbols.SYMBOLS)
        self.assertEqual('API._power_down (nova/virt/libvirt/cpu/api.py) '
                         'takes (wanted, others) and not (cpus)', str(found))

    def test_a_module_that_is_gone(self):
        symbol = check.Symbol('nova.nowhere', '', 'nobody', check.Called(0),
                              check.LIVE, '', '')
        self.assertEqual('is gone with its module', symbol.problem())


class StartTest(base.TestCase):
    """What nova-compute gets of ``compute_driver = kongming...``.

    A process of its own: nothing of the hook may have been imported.
    """

    PROGRAM = '''
import os, sys
from nova import objects
objects.register_all()
import nova.compute.manager, nova.virt.libvirt.driver
from nova_ext import load
from nova_ext.private import installed
from nova_ext.private import symbols
from tests.unit.nova_ext import taking
# What the hook imports is read once; the hook itself is imported anew.
load.driver()
for name in list(sys.modules):
    if name.startswith('nova_ext.') and not name.startswith(
            ('nova_ext.private', 'nova_ext.load')):
        del sys.modules[name]
        vars(sys.modules['nova_ext']).pop(name.split('.')[1], None)
installed.differences.cache_clear()
for symbol in symbols.SYMBOLS:
    sys.stdout.flush()
    if os.fork():
        _pid, status = os.wait()
        if status:
            print(symbol.label, symbol.need, 'status', status)
        continue
    with taking.taken_away(symbol):
        found = load.driver()
    print(symbol.label, symbol.need, found.__module__)
    sys.stdout.flush()
    os._exit(0)
'''

    def test_each_taken_away(self):
        found = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', self.PROGRAM], cwd=TOP,
            env={**os.environ, 'PYTHONPATH': str(TOP)}, text=True,
            capture_output=True)
        self.assertEqual(0, found.returncode, found.stderr)
        lines = [line.split() for line in found.stdout.splitlines()]
        self.assertEqual([symbol.label for symbol in symbols.SYMBOLS],
                         [line[0] for line in lines], found.stderr)
        for label, need, module in lines:
            self.assertEqual(
                'nova_ext.private.native' if need == check.HOOK
                else 'nova_ext.driver', module, label)
        self.assertIn('LibvirtDriver._get_guest_numa_config', found.stderr)


def code():
    """path -> syntax tree, of nova_ext without the list itself."""
    return {path: ast.parse(path.read_text())
            for path in sorted((TOP / 'nova_ext').rglob('*.py'))
            if path.parent.name != 'private'}


def private_names(tree):
    """Attributes with an underscore that are read, and that are set."""
    read, own = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(
                '_[^_]', node.attr):
            (own if isinstance(node.ctx, ast.Store) else read).add(node.attr)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
    return read, own


def dotted(tree):
    """What is used of Nova by its dotted name, e.g. nova.utils.x."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (
                node.module or '').split('.')[0] == 'nova':
            names.update({each.asname or each.name:
                          f'{node.module}.{each.name}'
                          for each in node.names})
    longest = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _dot, rest = ast.unparse(node).partition('.')
            if root in names and re.fullmatch(r'[\w.]+', rest):
                longest[f'{names[root]}.{rest}'] = None
    return {name for name in longest
            if not any(other.startswith(f'{name}.') for other in longest)}


class CodeTest(base.TestCase):
    """Neither is anything used that is not listed, nor the reverse."""

    def test_each_private_name_is_listed(self):
        listed = {symbol.name for symbol in symbols.SYMBOLS}
        trees = code()
        ours = set().union(*(private_names(tree)[1]
                             for tree in trees.values()))
        for path, tree in trees.items():
            read, own = private_names(tree)
            if path.name in ('driver.py', 'power.py'):
                # What they inherit others may have by the same name.
                lacking = read - own - listed - _TUPLES - {'_tracker'}
            else:
                lacking = read - ours - listed - _TUPLES
            self.assertEqual(set(), lacking, path)

    def test_each_name_of_nova_is_listed(self):
        listed = {symbol.name for symbol in symbols.SYMBOLS}
        for path, tree in code().items():
            if path.parent.name == 'cleanup':
                continue  # a command, which can be repeated
            for name in dotted(tree) - _SIMPLE:
                if _OPEN.match(name):
                    continue
                self.assertTrue(listed & set(name.split('.')),
                                f'{path}: {name}')

    def test_each_entry_is_used(self):
        text = '\n'.join(path.read_text() for path in code())
        for symbol in symbols.SYMBOLS:
            for name in getattr(symbol.form, 'names', [symbol.name]):
                if name in ('numaconfig', 'cpu_pinning_raw', 'cpuset'):
                    continue  # part of the tuple; its property is used
                self.assertRegex(text.lower(), rf'\b{name.lower()}\b',
                                 symbol.label)

    def test_once(self):
        self.assertEqual([], [
            label for label, times in collections.Counter(
                (symbol.module, symbol.label)
                for symbol in symbols.SYMBOLS).items() if times > 1])

    def test_overrides(self):
        """Each method of Nova's that ours stands before, by its names."""
        for ours, owner in ((driver.LibvirtDriver, 'LibvirtDriver'),
                            (power.CpuApi, 'API')):
            theirs = ours.__mro__[1]
            for name, found in vars(ours).items():
                if not isinstance(found, types.FunctionType) or not hasattr(
                        theirs, name):
                    continue
                if name == '__init__' and owner == 'API':
                    continue  # the hook makes it
                symbol = BY_LABEL[f'{owner}.{name}']
                parameters = [*inspect.signature(found).parameters.values()
                              ][1:]
                named = tuple(each.name for each in parameters
                              if each.kind == each.POSITIONAL_OR_KEYWORD)
                self.assertEqual(check.Taken(
                    named, len(named) < len(parameters)), symbol.form, name)
