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
"""What this host has of caches and memory bandwidth for servers.

Nothing here changes anything: filter, claim and publisher ask it.
"""

from kongming import exception as km_exc
from kongming.host import usage
from kongming.kernel import resctrlfs
from kongming.resctrl import schemata
from kongming.template import cache_claims
from kongming.template import template
import nova.conf
from oslo_log import log as logging

from nova_ext import limits
from nova_ext import translate

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


def why_not():
    """Why this host gives no classes at all, or None."""
    if CONF.kongming.cache_classes == 0:
        return 'this host gives none ([kongming] cache_classes)'
    files = resctrlfs.Files()
    if not files.is_here():
        return (f'resctrl is not mounted on {files.root} of this host, or '
                f'the host has none')
    return None


def capacities(topology):
    """What each node has of it for servers; nothing where there is none.

    :param topology: nova.objects.NUMATopology of the host
    :returns: node -> kongming.host.usage.CacheCapacity
    :raises kongming.exception.ResctrlError: if it can't be read
    """
    if why_not():
        return {}
    tree = resctrlfs.survey(resctrlfs.Files(), memory_bandwidth())
    if tree is None:
        return {}
    return schemata.capacities(tree, caches(limits.host_state(topology)),
                               CONF.kongming.cache_classes)


def left(capacities_, claims_, node, uuid=None):
    """What is left of a node's caches beside what servers here claim.

    :param claims_: uuid -> node -> kongming.host.usage.CacheClaim
    :param uuid: of a server that is not counted
    """
    found = capacities_.get(node, usage.CacheCapacity())
    mine = [of_server[node] for other, of_server in list(claims_.items())
            if other != uuid and node in of_server]
    return found._replace(
        closids=found.closids - sum(claim.closids for claim in mine),
        l3=found.l3 - sum(claim.l3 for claim in mine))


def memory_bandwidth():
    return CONF.kongming.memory_bandwidth or 0


def caches(host):
    return schemata.caches({node.id: node.dedicated | node.shared
                           for node in host.nodes}, resctrlfs.l3_of())


def claims(specs, topology):
    """What each cell of a server claims.

    :param specs: its flavor's extra specs
    :param topology: nova.objects.InstanceNUMATopology
    :returns: cell -> kongming.host.usage.CacheClaim
    """
    if topology is None or not cache_claims.mentioned(specs):
        return {}
    try:
        desired = template.decode(specs)
    except km_exc.InvalidTemplate:
        return {}
    return cache_claims.claims(desired, translate.guest_of(topology))


class Published:
    """What is published of the host; what can't be read is as it was."""

    def __init__(self):
        self._last = {}

    def of(self, topology):
        """:returns: node -> kongming.host.usage.CacheCapacity"""
        try:
            self._last = capacities(topology)
        except Exception:
            LOG.exception('What the host has of caches could not be read; '
                          'Placement keeps what it was given before')
        return self._last
