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

"""What nova.conf says of a host's pCPUs, read without Nova."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses

from oslo_config import cfg
from oslo_utils import strutils

from kongming import exception

#: The options that are needed here; Nova's own are in nova/conf/compute.py.
_OPTS = {
    'compute': [cfg.StrOpt('cpu_dedicated_set'), cfg.StrOpt('cpu_shared_set')],
    'kongming': [cfg.StrOpt('never_pcpus'), cfg.StrOpt('metrics_file')],
    None: [cfg.MultiOpt('reserved_huge_pages', item_type=cfg.types.Dict())],
}


@dataclasses.dataclass(frozen=True)
class CpuSets:
    """What Nova may use of a host.

    :ivar dedicated: ``[compute] cpu_dedicated_set``, None where not set
    :ivar shared: ``[compute] cpu_shared_set``, None where not set
    :ivar reserved_pages: (node, page size in KiB) -> number of pages that Nova
        may not give out, ``reserved_huge_pages``
    :ivar never: ``[kongming] never_pcpus``
    """

    dedicated: frozenset[int] | None
    shared: frozenset[int] | None
    reserved_pages: dict[tuple[int, int], int]
    never: frozenset[int] = frozenset()


def read(files: Iterable[str]) -> CpuSets:
    """Read them from configuration files, later files winning.

    :raises kongming.exception.InvalidOption: if a value is malformed
    :raises kongming.exception.CloudError: if a file can't be read
    """
    conf = _conf(files)
    try:
        pages = conf.reserved_huge_pages or []
    except cfg.Error as exc:
        raise exception.CloudError(str(exc)) from exc
    return CpuSets(
        cpu_set('[compute] cpu_dedicated_set',
                conf.compute.cpu_dedicated_set),
        cpu_set('[compute] cpu_shared_set', conf.compute.cpu_shared_set),
        _reserved_pages(pages), never_pcpus(conf.kongming.never_pcpus))


def metrics_file(files: Iterable[str]) -> str | None:
    """Where nova-compute writes its figures; None where it doesn't.

    :raises kongming.exception.CloudError: if a file can't be read
    """
    found: str | None = _conf(files).kongming.metrics_file
    return found


def _conf(files: Iterable[str]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    for group, opts in _OPTS.items():
        conf.register_opts(opts, group=group)
    try:
        conf([], project='nova', default_config_files=list(files),
             default_config_dirs=[])
    except cfg.Error as exc:
        raise exception.CloudError(str(exc)) from exc
    return conf


def never_pcpus(spec: str | None) -> frozenset[int]:
    """``[kongming] never_pcpus``; none where it is not set.

    :raises kongming.exception.InvalidOption: if it is malformed
    """
    return cpu_set('[kongming] never_pcpus', spec) or frozenset()


def cpu_set(option: str, spec: str | None) -> frozenset[int] | None:
    """``4-12,^8,15`` as nova.conf has it; None stays None.

    :param option: its name, for the error
    :raises kongming.exception.InvalidOption: if it is malformed
    """
    if spec is None:
        return None
    sets: dict[bool, set[int]] = {False: set(), True: set()}
    for rule in filter(None, map(str.strip, spec.split(','))):
        low, dash, high = rule.removeprefix('^').partition('-')
        try:
            first = int(low)
            last = int(high) if dash else first
            if last < first:
                raise ValueError
        except ValueError:
            raise exception.InvalidOption(
                option=option, value=spec,
                reason=f"'{rule}' is no pCPU, no range and no exclusion "
                       f"(for instance 4-12,^8,15)") from None
        sets[rule.startswith('^')].update(range(first, last + 1))
    return frozenset(sets[False] - sets[True])


def _reserved_pages(entries: Iterable[dict[str, str]]) -> dict[
        tuple[int, int], int]:
    reserved = {}
    for entry in entries:
        try:
            size = entry['size']
            kib = int(size) if size.isdigit() else strutils.string_to_bytes(
                size, return_int=True) // 1024
            reserved[int(entry['node']), kib] = int(entry['count'])
        except (KeyError, ValueError) as exc:
            raise exception.InvalidOption(
                option='reserved_huge_pages',
                value=','.join(f'{k}:{v}' for k, v in entry.items()),
                reason='node:N,size:KIB,count:N is meant') from exc
    return reserved
