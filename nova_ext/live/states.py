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

"""In which of Nova's states a server may be changed."""

from nova.compute import vm_states

#: States in which a server's ownership changes.  A server that is rescued or
#: suspended goes on with the domain that was saved before, pins included.
CHANGEABLE = vm_states.ACTIVE, vm_states.PAUSED, vm_states.STOPPED


def is_idle(server):
    """Whether nothing else is being done to it.

    :param server: nova.objects.Instance
    """
    return server.task_state is None and (
        is_changeable(server) or server.vm_state == vm_states.RESCUED)


def is_changeable(server):
    """Whether its domain is defined anew whenever it starts."""
    return server.vm_state in CHANGEABLE
