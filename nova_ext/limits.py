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

"""This host's limits on templates, as ``[kongming]`` in its nova.conf says.

For nova-compute only: a scheduler's own nova.conf says nothing of the hosts.
"""

import functools

from kongming.compute import nova_conf
from kongming import conf as km_conf
from kongming.host import usage
from kongming.intent import limits
from kongming.kernel import resctrlfs
from kongming.template import template
import nova.conf

from nova_ext import translate

CONF = nova.conf.CONF
km_conf.register_opts(CONF)


def of_host():
    """:returns: kongming.intent.limits.Limits"""
    return limits.Limits(CONF.kongming.max_weight,
                         CONF.kongming.max_realtime_priority)


def never():
    """pCPUs that no template may have.

    :raises kongming.exception.InvalidOption: if the option is malformed
    """
    return nova_conf.never_pcpus(CONF.kongming.never_pcpus)


def host_state(topology, owners=usage.NOBODY):
    """What a template can have of this host; see translate.host_state."""
    return translate.host_state(topology, owners, never(), l3())


@functools.lru_cache(1)
def l3():
    """pCPU -> number of its L3 cache, of this host."""
    return resctrlfs.l3_of()


def decode(specs):
    """A flavor's template, as far as this host allows it.

    :returns: kongming.template.template.Template, and what was beyond the
        limits
    :raises kongming.exception.InvalidTemplate: if it is none
    """
    return limits.within(template.decode(specs), of_host())
