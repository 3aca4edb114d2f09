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

"""A template as a document, for people and for MANOs: YAML or JSON.

::

    version: 1
    cells:
      0:
        node: 1
        pin: "0:4 1:36 2-3:5-6"
    emulator: shared
    profiles:
      night:
        when: Mon-Fri 22:00-06:00 Asia/Shanghai
        cells: {0: {pin: "0-3~4"}}

Its structure is that of the JSON Schema in :mod:`kongming.template.schema`;
the values are written as on a flavor.  A pin map may also be a mapping,
``{0: 4, 1: 36}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import re
from typing import Any

import jsonschema

from kongming import exception
from kongming.template import markup
from kongming.template import schema
from kongming.template import template

THE_WHOLE = markup.THE_WHOLE


def _is_integer(_checker: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


#: JSON Schema 2020-12, where 2.0 is no whole number: nothing of ours could go
#: on with it.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        'integer', _is_integer))


def validator(schema_of_it: Mapping[str, Any]) -> Any:
    """A validator of values as :func:`load` returns them."""
    return _Validator(schema_of_it)


def parse(text: str) -> template.Template:
    """Read a document.

    :raises kongming.exception.InvalidTemplate: with every problem found, each
        named by its place in the document or by the key that the flavor would
        get
    """
    return from_document(load(text))


def load(text: str) -> Any:
    """What YAML or JSON says, with text for keys.

    :raises kongming.exception.InvalidTemplate: if it is neither
    """
    return markup.load(text)


def from_document(loaded: Any) -> template.Template:
    """The same for a document that is loaded already."""
    contents = _with_text_keys(loaded)
    problems = [explain(error) for error in
                validator(schema.load()).iter_errors(contents)]
    if problems:
        # The values of what the schema refused can't be read from it, but
        # those of the rest can.
        contents = _without_bad(contents)
    try:
        result = template.decode(dict(_flatten(contents)))
    except exception.InvalidTemplate as exc:
        raise exception.InvalidTemplate(
            [*problems, *exc.problems]) from exc
    if problems:
        raise exception.InvalidTemplate(problems)
    return result


def _with_text_keys(loaded: Any) -> Any:
    """Programs have numbers for keys, JSON and its schema have strings."""
    if isinstance(loaded, Mapping):
        found: dict[str, Any] = {}
        for key, value in loaded.items():
            if str(key) in found:
                raise exception.InvalidTemplate([exception.Problem(
                    str(key), str(value), 0,
                    'it stands a second time, as text and as a number')])
            found[str(key)] = _with_text_keys(value)
        return found
    if isinstance(loaded, list):
        return [_with_text_keys(value) for value in loaded]
    return loaded


_WORDS = {'object': 'a mapping', 'string': 'text', 'array': 'a list',
          'integer': 'a whole number', 'boolean': 'true or false'}


def explain(error: jsonschema.ValidationError) -> exception.Problem:
    """A problem in our words: place, value, what is allowed."""
    where = '.'.join(map(str, error.absolute_path)) or THE_WHOLE
    shown = _shown(error.instance)
    if error.validator == 'additionalProperties':
        known = error.schema.get('properties', {})
        names = [*known, *([error.schema['names']]
                           if 'names' in error.schema else [])]
        extra = [key for key in error.instance if key not in known
                 and not any(re.search(pattern, key) for pattern in
                             error.schema.get('patternProperties', {}))]
        reason = (f'{", ".join(extra)} can not stand here, '
                  f'{", ".join(names)} can')
        shown = '...'
    elif error.validator == 'const':
        reason = f'only version {schema.VERSION} is known'
    elif error.validator == 'required':
        missing = [key for key in error.validator_value
                   if key not in error.instance]
        reason = f'{", ".join(missing)} must be said'
        shown = '...'
    elif error.validator == 'minimum':
        reason = f'it must be {error.validator_value} or more'
    elif error.validator == 'pattern':
        reason = f'it must be {error.schema["form"]}'
    elif error.validator == 'enum':
        reason = f'it must be one of {", ".join(error.validator_value)}'
    elif error.validator == 'anyOf':
        deeper = max(error.context, key=lambda inner: len(inner.path))
        if deeper.path:
            return explain(deeper)
        kinds = [_WORDS[inner['type']] for inner in error.validator_value]
        reason = f'it must be {" or ".join(kinds)}'
    else:
        wanted = error.validator_value
        reason = 'it must be ' + ' or '.join(
            _WORDS[kind] for kind in
            ([wanted] if isinstance(wanted, str) else wanted))
    return exception.Problem(where, shown, 0, reason)


def _shown(value: Any) -> str:
    """A value as a document has it."""
    if value is None or isinstance(value, bool):
        return 'null' if value is None else str(value).lower()
    return '...' if isinstance(value, (list, Mapping)) else str(value)


def _without_bad(contents: Any) -> dict[str, Any]:
    """What is left of a document without the parts that the schema refuses.

    Each part by itself: taking away one may make another one right.
    """
    if not isinstance(contents, dict):
        return {}
    left: dict[str, Any] = {}
    checks = validator(schema.load())
    for key, value in contents.items():
        if key in ('cells', 'iothreads', 'profiles') and isinstance(
                value, dict):
            remaining = {inner: entry for inner, entry in value.items()
                         if checks.is_valid({key: {inner: entry}})}
            left[key] = remaining
        elif checks.is_valid({key: value}):
            left[key] = value
    return left


def _flatten(contents: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The flat keys of a document that its schema has let pass."""
    for key, value in contents.items():
        if key == 'cells':
            yield from _flatten_cells(template.PREFIX, value)
        elif key == 'iothreads':
            for number, threads in value.items():
                yield f'{template.PREFIX}iothread.{number}', str(threads)
        elif key == 'profiles':
            for name, profile in value.items():
                yield from _flatten_profile(
                    f'{template.PREFIX}profile.{name}.', profile)
        elif key != 'version':
            yield template.PREFIX + key, _text(value, ' ')


def _flatten_profile(prefix: str,
                     profile: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in profile.items():
        if key == 'cells':
            yield from _flatten_cells(prefix, value)
        else:
            yield prefix + key, _text(value, '; ')


def _flatten_cells(prefix: str,
                   cells: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for number, cell in cells.items():
        for key, value in cell.items():
            yield f'{prefix}{key}.{number}', _text(value, ' ')


def _text(value: Any, separator: str) -> str:
    if isinstance(value, Mapping):
        return ' '.join(f'{vcpu}:{pcpu}' for vcpu, pcpu in value.items())
    if isinstance(value, list):
        return separator.join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def to_document(desired: template.Template) -> dict[str, Any]:
    """A document that :func:`from_document` reads back the same."""
    document: dict[str, Any] = {'version': schema.VERSION}
    for full_key, value in template.encode(desired, most=None).items():
        where = document
        parts = full_key.removeprefix(template.PREFIX).split('.')
        if parts[0] == 'profile':
            where = where.setdefault('profiles', {}).setdefault(parts[1], {})
            parts = parts[2:]
        if parts[0] == 'iothread':
            where.setdefault('iothreads', {})[int(parts[1])] = value
        elif len(parts) > 1:
            cell = where.setdefault('cells', {}).setdefault(int(parts[1]), {})
            cell[parts[0]] = int(value) if parts[0] == 'node' else value
        else:
            where[parts[0]] = value == 'true' if parts[0] == 'lend' else value
    return document
