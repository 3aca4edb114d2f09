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

"""Arguments that say where a host's topology is to be had."""

import dataclasses
import os
import sys

from kongming.compute import nova_conf
from kongming import exception
from kongming.host import capabilities
from kongming.host import topology
from kongming.host import usage
from kongming.libvirt import hypervisor

NOVA_CONF = '/etc/nova/nova.conf'


def add_arguments(parser, uri=None):
    """:param uri: libvirt's, where nothing is said; None for no default"""
    where = parser.add_mutually_exclusive_group(required=uri is None)
    where.add_argument(
        '--capabilities', metavar='<file>',
        help="What 'virsh capabilities' prints on the host, as a file; - for "
             "standard input.")
    where.add_argument(
        '--connect', metavar='<uri>', default=uri,
        help='libvirt of the host, for instance qemu+ssh://compute1/system'
             + (f' (default: {uri}).' if uri else '.'))
    add_sets(parser, NOVA_CONF if uri else None)


def add_sets(parser, default_conf=None):
    """Arguments that say which pCPUs Nova may use of a host."""
    parser.add_argument(
        '--config-file', metavar='<file>', action='append',
        help="The host's nova.conf, for its [compute] cpu_dedicated_set and "
             "cpu_shared_set; can be repeated"
             + (f' (default: {default_conf}).' if default_conf else '.'))
    parser.add_argument(
        '--dedicated', metavar='<cpus>',
        help="cpu_dedicated_set, instead of nova.conf's; for instance "
             "4-31,^8.")
    parser.add_argument(
        '--shared', metavar='<cpus>',
        help="cpu_shared_set, instead of nova.conf's.")


def read(args, default_conf=None):
    """(the host's name as far as known, kongming.host.usage.HostState).

    :param default_conf: nova.conf to read where no file is named
    :raises kongming.exception.KongmingError: if the host can't be read
    """
    name, host = read_host(args)
    sets = read_sets(args, default_conf)
    if sets is None:
        raise exception.CloudError(
            'Which pCPUs Nova may use is not known: name the host\'s '
            'nova.conf with --config-file, or say --dedicated and '
            '--shared.')
    stray = (sets.dedicated or frozenset()) - host.pcpus
    if stray:
        # nova-compute would go without them, too, but an option that was
        # mistyped should not look as if it had worked.
        print(f'The host has no pCPU {topology.format_cpu_list(stray)} '
              f'online; going without.', file=sys.stderr)
    return name, usage.of_host(host, sets.dedicated, sets.shared,
                               sets.reserved_pages, sets.never)


def read_host(args):
    """(the host's name as far as known, kongming.host.topology.Host)."""
    if args.capabilities:
        return None, capabilities.parse(
            read_text(args.capabilities))
    return hypervisor.host(args.connect)


def read_sets(args, default_conf=None):
    """What the arguments of :func:`add_sets` say.

    :returns: kongming.compute.nova_conf.CpuSets; None where nothing was said
        and there is no file at ``default_conf``
    """
    files = args.config_file or []
    if not files and not (args.dedicated or args.shared):
        if default_conf is None or not os.path.exists(default_conf):
            return None
        files = [default_conf]
    sets = nova_conf.read(files)
    if args.dedicated:
        sets = dataclasses.replace(sets, dedicated=nova_conf.cpu_set(
            '--dedicated', args.dedicated))
    if args.shared:
        sets = dataclasses.replace(sets, shared=nova_conf.cpu_set(
            '--shared', args.shared))
    return sets


def read_text(path):
    """What is in a file; - stands for standard input."""
    try:
        if path == '-':
            return sys.stdin.read()
        with open(path, encoding='utf-8') as file:
            return file.read()
    except OSError as exc:
        raise exception.CloudError(f'{path}: {exc.strerror}') from exc
    except UnicodeDecodeError as exc:
        raise exception.CloudError(f'{path}: it is no UTF-8 text') from exc
