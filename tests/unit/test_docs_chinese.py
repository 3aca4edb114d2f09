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
"""The Chinese pages say what the English ones say.

A test can't compare sentences.  It compares what a translation leaves as it
is, heading by heading: blocks, literals, figures, rows of tables, items of
lists, links and pictures.  So whoever changes an English page has to change
the Chinese one.
"""

import itertools
import pathlib
import posixpath
import re
from typing import NamedTuple

from doc import chinese
from tests import base
from tests import documents

_UNDERLINE = re.compile(r'([=-])\1+')
_LITERAL = re.compile(r'``(.+?)``', re.DOTALL)
#: What has figures that are no statement of a page.
_NO_FIGURES = re.compile(
    r'``.+?``|:\w+:`[^`]*`|`[^`]*<[^>]*>`_|\[\d+\]_', re.DOTALL)


class Facts(NamedTuple):
    """What is below one heading, without blocks of code."""

    literals: set[str]
    figures: set[str]
    #: Rows of tables and items of lists, those of rows by themselves.
    rows: list[set[str]]
    paragraphs: int
    notes: list[str]


def headings(page):
    """(heading, its text) of a page; what is above the first: ''."""
    found = [('', [])]
    lines = without_blocks(documents.read(page)).splitlines()
    for line, below in itertools.zip_longest(lines, lines[1:], fillvalue=''):
        if _UNDERLINE.fullmatch(below) and line and line[0] not in ' =-':
            found.append((line, []))
        elif not _UNDERLINE.fullmatch(line):
            found[-1][1].append(line)
    return [(heading, '\n'.join(text)) for heading, text in found]


def without_blocks(text):
    """A page without what is shown; a line remains for each block."""
    left, indent = [], None
    for line in text.splitlines():
        if indent is not None:
            if not line.strip() or (
                    len(line) - len(line.lstrip()) > indent):
                continue
            left.append('')
            indent = None
        left.append(line)
        begin = re.match(r'( *)(\.\. code-block::|(?!\.\. ).*::$)', line)
        if begin:
            indent = len(begin[1])
    return '\n'.join(left)


def literals(text):
    return {' '.join(found.split()) for found in _LITERAL.findall(text)}


def facts(text):
    return Facts(
        literals(text),
        set(re.findall(r'\d+(?:[.,]\d+)*', _NO_FIGURES.sub('', text))),
        [literals(row) for row in re.split(
            r'^ *(?:[-*#]\.? |\* - |\d+\. )', text, flags=re.MULTILINE)[1:]],
        len([part for part in re.split(r'\n\s*\n', text) if part.strip()]),
        re.findall(r'^\.\. \[\d+\]|\[\d+\]_', text, re.MULTILINE))


def links(page, translations):
    """Pages and labels that a page refers to, by their English names.

    :param translations: of the Chinese pages to the English ones
    """
    def english(path):
        path = pathlib.Path(posixpath.normpath(path))
        return str(translations.get(path, path))

    text = documents.read(page)
    source = documents.SOURCE.relative_to(documents.TOP)
    own = english(page)
    found = {f'ref {label.removeprefix("zh-")}' for label in re.findall(
        r':ref:`(?:[^`<]*<)?([\w-]+)>?`', text)}
    listed = re.findall(r'^\.\. toctree::\n(?: +:.*\n)*\n((?: +\S+\n)+)',
                        text, re.MULTILINE)
    for name in [*re.findall(r':doc:`([^`]+)`', text),
                 *' '.join(listed).split()]:
        folder = source if name.startswith('/') else page.parent
        found.add(english(folder / f'{name.lstrip("/")}.rst'))
    for name in re.findall(r'(?:image|figure):: (\S+)', text):
        found.add(english(page.parent / name))
    return found - {own}


class TranslationTest(base.TestCase):

    TRANSLATIONS = documents.chinese()

    def test_same_blocks(self):
        """So what runs the commands of one edition runs those of both."""
        for chinese_page, english_page in self.TRANSLATIONS.items():
            english, translated = (
                [(block.kind, block.caption, block.text)
                 for block in documents.blocks(page)
                 if page.parent.name or block.kind in ('console', 'ini')]
                for page in (english_page, chinese_page))
            self.assertEqual(english, translated, chinese_page)

    def test_same_programs(self):
        """README has comments beside these, which are translated."""
        english, translated = (
            re.findall(r'^    (tools/\w+(?: \w+)?)  ', documents.read(name),
                       re.MULTILINE)
            for name in ('README.rst', 'README.zh_CN.rst'))
        self.assertEqual(3, len(english))
        self.assertEqual(english, translated)

    def test_same_facts(self):
        for chinese_page, english_page in self.TRANSLATIONS.items():
            english, translated = map(headings, (english_page, chinese_page))
            if not chinese_page.parent.name:
                # What README says of documentation is each edition's own.
                english, translated = english[:-1], translated[:-1]
            self.assertEqual(len(english), len(translated), chinese_page)
            for (_heading, one), (heading, other) in zip(
                    english, translated, strict=True):
                self.assertEqual(facts(one), facts(other),
                                 f'{chinese_page}: {heading}')

    def test_same_links(self):
        for chinese_page, english_page in self.TRANSLATIONS.items():
            english, translated = (
                links(page, self.TRANSLATIONS)
                for page in (english_page, chinese_page))
            self.assertEqual(english, translated, chinese_page)

    def test_links_stay_in_the_edition(self):
        """Where there is a Chinese page, Chinese pages refer to that one."""
        there = {page: translation
                 for translation, page in self.TRANSLATIONS.items()}
        pages = [*self.TRANSLATIONS, documents.CHINESE.relative_to(
            documents.TOP) / 'index.rst']
        source = documents.SOURCE.relative_to(documents.TOP)
        for page in pages:
            for name in re.findall(r':doc:`/([^`]+)`', documents.read(page)):
                other = there.get(source / f'{name}.rst')
                # A page may name its own original.
                self.assertIn(other, (None, page), page)
        labels = {label for page in pages for label in re.findall(
            r'^\.\. _zh-([\w-]+):', documents.read(page), re.MULTILINE)}
        self.assertGreater(len(labels), 2)
        for page in pages:
            self.assertEqual(set(), labels.intersection(re.findall(
                r':ref:`([\w-]+)`', documents.read(page))), page)

    def test_index_and_readme_name_each_page(self):
        index = documents.read(documents.CHINESE.relative_to(documents.TOP)
                               / 'index.rst')
        readme = documents.read(pathlib.Path('README.zh_CN.rst'))
        for page in self.TRANSLATIONS:
            if page.parent.name:
                self.assertIn(f':doc:`{page.stem}`', index)
        linked = set(re.findall(r'<doc/source/zh_CN/([\w-]+)\.rst>', readme))
        self.assertLessEqual(
            {page.stem for page in self.TRANSLATIONS if page.parent.name}
            - {'before-you-start', 'pilot', 'upgrade'}, linked)


class LineTest(base.TestCase):
    """Where a line ends in a Chinese sentence there is no blank."""

    def test_joined(self):
        self.assertEqual('宿主机自己切换，线程', chinese.joined(
            '宿主机自己\n切换，\n线程'))

    def test_wide_punctuation(self):
        """What follows may be a literal, which is a node of its own."""
        self.assertEqual('线程，', chinese.joined('线程，\n'))
        self.assertEqual('libvirt（见', chinese.joined('libvirt\n（\n见'))

    def test_letters(self):
        for text in ('使用\nlibvirt', 'Nova\n启动', 'a server\nboots'):
            self.assertEqual(text, chinese.joined(text))
