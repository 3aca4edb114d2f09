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

"""What runs on this host, as libvirt and the kernel show it."""

from typing import NamedTuple

from kongming.cli import source
from kongming.domain import domain as domain_mod
from kongming import exception
from kongming.host import capabilities
from kongming.host import topology
from kongming.host import usage
from kongming.kernel import process
from kongming.libvirt import hypervisor


class Look(NamedTuple):
    """:ivar state: the host as nova.conf divides it; where none is known,
        every pCPU is shared and to be owned
    """

    host: topology.Host
    state: usage.HostState
    running: list[domain_mod.Running]


def add_arguments(parser):
    parser.add_argument(
        '--connect', metavar='<uri>', default=hypervisor.URI,
        help=f'libvirt of this host (default: {hypervisor.URI}).')
    source.add_sets(parser, source.NOVA_CONF)


def look(args, memory=False):
    """Look at the host and all domains that run on it.

    :param memory: whether to ask for their memory, too; only root may
    :raises kongming.exception.KongmingError: if something can't be seen
    """
    sets = source.read_sets(args, source.NOVA_CONF)
    with hypervisor.connection(args.connect) as conn:
        host = capabilities.parse(conn.getCapabilities())
        running = [found for each, xml in hypervisor.running(conn)
                   if (found := _running(each, xml, memory))]
    state = usage.of_host(host, None, None) if sets is None else (
        usage.of_host(host, sets.dedicated, sets.shared, sets.reserved_pages,
                      sets.never))
    return Look(host, state, running)


def _running(domain, xml, memory):
    """None for a domain that has ended meanwhile."""
    spec = domain_mod.parse(xml)
    pid = process.pid(domain)
    if pid is None:
        if not domain.isActive():
            return None
        raise exception.NotVisible(
            name=spec.name, reason='its QEMU process is not known here')
    try:
        return domain_mod.Running(
            spec, tuple(process.tasks(pid)),
            tuple(process.ram(pid, min(spec.memory_kib))) if memory else ())
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as exc:
        raise exception.NotVisible(
            name=spec.name, reason=exc.strerror) from exc


def choose(running, names):
    """Those of these names or UUIDs; all where none is given.

    :raises kongming.exception.NotFound: if one does not run here
    """
    known = {key: each for each in running
             for key in (each.domain.name, each.domain.uuid)}
    for name in names:
        if name not in known:
            raise exception.NotFound(
                f"No domain '{name}' runs here; 'virsh list' names those "
                f'that do.')
    return [each for each in running if not names or
            {each.domain.name, each.domain.uuid} & set(names)]
