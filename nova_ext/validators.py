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
from kongming import template
from nova.api.validation.extra_specs import base
from nova import exception


class TemplateKey(base.ExtraSpecValidator):
    """One key of a template, its value read by the library's own parser."""

    def validate(self, name, value):
        try:
            template.check_entry(name, str(value))
        except km_exc.InvalidTemplate as exc:
            raise exception.ValidationError(str(exc))


def _number(name, description):
    return {'name': name, 'pattern': r'\d+', 'description': description}


_CELL = _number('cell', 'A guest NUMA cell, counted from 0.')


def register():
    """What Nova asks of an ``extra_spec_validators`` entry point."""
    return [
        TemplateKey(
            name='kongming:node.{cell}',
            description='The host NUMA node that the cell is on.',
            value={'type': str, 'description': 'A host node id.'},
            parameters=[_CELL]),
        TemplateKey(
            name='kongming:pin.{cell}',
            description="The pins of the cell's vCPUs.",
            value={'type': str, 'description': '0:4 1:36 2-3:5-6'},
            parameters=[_CELL]),
        TemplateKey(
            name='kongming:pin.{cell}.{part}',
            description='What a pin map goes on with.',
            value={'type': str, 'description': '8:40 9:41'},
            parameters=[_CELL, _number('part', 'Counted from 1.')]),
        # Whatever else there is under our namespace gets our own message.
        TemplateKey(
            name='kongming:{key}',
            description='Anything else is refused, with the keys there are.',
            value={'type': str, 'description': ''},
            parameters=[{'name': 'key', 'pattern': '.*'}]),
    ]
