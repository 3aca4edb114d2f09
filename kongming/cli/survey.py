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

import dataclasses
from typing import NamedTuple

from kongming.cli import source
from kongming.domain import domain as domain_mod
from kongming import exception
from kongming.host import capabilities
from kongming.host import topology
from kongming.host import usage
from kongming.kernel import process
from kongming.libvirt import hypervisor
from kongming.libvirt import memory as memory_mod


class Look(NamedTuple):
    """:ivar state: the host as nova.conf divides it; where none is known,
        every pCPU is shared and to be owned
    :ivar pids: of their processes, in the order of ``running``
    """

    host: topology.Host
    state: usage.HostState
    running: list[domain_mod.Running]
    pids: list[int]


def add_arguments(parser):
    parser.add_argument(
        '--connect', metavar='<uri>', default=hypervisor.URI,
        help=f'libvirt of this host (default: {hypervisor.URI}).')
    source.add_sets(parser, source.NOVA_CONF)


def look(args, memory=False, parse=domain_mod.parse):
    """Look at the host and all domains that run on it.

    :param memory: whether to ask for their memory, too; only root may
    :param parse: of a domain's XML; whoever looks again and again may
        remember what it said
    :raises kongming.exception.KongmingError: if something can't be seen
    """
    sets = source.read_sets(args, source.NOVA_CONF)
    with hypervisor.connection(args.connect) as conn:
        host = capabilities.parse(conn.getCapabilities())
        found = [found for each, xml in hypervisor.running(conn)
                 if (found := _running(each, xml, memory, parse))]
    state = usage.of_host(host, None, None) if sets is None else (
        usage.of_host(host, sets.dedicated, sets.shared, sets.reserved_pages,
                      sets.never))
    return Look(host, state, [running for _pid, running in found],
                [pid for pid, _running in found])


def _running(domain, xml, memory, parse):
    """None for a domain that has ended meanwhile."""
    spec = parse(xml)
    pid = process.pid(domain)
    if pid is None:
        if not hypervisor.is_active(domain):
            return None
        raise exception.NotVisible(
            name=spec.name, reason='its QEMU process is not known here')
    try:
        spec = _as_defined(domain, spec, parse)
        return pid, domain_mod.Running(
            spec, tuple(process.tasks(pid)),
            tuple(process.ram(pid, min(spec.memory_kib))) if memory else ())
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as exc:
        raise exception.NotVisible(
            name=spec.name, reason=exc.strerror) from exc


def _as_defined(domain, spec, parse):
    """How its memory is bound, by what is defined.

    libvirt's XML of a domain that runs names the nodes of its start, though
    its memory has moved.
    """
    import libvirt

    try:
        if not domain.isPersistent():
            return spec
        later = parse(domain.XMLDesc(memory_mod.INACTIVE))
    except libvirt.libvirtError:
        return spec  # it has ended meanwhile
    return dataclasses.replace(spec, mode=later.mode, nodes=later.nodes,
                               memnodes=later.memnodes)


def choose(running, names):
    """Those of these names or UUIDs; all where none is given.

    A name is a domain's, or that of a server of Nova's.

    :raises kongming.exception.NotFound: if one does not run here, or several
        servers have that name
    """
    chosen = []
    for name in names:
        found = [each for each in running
                 if name in (each.domain.name, each.domain.uuid)] or [
            each for each in running
            if each.domain.flavor and each.domain.flavor.server == name]
        if not found:
            raise exception.NotFound(
                f"No domain '{exception.printable(name)}' runs here; "
                f"'virsh list' names those that do.")
        if len(found) > 1:
            domains = ', '.join(each.domain.name for each in found)
            raise exception.NotFound(
                f"Several servers here have the name "
                f"'{exception.printable(name)}': {domains}; say which by its "
                f'domain.')
        chosen += found
    return [each for each in running if not names or each in chosen]
