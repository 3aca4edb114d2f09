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

"""Extra-spec validators: nova-api answers 400 to a bad ``kongming:`` key.

nova-api loads this at start; a failure here would keep it from starting, and
anything but Nova's own ValidationError raised later would be a 500.
"""

from kongming import exception as km_exc
from kongming.template import schema
from kongming.template import template
from nova.api.validation.extra_specs import base
from nova import exception


class TemplateKey(base.ExtraSpecValidator):
    """One key of a template, its value read by the library's own parser."""

    def validate(self, name, value):
        try:
            template.check_entry(name, str(value))
        except km_exc.InvalidTemplate as exc:
            raise exception.ValidationError(str(exc))


_PARAMETERS = {
    'cell': {'name': 'cell', 'pattern': r'\d+',
             'description': 'A guest NUMA cell, counted from 0.'},
    'iothread': {'name': 'iothread', 'pattern': r'\d+',
                 'description': 'An I/O thread, counted from 1.'},
    'profile': {'name': 'profile', 'pattern': r'[^.]+',
                'description': 'The name of a profile.'},
    'part': {'name': 'part', 'pattern': r'\d+',
             'description': 'What part of a long value, counted from 1.'},
    'key': {'name': 'key', 'pattern': r'(?s:.*)', 'description': ''},
}


def _validator(name, description, examples=()):
    return TemplateKey(
        name=name, description=description,
        value={'type': str, 'description': ', '.join(examples)},
        parameters=[parameter for key, parameter in _PARAMETERS.items()
                    if f'{{{key}}}' in name])


def register():
    """What Nova asks of an ``extra_spec_validators`` entry point."""
    found = []
    for key in schema.keys():
        found.append(_validator(*key))
        if '.pin.' in key.name or ':pin.' in key.name:
            found.append(_validator(
                f'{key.name}.{{part}}', 'What a long pin map goes on with.'))
    # Whatever else there is under our namespace gets our own message.
    found.append(_validator('kongming:{key}', 'Anything else is refused.'))
    return found
