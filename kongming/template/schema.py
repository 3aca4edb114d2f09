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

"""The JSON Schema of a template, shipped in the package.

It is the one list of the keys: nova-api's validators, the documentation and
the check of documents all read it.
"""

from __future__ import annotations

from collections.abc import Iterator
import functools
from importlib import resources
import json
import re
from typing import Any
from typing import NamedTuple

VERSION = 1


class Key(NamedTuple):
    """A flat key as the schema describes it.

    :ivar name: with placeholders, such as ``kongming:pin.{cell}``
    """

    name: str
    description: str
    examples: tuple[str, ...]

    @property
    def placeholders(self) -> list[str]:
        return re.findall('{([a-z]+)}', self.name)


@functools.cache
def load(name: str = f'template-v{VERSION}',
         package: str = 'kongming.template') -> dict[str, Any]:
    """A schema, as JSON Schema 2020-12.

    :param name: of a file, without ``.json``
    :param package: the package that it lies in
    """
    text = resources.files(package).joinpath(
        f'{name}.json').read_text(encoding='utf-8')
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def keys() -> list[Key]:
    """Every flat key, in the order of the schema."""
    return list(_keys(load()))


def _keys(schema: dict[str, Any]) -> Iterator[Key]:
    if 'key' in schema:
        yield Key(schema['key'], schema['description'],
                  tuple(schema['examples']))
    for group in ('properties', 'patternProperties'):
        for inner in schema.get(group, {}).values():
            yield from _keys(inner)
