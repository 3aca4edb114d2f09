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

"""YAML and JSON, read as they are written.

A key is the text that stands there: ``on``, ``07`` and ``1`` are three names,
and none of them is a boolean or a number.  Of values only those are numbers
that YAML 1.1, YAML 1.2 and JSON read alike; ``1:30``, ``07``, ``0x10``, ``no``
and a date are text.  A key that stands twice is an error, since the last one
would win.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import re
from typing import Any

import yaml

from kongming import exception

#: The place of what is wrong with a document as a whole.
THE_WHOLE = 'the document'
#: Deeper than any document or descriptor, and far less than what exhausts
#: the stack of those that check it.
_DEPTH = 64
#: So many values are more than 10,000 servers; anchors that refer to each
#: other make more of them from a few lines.
_VALUES = 250_000
_INTEGER = re.compile(r'[-+]?(?:0|[1-9][0-9]{0,17})')


def load(text: str) -> Any:
    """What YAML or JSON says.

    :returns: mappings with text for keys, lists, text, whole numbers,
        fractions, booleans and None
    :raises kongming.exception.InvalidTemplate: if it is neither, or not one
        value a key
    """
    text = text.removeprefix('\N{ZERO WIDTH NO-BREAK SPACE}')
    if text.lstrip()[:1] in ('{', '['):
        try:
            return _json(text)
        except json.JSONDecodeError as exc:
            # A flow mapping of YAML begins so as well.
            also = (f'; nor is it JSON: line {exc.lineno}, column '
                    f'{exc.colno}: {exc.msg}')
        except RecursionError:
            raise _problem(THE_WHOLE, _TOO_DEEP) from None
        except _Repeated as exc:
            raise _repeated(text, exc) from exc
    else:
        also = ''
    try:
        return _yaml(text)
    except exception.InvalidTemplate:
        raise
    except RecursionError:
        raise _problem(THE_WHOLE, _TOO_DEEP) from None
    except yaml.YAMLError as exc:
        raise _problem(_place(text, exc),
                       f'it is neither YAML nor JSON: {_reason(exc)}{also}'
                       ) from exc


_TOO_DEEP = f'it is nested more than {_DEPTH} levels deep'


class _Repeated(Exception):
    """A key of a JSON object that stands twice."""


def _json(text: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in found:
            if key in result:
                raise _Repeated(key)
            result[key] = value
        return result

    def constant(name: str) -> Any:
        at = text.index(name)
        raise json.JSONDecodeError(f'{name} is no number', text, at)

    def integer(digits: str) -> int | str:
        return int(digits) if _INTEGER.fullmatch(digits) else digits

    loaded = json.loads(text, object_pairs_hook=pairs, parse_int=integer,
                        parse_constant=constant)
    _check_depth(loaded)
    return loaded


def _check_depth(loaded: Any) -> None:
    level = [loaded]
    for _depth in range(_DEPTH):
        level = [inner for outer in level if isinstance(outer, (dict, list))
                 for inner in (outer.values() if isinstance(outer, dict)
                               else outer)]
        if not level:
            return
    raise _problem(THE_WHOLE, _TOO_DEEP)


def _repeated(text: str, exc: _Repeated) -> exception.InvalidTemplate:
    """With the line: JSON whose tabs are blanks is YAML."""
    try:
        _yaml(text.replace('\t', ' '))
    except exception.InvalidTemplate as found:
        return found
    except (yaml.YAMLError, RecursionError):
        pass
    return _problem(THE_WHOLE, f"'{exc}' stands here a second time")


class _Loader(yaml.SafeLoader):
    """Resolves only what all versions of YAML, and JSON, read alike."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


# Of fractions: a double without an exponent has up to 21 digits there.
for _tag, _form, _first in (
        ('null', r'~|null|Null|NULL|', '~nN'),
        ('bool', r'true|True|TRUE|false|False|FALSE', 'tTfF'),
        ('int', _INTEGER.pattern, '-+0123456789'),
        ('float', r'[-+]?[0-9]{1,18}\.[0-9]{1,24}', '-+0123456789'),
        ('merge', '<<', '<')):
    _Loader.add_implicit_resolver(
        f'tag:yaml.org,2002:{_tag}', re.compile(f'(?:{_form})\\Z'),
        [*_first, *([''] if _tag == 'null' else [])])


def _yaml(text: str) -> Any:
    node = yaml.compose(text, _Loader)
    return None if node is None else _Values().value(node)


class _Values:
    """Makes values of YAML's nodes."""

    def __init__(self) -> None:
        self._left = _VALUES
        #: Nodes around the one that is being read.
        self._around: list[yaml.Node] = []

    def value(self, node: yaml.Node) -> Any:
        self._left -= 1
        if not self._left:
            raise _problem(_line(node), 'its anchors make more than '
                                        f'{_VALUES} values')
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if node in self._around:
            raise _problem(_line(node), 'it refers to itself')
        if len(self._around) == _DEPTH:
            raise _problem(_line(node), _TOO_DEEP)
        if node.tag not in ('tag:yaml.org,2002:map', 'tag:yaml.org,2002:seq'):
            raise _tagged(node)
        self._around.append(node)
        if isinstance(node, yaml.MappingNode):
            found: Any = self._mapping(node)
        else:
            found = [self.value(inner) for inner in node.value]
        self._around.pop()
        return found

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        found: dict[str, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem(_line(key), 'a key must be text')
            if key.value in found or (key.value == '<<' and merged):
                raise _problem(
                    _line(key), f"'{key.value}' stands here a second time")
            if key.tag == 'tag:yaml.org,2002:merge':
                merged = dict(self._merged(inner))
            else:
                found[key.value] = self.value(inner)
        return {**merged, **found}

    def _merged(self, node: yaml.Node) -> Iterator[tuple[str, Any]]:
        """What ``<<`` brings; of several mappings the first one wins."""
        parts = node.value if isinstance(
            node, yaml.SequenceNode) else [node]
        for part in reversed(parts):
            if not isinstance(part, yaml.MappingNode):
                raise _problem(_line(part),
                               'after << there must be a mapping')
            yield from self.value(part).items()


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.removeprefix('tag:yaml.org,2002:')
    text: str = node.value
    if kind in ('str', 'merge'):
        return text
    # A tag that somebody wrote is obeyed where the text is of that kind.
    if node.tag != _resolved(text):
        raise _tagged(node)
    if kind == 'int':
        return int(text)
    if kind == 'float':
        return float(text)
    return None if kind == 'null' else text.lower() == 'true'


def _resolved(text: str) -> str | None:
    for tag, form in _Loader.yaml_implicit_resolvers.get(text[:1], ()):
        if form.match(text):
            return tag
    return None


def _tagged(node: yaml.Node) -> exception.InvalidTemplate:
    tag = node.tag.replace('tag:yaml.org,2002:', '!!')
    return _problem(_line(node), f'the tag {tag} can not stand here; text, '
                                 f'numbers, lists and mappings can')


def _line(node: yaml.Node) -> str:
    mark = node.start_mark
    return f'line {mark.line + 1}, column {mark.column + 1}'


def _place(text: str, exc: yaml.YAMLError) -> str:
    mark = getattr(exc, 'problem_mark', None)
    if mark:
        return f'line {mark.line + 1}, column {mark.column + 1}'
    at = getattr(exc, 'position', None)
    if at is None:
        return THE_WHOLE
    before = text[:at].split('\n')
    return f'line {len(before)}, column {len(before[-1]) + 1}'


def _reason(exc: yaml.YAMLError) -> str:
    if isinstance(exc, yaml.reader.ReaderError):
        return f'the character U+{int(exc.character):04X} can not stand here'
    return getattr(exc, 'problem', None) or str(exc)


def _problem(where: str, reason: str) -> exception.InvalidTemplate:
    return exception.InvalidTemplate(
        [exception.Problem(where, '', 0, reason)])
