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
"""What README and the pages of ``doc/source`` show, taken out of them.

Blocks are ``.. code-block::`` of any kind, and what follows ``::``, whose kind
is guessed.  In a block of the kind ``console`` a line with a prompt is a
command; what follows it is what it prints.
"""

from collections.abc import Iterator
import pathlib
import re
import shlex
from typing import NamedTuple

TOP = pathlib.Path(__file__).parents[1]
SOURCE = TOP / 'doc' / 'source'
#: The Chinese edition: a page of the English one by the same file name.
CHINESE = SOURCE / 'zh_CN'
#: Files of other projects that pages show, by what is only in them.
_FOREIGN = ('[[local|localrc]]', '[nova-base-plugin-kongming]',
            'nova_user_pip_packages', 'nova_compute_driver',
            'nova_nova_conf_overrides')
#: A prompt, and whether it is that of the ``openstack`` command's user.
_PROMPT = re.compile(r'([$#]) (.*)')


class Block(NamedTuple):
    """What a page shows.

    :ivar path: of the page, from the top of the tree
    :ivar line: where it begins, from 1
    :ivar kind: ``yaml``, ``console``, ``ini`` ...; empty where unknown
    :ivar caption: a file's name, or empty
    """

    path: pathlib.Path
    line: int
    kind: str
    caption: str
    text: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}'


class Command(NamedTuple):
    """A command of a console.

    :ivar words: as a shell splits them, of one command of a pipe
    :ivar shown: the lines that follow
    """

    where: str
    words: list[str]
    shown: list[str]


def pages() -> list[pathlib.Path]:
    """All of them, from the top of the tree."""
    found = [*TOP.glob('*.rst'), *SOURCE.rglob('*.rst')]
    return sorted(path.relative_to(TOP) for path in found)


def chinese() -> dict[pathlib.Path, pathlib.Path]:
    """Each Chinese page -> the English one that it is a translation of.

    The Chinese index is no translation: it lists what there is in Chinese.

    :raises LookupError: if a page has no counterpart, or several
    """
    found = {pathlib.Path('README.zh_CN.rst'): pathlib.Path('README.rst')}
    for path in sorted(CHINESE.glob('*.rst')):
        if path.stem == 'index':
            continue
        others = [other for other in SOURCE.rglob(path.name)
                  if other.parent != CHINESE]
        if len(others) != 1:
            raise LookupError(f'{path.name}: {len(others)} English pages')
        found[path.relative_to(TOP)] = others[0].relative_to(TOP)
    return found


def editions(name: str) -> list[pathlib.Path]:
    """A page of ``doc/source``, and its Chinese translation if it has one."""
    page = (SOURCE / name).relative_to(TOP)
    return [page] + [translation for translation, original
                     in chinese().items() if original == page]


def read(page: pathlib.Path) -> str:
    return (TOP / page).read_text(encoding='utf-8')


def all_blocks(*kinds: str) -> list[Block]:
    """What all pages show of these kinds, but for other projects' files."""
    return [block for page in pages() for block in blocks(page)
            if block.kind in kinds
            and not any(mark in block.text for mark in _FOREIGN)]


def blocks(page: pathlib.Path) -> Iterator[Block]:
    """What a page shows, in its order."""
    lines = read(page).splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        directive = re.match(r'( *)\.\. code-block:: *(\S*)', line)
        literal = re.match(r'( *)(?!\.\. )(.*)::$', line)
        if not directive and not literal:
            continue
        indent = len((directive or literal)[1])
        caption = ''
        while number < len(lines):
            option = re.match(r' +:(\w+): *(.*)', lines[number])
            if not directive or not option:
                break
            caption = option[2] if option[1] == 'caption' else caption
            number += 1
        begin, body = number, []
        while number < len(lines) and (
                not lines[number].strip()
                or len(lines[number]) - len(lines[number].lstrip()) > indent):
            body.append(lines[number])
            number += 1
        text = _dedented(body)
        if text:
            yield Block(page, begin + 2, directive[2] if directive
                        else _guessed(text), caption, text)


def section(page: pathlib.Path, heading: str) -> list[Block]:
    """What is shown below one heading, to the next of its level."""
    lines = read(page).splitlines()
    begin = lines.index(heading)
    line = lines[begin + 1]
    end = next((number for number in range(begin + 2, len(lines))
                if lines[number][:1] == line[0] and set(lines[number]) == {
                    line[0]}), len(lines))
    return [block for block in blocks(page) if begin < block.line <= end]


def _dedented(lines: list[str]) -> str:
    least = min((len(line) - len(line.lstrip())
                 for line in lines if line.strip()), default=0)
    return '\n'.join(line[least:] for line in lines).strip('\n')


def _guessed(text: str) -> str:
    if re.search(r'^\$ |^# kongming', text, re.MULTILINE):
        return 'console'
    if re.search(r'^\[[a-z_|A-Z\[\]-]+\]$', text, re.MULTILINE):
        return 'ini'
    first = text.splitlines()[0]
    if re.fullmatch(r'(version: 1|[a-z]+:( .*)?|# .*)', first) and (
            re.search(r'^[a-z]+:', text, re.MULTILINE)):
        return 'yaml'
    return ''


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block, each part of a pipe by itself."""
    lines, number = block.text.splitlines(), 0
    while number < len(lines):
        prompt = _PROMPT.fullmatch(lines[number])
        number += 1
        if not prompt:
            continue
        text = prompt[2]
        while text.endswith(('\\', '|')):
            text = f'{text.removesuffix(chr(92))} {lines[number].strip()}'
            number += 1
        shown = []
        while number < len(lines) and not _PROMPT.fullmatch(lines[number]):
            shown.append(lines[number])
            number += 1
        for words in _split(text):
            yield Command(f'{block}: {text}', words, shown)


def _split(text: str) -> Iterator[list[str]]:
    """The commands of a pipe; comments and redirections are left out."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars='|<>;')
    lexer.commenters = '#'
    # What a word has but blanks, quotes and the above.
    lexer.wordchars += ':=,.%~{}[]@+$'
    words: list[str] = []
    tokens = iter(lexer)
    for token in tokens:
        if token in ('|', ';'):
            yield words
            words = []
        elif token in ('<', '>'):
            next(tokens)
        else:
            words.append(token)
    yield words
