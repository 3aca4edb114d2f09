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

"""What counts of what servers had before nova-compute started.

It is read from their instance actions, of a server once.
"""

from oslo_log import log as logging

from nova_ext.live import history

LOG = logging.getLogger(__name__)


def changes(context, servers):
    """(server, seconds since each of its changes, newest first).

    Without those of which Nova does not tell.

    :param servers: nova.objects.Instance
    """
    for server in servers:
        try:
            ages = history.changes(context, server.uuid)
        except Exception as exc:
            LOG.warning('Earlier changes of the server are not known: %s',
                        exc, instance=server)
            continue
        yield server, ages


def rates(context, intents, servers):
    """Changes before count for the rate limits.

    :param intents: nova_ext.live.intents.Intents
    :param servers: nova.objects.Instance
    """
    for server, ages in changes(context, filter(intents.needs_history,
                                                servers)):
        intents.restore(server, ages)


def by_load(context, load, servers, host, restore_budget):
    """Switches by load before count, and the budget that they need.

    :param load: nova_ext.live.load.Load
    :param servers: nova.objects.Instance, all with a template
    :param host: this one's name
    :param restore_budget: called with the servers
    """
    unknown = [server for server in servers
               if load.needs_history(server.uuid)]
    if unknown:
        restore_budget(servers)
    for server in unknown:
        try:
            found = history.by_load(context, server.uuid)
        except Exception as exc:
            LOG.warning('Earlier switches by the load of the server '
                        'are not known: %s', exc, instance=server)
            continue
        load.restore(server.uuid, [
            (age, words, where == host) for age, words, where in found])
