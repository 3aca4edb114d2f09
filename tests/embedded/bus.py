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

"""What our code asks conductor for, as conductor gets it.

In one process arguments stay what they are.  Over the bus they become JSON:
a datetime in a dictionary is text then, a set is a list.
"""

import sys

import fixtures
from nova.objects import base
from oslo_messaging import serializer
from oslo_serialization import jsonutils

from tests.embedded import locked

_NOVA = base.NovaObjectSerializer()
_JSON = serializer.JsonPayloadSerializer()


def carried(context, value):
    """What of a value arrives, by way of Nova's serializers and JSON."""
    text = jsonutils.dumps(_JSON.serialize_entity(
        context, _NOVA.serialize_entity(context, value)))
    return _NOVA.deserialize_entity(context, jsonutils.loads(text))


class Bus(fixtures.Fixture):
    """Carries the arguments of each remotable method that nova_ext calls.

    Objects are Nova's to carry, and stay.
    """

    def _setUp(self):
        for owner, name in locked.remotable_methods():
            locked.wrap(self, owner, name, _carry)


def _carry(real, first, *args, **kwargs):
    """:param first: the class or the object"""
    if _is_ours(sys._getframe(1)):
        args = [_argument(each) for each in args]
        kwargs = {key: _argument(each) for key, each in kwargs.items()}
    return real(first, *args, **kwargs)


def _is_ours(frame):
    """Whether our code calls, apart from what counts calls in tests."""
    while frame is not None:
        module = frame.f_globals.get('__name__', '').partition('.')[0]
        if module not in ('tests', 'unittest', 'fixtures'):
            return module == 'nova_ext'
        frame = frame.f_back
    return False


def _argument(value):
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return carried(None, value)
    return value
