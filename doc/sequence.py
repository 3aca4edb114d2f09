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

"""A picture of who does what in which order, made of text.

``python doc/sequence.py TEXT > PICTURE.svg``; the form of the text is at the
beginning of ``doc/source/contributor/way.txt``.
"""

import html
import sys

_LANE, _ROW, _TOP, _SIDE = 190, 34, 56, 12
_BOX, _LETTER = 176, 5.9
_STYLE = (
    'text{font:11px sans-serif;fill:#1c2126}.lane{font-weight:bold;'
    'font-size:13px;text-anchor:middle}.part{font-weight:bold;'
    'font-size:13px}.mid{text-anchor:middle}line{stroke:#59616b}'
    '.life{stroke-dasharray:3 4;stroke:#aab2bb}.box{fill:#dbeafe;'
    'stroke:#59616b}.band{fill:#eef1f4}.bg{fill:#fff}')


def svg(text):
    """The picture of a text.

    :raises ValueError: naming the line that is none of the three forms
    """
    lanes, rows = _read(text)
    width = _LANE * len(lanes) + 2 * _SIDE
    out, y = [], _TOP
    middle = {lane: _SIDE + _LANE * (n + 0.5) for n, lane in enumerate(lanes)}
    for kind, *words in rows:
        height = 16 * len(_wrapped(words[-1])) if kind == 'box' else 0
        y += max(_ROW, height + 18)
        if kind == 'part':
            out.append(f'<rect class="band" x="0" y="{y - 18}" '
                       f'width="{width}" height="24"/>')
            out.append(_text(_SIDE, y, words[0], 'part'))
        elif kind == 'box':
            lane, what = words
            lines = _wrapped(what)
            top = y - 8 * len(lines) - 4
            out.append(
                f'<rect class="box" rx="4" x="{middle[lane] - _BOX / 2:g}" '
                f'y="{top - 4}" width="{_BOX}" '
                f'height="{16 * len(lines) + 6}"/>')
            out += [_text(middle[lane], top + 10 + 16 * n, line, 'mid')
                    for n, line in enumerate(lines)]
        else:
            source, target, what = words
            a, b = middle[source], middle[target]
            out.append(f'<line x1="{a:g}" y1="{y}" x2="{b:g}" y2="{y}" '
                       f'marker-end="url(#head)"/>')
            at = min(max((a + b) / 2, len(what) * _LETTER / 2 + 4),
                     width - len(what) * _LETTER / 2 - 4)
            out.append(f'<rect class="bg" x="{at - len(what) * 2.8:g}" '
                       f'y="{y - 16}" width="{len(what) * 5.6:g}" '
                       f'height="12"/>')
            out.append(_text(at, y - 6, what, 'mid'))
    bottom = y + 24
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{bottom}" viewBox="0 0 {width} {bottom}">',
        f'<style>{_STYLE}</style>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" '
        'markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#59616b"/></marker></defs>',
        f'<rect class="bg" width="{width}" height="{bottom}"/>']
    for lane, x in middle.items():
        head.append(_text(x, 26, lane, 'lane'))
        head.append(f'<line class="life" x1="{x:g}" y1="36" x2="{x:g}" '
                    f'y2="{bottom - 8}"/>')
    return '\n'.join([*head, *out, '</svg>']) + '\n'


def _read(text):
    """The lanes, and (kind, words ...) for each line."""
    lanes, rows = [], []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        if line.startswith('== '):
            rows.append(('part', line[3:]))
            continue
        where, colon, what = line.partition(': ')
        if where == 'lanes':
            lanes = [lane.strip() for lane in what.split('|')]
            continue
        parties = [party.strip() for party in where.split('->')]
        if not colon or len(parties) > 2 or not set(parties) <= set(lanes):
            raise ValueError(f'line {number}: {line}')
        rows.append(('box' if len(parties) == 1 else 'arrow', *parties, what))
    return lanes, rows


def _wrapped(text):
    """Lines that fit into a box."""
    most, lines = int(_BOX / _LETTER), ['']
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    return lines


def _text(x, y, text, kind):
    return (f'<text class="{kind}" x="{x:g}" y="{y:g}">'
            f'{html.escape(text)}</text>')


if __name__ == '__main__':
    with open(sys.argv[1], encoding='utf-8') as source:
        sys.stdout.write(svg(source.read()))
