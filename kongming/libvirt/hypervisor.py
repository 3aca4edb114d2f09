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

"""libvirt of a host: connections, what it says of the host, its domains."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from typing import Any

from kongming import exception
from kongming.host import capabilities
from kongming.host import topology

URI = 'qemu:///system'

#: virConnectListAllDomainsFlags
_ACTIVE = 1


def load(uri: str = URI) -> Any:
    """The module ``libvirt``, which then prints nothing.

    :raises kongming.exception.HypervisorError: if it is not installed
    """
    try:
        import libvirt
    except ImportError as exc:
        raise exception.HypervisorError(
            uri=uri, reason='libvirt-python is not installed (pip install '
                            'kongming[libvirt])') from exc
    # libvirt prints what it also raises.
    libvirt.registerErrorHandler(lambda *_: None, None)
    return libvirt


@contextlib.contextmanager
def connection(uri: str = URI, write: bool = False) -> Iterator[Any]:
    """A connection to libvirt, for as long as the block lasts.

    :raises kongming.exception.HypervisorError: for each error of libvirt's in
        the block, too
    """
    libvirt = load(uri)
    try:
        opened = (libvirt.open if write else libvirt.openReadOnly)(uri)
    except libvirt.libvirtError as exc:
        raise exception.HypervisorError(
            uri=uri, reason=f'{exc}; is libvirtd running, and may you talk '
                            f'to it (as root, or in the group libvirt)?'
        ) from exc
    try:
        yield opened
    except libvirt.libvirtError as exc:
        raise exception.HypervisorError(uri=uri, reason=str(exc)) from exc
    finally:
        # What it says to a libvirtd that is gone is no news.
        with contextlib.suppress(libvirt.libvirtError):
            opened.close()


def host(uri: str = URI) -> tuple[str, topology.Host]:
    """The host's name, as Nova knows it, and its NUMA nodes.

    :raises kongming.exception.HypervisorError: if libvirt doesn't answer
    :raises kongming.exception.InvalidTopology: if it reports no NUMA nodes
    """
    with connection(uri) as conn:
        return (conn.getHostname(),
                capabilities.parse(conn.getCapabilities()))


def domain(conn: Any, name: str) -> Any:
    """A domain by its name or UUID, a ``libvirt.virDomain``.

    :raises kongming.exception.HypervisorError: if there is none
    """
    import libvirt
    for look_up in (conn.lookupByName, conn.lookupByUUIDString):
        try:
            return look_up(name)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN,
                                            libvirt.VIR_ERR_INVALID_ARG):
                raise
    raise exception.HypervisorError(
        uri=conn.getURI(), reason=f"there is no domain '{name}'; 'virsh list "
                                  f"--all' names those that there are")


def running(conn: Any) -> list[tuple[Any, str]]:
    """The domains that run, each with its XML."""
    import libvirt
    found = []
    for each in conn.listAllDomains(_ACTIVE):
        try:
            found.append((each, each.XMLDesc(0)))
        except libvirt.libvirtError as exc:
            # It has ended meanwhile.
            if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    return found


def is_active(domain: Any) -> bool:
    """Whether a domain runs; one that is gone does not."""
    import libvirt
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return False
