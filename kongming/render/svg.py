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

"""A picture of a host: nodes, cores, pCPUs and whose they are, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from kongming import exception
from kongming.host import usage
from kongming.render import pages

#: Of one pCPU, in pixels, and what is left between things.
_WIDTH, _HEIGHT, _GAP, _MARGIN = 40, 24, 4, 16
_PER_ROW = 16
#: Of a line of text, and of a letter at most.
_LINE, _LETTER = 20, 8
_FREE, _SHARED, _TAKEN, _OTHER = '#ffffff', '#dfe3e8', '#8a9099', '#cfc6b8'
_STYLE = ('text{font:12px sans-serif;fill:#1c2126}'
          '.head{font-weight:bold}.pcpu{text-anchor:middle}'
          'rect{stroke:#59616b}.core{fill:none;stroke-width:1.5}')


def svg(name: str, state: usage.HostState) -> str:
    """A drawing that any browser shows.

    Each pCPU shows its owner when it is pointed at; the owners stand below,
    in their colours.

    :param name: of the host, for the title
    """
    return _Drawing(name, state).text()


class _Drawing:
    def __init__(self, name: str, state: usage.HostState) -> None:
        self.root = ElementTree.Element(
            'svg', xmlns='http://www.w3.org/2000/svg')
        self._add(self.root, 'title', name)
        self._add(self.root, 'style', _STYLE)
        self.owners: dict[str, str] = {}
        self.marks: dict[str, str] = {}
        self.width = 320
        self.bottom = _MARGIN
        self._line(name, 'head')
        for node in state.nodes:
            self._node(node)
        self._legend()
        width, height = self.width + _MARGIN, self.bottom + _MARGIN
        self.root.set('viewBox', f'0 0 {width} {height}')
        self.root.set('width', str(width))
        self.root.set('height', str(height))

    def text(self) -> str:
        ElementTree.indent(self.root)
        return ElementTree.tostring(self.root, encoding='unicode')

    @staticmethod
    def _add(parent: ElementTree.Element, kind: str, text: str | None = None,
             **attributes: str | int) -> ElementTree.Element:
        element = ElementTree.SubElement(parent, kind, {
            key.rstrip('_'): str(value) for key, value in attributes.items()})
        # What XML can not hold, and what would turn the line round.
        element.text = None if text is None else exception.printable(text)
        return element

    def _line(self, text: str, class_: str = '') -> None:
        self.bottom += _LINE
        self.width = max(self.width, _MARGIN + _LETTER * len(text))
        self._add(self.root, 'text', text, x=_MARGIN, y=self.bottom - 6,
                  class_=class_)

    def _node(self, node: usage.NodeState) -> None:
        left = node.memory_mib - node.memory_used_mib
        self.bottom += _GAP
        self._line(f'node {node.id}: {left} of {node.memory_mib} MiB free, '
                   f'{node.n_free} of {len(node.dedicated)} dedicated pCPUs '
                   f'free', 'head')
        for text in pages.words(node):
            self._line(text)
        cores = [*node.cores(),
                 *((pcpu,) for pcpu in sorted(node.offline()))]
        for start in range(0, len(cores), _PER_ROW):
            self._row(node, cores[start:start + _PER_ROW])

    def _row(self, node: usage.NodeState,
             cores: Sequence[Sequence[int]]) -> None:
        for number, core in enumerate(cores):
            x = _MARGIN + number * (_WIDTH + _GAP)
            self.width = max(self.width, x + _WIDTH)
            for thread, pcpu in enumerate(core):
                self._pcpu(node, pcpu, x, self.bottom + thread * _HEIGHT)
            self._add(self.root, 'rect', x=x, y=self.bottom, width=_WIDTH,
                      height=_HEIGHT * len(core), rx=3, class_='core')
        self.bottom += _HEIGHT * max(map(len, cores)) + _GAP

    def _pcpu(self, node: usage.NodeState, pcpu: int, x: int, y: int) -> None:
        colour, words = self._owner(node, pcpu)
        group = self._add(self.root, 'g')
        if pcpu in node.unpowered:
            words += ', without power'
        self._add(group, 'title', f'pCPU {pcpu}: {words}')
        self._add(group, 'rect', x=x, y=y, width=_WIDTH, height=_HEIGHT,
                  fill=colour)
        self._add(group, 'text', str(pcpu), x=x + _WIDTH // 2, y=y + 16,
                  class_='pcpu')

    def _owner(self, node: usage.NodeState, pcpu: int) -> tuple[str, str]:
        """Colour and words of a pCPU."""
        if pcpu in node.taken and pcpu in node.owners:
            owner = node.owners[pcpu]
            # The golden angle keeps neighbours apart, however many.
            hue = len(self.owners) * 137.508 % 360
            return self.owners.setdefault(
                owner, f'hsl({hue:.0f}, 70%, 78%)'), owner
        if pcpu in node.taken:
            colour, words = _TAKEN, 'taken'
        elif pcpu in node.offline() or pcpu in node.unpowered:
            colour, words = _OTHER, 'off'
        elif pcpu in node.shared:
            colour, words = _SHARED, 'shared'
        elif pcpu in node.dedicated:
            colour, words = _FREE, 'free'
        else:
            colour, words = _OTHER, 'not for servers'
        self.marks[words] = colour
        return colour, words

    def _legend(self) -> None:
        self.bottom += _GAP
        for words, colour in {**self.owners, **self.marks}.items():
            self._add(self.root, 'rect', x=_MARGIN, y=self.bottom + 3,
                      width=14, height=14, fill=colour)
            self.bottom += _LINE
            self._add(self.root, 'text', words, x=_MARGIN + 20,
                      y=self.bottom - 5)
            self.width = max(self.width,
                             _MARGIN + 20 + _LETTER * len(words))
