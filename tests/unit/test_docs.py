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
"""What the documentation shows is so: each example is read by what reads it.

:mod:`tests.functional.test_howto` runs the how-tos and reads the commands;
what is here needs neither a cloud nor the command line.
"""

import ast
import configparser
import importlib
import re
from xml.etree import ElementTree

import yaml

from doc import packages
from doc import sequence
from kongming import conf
from kongming.deployment import document as document_mod
from kongming.plan import request
from kongming.template import document
from kongming.template import template
from kongming.vnfd import sol001
from tests import base
from tests import documents


class TemplateTest(base.TestCase):
    """Documents are what the parser takes."""

    def check(self, text, where):
        found = yaml.safe_load(text)
        if not found.keys() & {'version', 'tosca_definitions_version'}:
            # A part of one.
            text = f'version: 1\n{text}'
        try:
            if 'tosca_definitions_version' in found:
                sol001.parse(text)
            elif 'plan' in found:
                request.Request(found)
            elif 'servers' in found:
                document_mod.parse(text)
            else:
                template.encode(document.parse(text))
        except Exception as exc:
            self.fail(f'{where}: {exc}')

    def test_blocks(self):
        found = [block for block in documents.all_blocks('yaml')
                 if not str(block.path).endswith('benchmarks.rst')]
        self.assertGreater(len(found), 10)
        for block in found:
            self.check(block.text, block)

    def test_cat(self):
        """A console may show a file, or begin with one."""
        found = 0
        for block in documents.all_blocks('console'):
            before = block.text.partition('$ ')[0]
            if before.strip() and ':' in before and '|' not in before:
                self.check(before, block)
                found += 1
            for command in documents.commands(block):
                if command.words[0] == 'cat':
                    self.check('\n'.join(command.shown), command.where)
                    found += 1
        self.assertGreater(found, 0)


class ConfigurationTest(base.TestCase):
    """Options are ours or, in a section of Nova's, are not looked at."""

    NAMES = {option.name for option in conf.OPTS}

    def test_blocks(self):
        found = documents.all_blocks('ini')
        self.assertGreater(len(found), 4)
        for block in found:
            parsed = configparser.ConfigParser(strict=False)
            parsed.read_string(block.text)
            for section in parsed.sections() + ['DEFAULT']:
                for name, value in parsed[section].items():
                    self.check(block, section, name, value)

    def check(self, block, section, name, value):
        if section == 'kongming':
            self.assertIn(name, self.NAMES, block)
        for dotted in re.findall(r'nova_ext\.[\w.]+', value):
            module, _dot, attribute = dotted.rpartition('.')
            self.assertTrue(
                hasattr(importlib.import_module(module), attribute), dotted)
        if name == 'compute_driver':
            self.assertIn(value, ('kongming.LibvirtDriver',
                                  'libvirt.LibvirtDriver'), block)

    def test_in_text(self):
        for page in documents.pages():
            text = ' '.join(documents.read(page).split())
            for name in re.findall(r'``\[kongming\] (\w+)', text):
                self.assertIn(name, self.NAMES, page)


class LinkTest(base.TestCase):
    """Files that are named are there; sphinx -W checks :doc: and :ref:."""

    def test_files(self):
        tops = {path.name for path in documents.TOP.iterdir()
                if not path.name.startswith('.')} | {'.ci'}
        found = 0
        for page in documents.pages():
            for name in re.findall(r'``([\w./-]+)``', documents.read(page)):
                if name.split('/')[0] not in tops or name.endswith('...'):
                    continue
                if (name.startswith(('doc/build', 'nova/', 'build', 'dist'))
                        or name == 'kongming'):
                    continue
                found += 1
                there = documents.TOP / name
                self.assertTrue(
                    there.exists() or list(documents.TOP.glob(f'{name}*')),
                    f'{page}: {name}')
        self.assertGreater(found, 20)

    def test_images(self):
        for page in documents.pages():
            for name in re.findall(r'(?:image|figure):: (\S+)',
                                   documents.read(page)):
                there = (documents.TOP / page).parent / name
                made = there.with_suffix('.txt')
                self.assertTrue(there.exists() or made.exists(),
                                f'{page}: {name}')

    def test_links_between_files(self):
        for page in documents.pages():
            for name in re.findall(r'`[^`<]+ <([^>:]+)>`_',
                                   documents.read(page)):
                there = (documents.TOP / page).parent / name
                self.assertTrue(there.exists(), f'{page}: {name}')


class PictureTest(base.TestCase):
    """The picture of the way of a server."""

    TEXT = documents.SOURCE / 'contributor' / 'way.txt'

    def test_it_is_drawn(self):
        drawn = ElementTree.fromstring(sequence.svg(self.TEXT.read_text()))
        width, height = map(int, drawn.get('viewBox').split()[2:])
        for text in drawn.iter('{http://www.w3.org/2000/svg}text'):
            self.assertTrue(0 <= float(text.get('x')) <= width)
            self.assertTrue(0 <= float(text.get('y')) <= height)

    def test_modules(self):
        """What is named before a colon is a package or a module."""
        named = re.findall(r'^[^:#]*: ([a-z_.]+): ', self.TEXT.read_text(),
                           re.MULTILINE)
        self.assertGreater(len(named), 8)
        for name in named:
            path = name.replace('.', '/')
            self.assertTrue(any(
                (documents.TOP / package / found).exists()
                for package in ('nova_ext', 'kongming')
                for found in (path, f'{path}.py')), name)

    def test_a_lane_that_is_none(self):
        self.assertRaisesRegex(ValueError, 'line 2', sequence.svg,
                               'lanes: a | b\na -> c: hello')


class PackageTest(base.TestCase):
    """A page for each package; pictures of packages and arrows."""

    FOLDER = documents.SOURCE / 'contributor'

    def test_pages(self):
        there = {
            '.'.join(path.parent.relative_to(documents.TOP).parts)
            for root in ('kongming', 'nova_ext', 'osc_plugin')
            for path in (documents.TOP / root).rglob('__init__.py')}
        pages = self.FOLDER / 'packages'
        self.assertEqual(there, {path.stem for path in pages.glob('*.rst')})
        listed = re.findall(r'^   packages/(\S+)$', (
            self.FOLDER / 'packages.rst').read_text(), re.MULTILINE)
        self.assertEqual(sorted(there), sorted(listed))
        for name in there:
            self.assertIn(f'.. automodule:: {name}\n',
                          (pages / f'{name}.rst').read_text())

    def test_each_public_module_is_in_the_reading_order(self):
        for path in documents.TOP.glob('*/**/__init__.py'):
            if path.relative_to(documents.TOP).parts[0] not in (
                    'kongming', 'nova_ext', 'osc_plugin') or (
                    path.parent.name == 'kongming'):
                continue
            tree = ast.parse(path.read_text())
            order = ast.get_docstring(tree).partition('Reading order')[2]
            for module in [*path.parent.glob('[a-z]*.py'),
                           *path.parent.glob('[a-z]*/__init__.py')]:
                name = (module.parent.name if module.stem == '__init__'
                        else module.stem)
                self.assertIn(f'``{name}``', order, path)

    def test_index_names_packages(self):
        text = (self.FOLDER / 'packages.rst').read_text()
        for name in re.findall(':mod:`([^`]*)`', text + (
                self.FOLDER / 'architecture.rst').read_text()):
            page = self.FOLDER / 'packages' / f'{name}.rst'
            self.assertTrue(page.exists(), name)

    def test_arrows_that_follow_from_others_are_left_out(self):
        self.assertEqual(
            {'a': {'b'}, 'b': {'c'}},
            packages.reduced({'a': {'b', 'c'}, 'b': {'c'}}))

    def test_layers_are_rows_from_top_to_bottom(self):
        drawn = packages.dot([['a', 'b'], ['c']], {'a': {'c'}}, ['c'])
        self.assertIn('{rank=same; "a"; "b"}', drawn)
        self.assertIn('"b" -> "c" [style=invis]', drawn)
        self.assertIn('"a" -> "c"\n', drawn)


class BenchmarkTest(base.TestCase):
    """Each number has the command beside it that makes it."""

    def test_programs(self):
        named = set(re.findall(r'python -m (benchmarks\.\w+)', ' '.join(
            documents.read(page) for page in documents.pages())))
        there = {f'benchmarks.{path.stem}'
                 for path in (documents.TOP / 'benchmarks').glob('[a-z]*.py')
                 if "if __name__ == '__main__'" in path.read_text()}
        self.assertEqual(there, named)

    def test_beside_each_table(self):
        text = documents.read(
            documents.SOURCE.relative_to(documents.TOP) / 'benchmarks.rst')
        sections = re.split(r'\n=+\n', text)
        self.assertGreater(len(sections), 4)
        for section in sections:
            if '::\n' in section:
                self.assertRegex(section, r'``python -m (benchmarks|tests)\.')


class PilotTest(base.TestCase):
    """The table of what only looks, and what changes something."""

    def test_each_command_is_there_once(self):
        setup = configparser.ConfigParser()
        setup.read(documents.TOP / 'setup.cfg')
        cloud, host = ([
            line.split('=')[0].strip().removeprefix('kongming_').replace(
                '_', ' ')
            for line in setup['entry_points'][group].strip().splitlines()]
            for group in ('openstack.kongming.v1', 'kongming.cli'))
        for page in documents.editions('install/pilot.rst'):
            table = documents.read(page).partition('list-table::')[2].split(
                '\n\n')[1]
            named = re.findall('``([a-z ]+)``', table)
            self.assertEqual(sorted(cloud + host), sorted(named), page)


class HostTest(base.TestCase):
    """The pages name all that a host writes for others to read."""

    def page(self, *parts):
        return documents.read(documents.SOURCE.relative_to(
            documents.TOP).joinpath(*parts))

    def test_traits_and_resource_classes(self):
        code = (documents.TOP / 'kongming/placement/inventory.py').read_text()
        cores = (documents.TOP / 'kongming/placement/cores.py').read_text()
        found = set(re.findall('CUSTOM_[A-Z0-9_]+', code + cores))
        self.assertGreater(len(found), 20)
        page = self.page('admin.rst')
        self.assertEqual([], [name for name in found if name not in page])

    def test_stats(self):
        code = (documents.TOP / 'nova_ext/stats.py').read_text()
        self.assertEqual(
            set(re.findall(r'^``(kongming_\w+)``$', code, re.MULTILINE)),
            set(re.findall(r'^   \* - ``(kongming_\w+)``$',
                           self.page('contributor', 'placement.rst'),
                           re.MULTILINE)))

    def test_notifications(self):
        code = (documents.TOP / 'nova_ext/live/record.py').read_text()
        found = set(re.findall(r"^\w+ = '(kongming_\w+)'", code,
                               re.MULTILINE))
        self.assertGreater(len(found), 4)
        page = self.page('admin.rst')
        self.assertEqual([], [name for name in found if name not in page])


class FindingsTest(base.TestCase):
    """Each finding is on the page, with the version that it is about."""

    def test_page(self):
        page = documents.read(documents.SOURCE.relative_to(documents.TOP)
                              / 'contributor' / 'findings.rst')
        found = sorted((documents.TOP / 'findings').iterdir())
        self.assertEqual(
            [f'findings/{path.name}' for path in found],
            sorted(re.findall(r'^``(findings/\S+)``$', page, re.MULTILINE)))
        for path in found:
            source = path.read_text()
            version = re.match(r'#!.*\n# \S+ ([\d.]+): ', source)
            for label in 'Guess', 'Seen', 'Matters':
                self.assertRegex(source, f'(?m)^# {label}: ', path)
            text = page.partition(f'``findings/{path.name}``')[2]
            self.assertIn(f' {version[1]}: ', text.partition('``findings')[0])


class FailuresTest(base.TestCase):
    """What the table says is seen is what the code says."""

    #: Nova's, privsep's and words of ours around what differs.
    NOT_OURS = ('Unable to load the virtualization driver',
                'privsep helper command exited non-zero',
                'No valid host was found', '400', 'kongming:pin.0 =',
                'not_obeyed', 'server show', 'warning:')

    def said(self):
        """The code, with strings that go on in the next line joined."""
        return '\n'.join(
            re.sub(r"""['"]\s*\n\s*f?['"]""", '', path.read_text())
            for package in ('kongming', 'nova_ext', 'osc_plugin')
            for path in (documents.TOP / package).rglob('*.py'))

    def test_fits(self):
        """So does the table of what ``template check`` prints."""
        said = self.said()
        for page in documents.editions('user/fits.rst'):
            table = documents.read(page).partition(
                '* - ``how`` ')[2].partition('===')[0]
            cells = re.findall(r'^   \* - (.*?)^     - ', table,
                               re.MULTILINE | re.DOTALL)
            self.assertGreater(len(cells), 7)
            for shown in re.findall('``(.*?)``', ' '.join(cells)):
                for part in re.split(r' ?\.\.\. ?', shown):
                    self.assertIn(part, said, page)

    def test_cleanup(self):
        """So does the table of what the clean-up of a host leaves."""
        said = self.said()
        for page in documents.editions('install/upgrade.rst'):
            table = documents.read(page).partition('list-table::')[2]
            cells = re.findall(r'^   \* - (.*?)^     - ', table,
                               re.MULTILINE | re.DOTALL)
            self.assertGreater(len(cells), 7)
            for shown in re.findall('``(.*?)``', ' '.join(cells)):
                if not shown.startswith('--'):
                    for part in re.split(r' ?\(?\.\.\.\)? ?', shown):
                        self.assertIn(part, said, page)

    def test_all(self):
        said = self.said()
        page = documents.read(documents.SOURCE.relative_to(documents.TOP)
                              / 'admin' / 'failures.rst')
        tables = page.partition('Services that are down\n====')[0]
        cells = re.findall(r'^   \* - (.*?)^     - ', tables,
                           re.MULTILINE | re.DOTALL)
        self.assertGreater(len(cells), 30)
        self.assertEqual([], [
            part for cell in cells
            for shown in re.findall('``(.*?)``', ' '.join(cell.split()))
            for part in re.split(r" ?'?\(?\.\.\.\)?'? ?", shown)
            if part and part not in self.NOT_OURS and part not in said])


class QuestionsTest(base.TestCase):
    """What readers asked of the pages is answered where they looked."""

    def test_each(self):
        asked = yaml.safe_load(
            (documents.TOP / 'tests/unit/questions.yaml').read_text())
        self.assertEqual(20, len(asked))
        for question in asked:
            page = ' '.join(documents.read(
                documents.SOURCE.relative_to(documents.TOP)
                / question['page']).split())
            for words in question['words']:
                self.assertIn(words, page, question['ask'])


def load_tests(loader, tests, _pattern):
    """Doctests of the library go along."""
    import doctest
    for path in sorted((documents.TOP / 'kongming').rglob('*.py')):
        if '>>>' in path.read_text():
            name = '.'.join(path.relative_to(
                documents.TOP).with_suffix('').parts)
            tests.addTests(doctest.DocTestSuite(name))
    return tests
