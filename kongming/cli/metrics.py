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

"""``kongming metrics``: figures of this host for Prometheus."""

import argparse
import contextlib
from importlib import metadata
import ipaddress
import re
import resource
import sys

from cliff import command

from kongming.cli import endpoint
from kongming.cli import exporter
from kongming.cli import help as help_mod
from kongming.cli import source
from kongming.cli import survey
from kongming.compute import nova_conf
from kongming import exception

_LOOPBACK, _PORT = '127.0.0.1', 9177
#: Seconds; of Prometheus' scrape_timeout, 10 by default, this is left to it.
_PATIENCE = 3.0
#: Seconds from one look to the next whether it is to end. socketserver's half
#: a second would cost as much CPU time as an answer each 15 seconds. Ctrl-C
#: ends it at once, but for one in the moment before it sleeps.
_POLL = 10.0


def address(text):
    """Type of an argument: ``[HOST:]PORT``, an IPv6 address in brackets."""
    match = re.fullmatch(r'(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]]+):)?([0-9]{1,5})',
                         text)
    if match is None or not 0 <= int(match[2]) <= 65535:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no [ADDRESS:]PORT (for instance {_PORT}, or "
            f'[::1]:{_PORT})')
    return (match[1] or _LOOPBACK).strip('[]'), int(match[2])


def _is_loopback(name):
    if name == 'localhost':
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Metrics(help_mod.Help, command.Command):
    """Export metrics of this host's pCPUs, domains and live changes.

    The command writes them once, to standard output, or with --output to a
    file for node_exporter's textfile collector, which it replaces as a
    whole. With --listen it serves them to Prometheus. Metrics of live
    changes, passes, jobs and the lag of Placement come from the file that
    nova-compute writes if [kongming] metrics_file of nova.conf is set.

    --listen takes connections of this host only, unless you name an
    address. An address other than loopback needs TLS and certificates of the
    clients, or --unauthenticated if a firewall or a proxy keeps others out.
    There are no passwords. The command asks libvirt at most every
    --survey-interval seconds, and reads where the memory of domains is at
    most every --memory-interval seconds. It reads the kernel's accounts each
    time.

    It needs Prometheus' client library (pip install 'kongming[metrics]'). It
    has to run as root to read where the memory of domains is.

    Examples::

        kongming metrics
        kongming metrics --output /var/lib/prometheus/node-exporter/km.prom
        kongming metrics --listen 9177
        kongming metrics --listen 192.0.2.7:9177 --tls-cert host.pem \\
            --tls-key host.key --tls-client-ca prometheus-ca.pem
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        where = parser.add_mutually_exclusive_group()
        where.add_argument('--output', metavar='<file>',
                           help='Write to this file, and print on standard '
                                'error the CPU time that it took.')
        where.add_argument('--listen', metavar='<[address:]port>',
                           type=address,
                           help=f'Serve the metrics until the command is '
                                f'ended (the usual port is {_PORT}).')
        parser.add_argument('--tls-cert', metavar='<file>',
                            help='With --listen: certificate (PEM).')
        parser.add_argument('--tls-key', metavar='<file>',
                            help='With --listen: its key (PEM).')
        parser.add_argument('--tls-client-ca', metavar='<file>',
                            help='With --listen: the CA that has signed the '
                                 'certificates of clients (PEM).')
        parser.add_argument('--unauthenticated', action='store_true',
                            help='With --listen on another address than '
                                 'loopback: serve every client, without TLS '
                                 'if no certificate is given.')
        parser.add_argument('--nova-compute', metavar='<file>',
                            help="The file that nova-compute writes "
                                 "(default: nova.conf's [kongming] "
                                 'metrics_file).')
        for name, default, what in (
                ('survey', 60, 'a survey of the host is used'),
                ('memory', 600, 'figures of the memory of domains are '
                                'used')):
            parser.add_argument(
                f'--{name}-interval', metavar='<seconds>', type=float,
                default=float(default),
                help=f'With --listen: for how many seconds {what} (default: '
                     f'{default}).')
        survey.add_arguments(parser)
        return parser

    def take_action(self, parsed_args):
        try:
            import prometheus_client
            from prometheus_client import registry as registry_mod
        except ImportError as exc:
            raise exception.KongmingError(
                f"Prometheus' client library is not there ({exc}): 'pip "
                f"install prometheus-client' installs it") from exc
        _check(parsed_args)
        listens = parsed_args.listen is not None
        registry = registry_mod.CollectorRegistry(auto_describe=False)
        found = exporter.Exporter(
            parsed_args, _account(parsed_args), metadata.version('kongming'),
            parsed_args.survey_interval if listens else 0.0,
            parsed_args.memory_interval if listens else 0.0,
            patience=_PATIENCE if listens else None)
        if listens:
            _serve(parsed_args, found, registry)
            return
        registry.register(_Once(found))
        if parsed_args.output is None:
            sys.stdout.write(
                prometheus_client.generate_latest(registry).decode())
            return
        try:
            prometheus_client.write_to_textfile(parsed_args.output, registry)
        except OSError as exc:
            raise exception.CloudError(
                f'{parsed_args.output}: {exc.strerror}') from exc
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(f'{parsed_args.output}: {used.ru_utime + used.ru_stime:.2f} s '
              f'of CPU time', file=sys.stderr)


class _Once:
    """A registry asks a collector when it gets it, and again for the text."""

    def __init__(self, collector):
        self._found = collector.collect()

    def collect(self):
        return self._found


def _account(args):
    """Where nova-compute's file is; None where nobody said so."""
    if args.nova_compute:
        return args.nova_compute
    files = args.config_file or [source.NOVA_CONF]
    try:
        return nova_conf.metrics_file(files)
    except exception.CloudError:
        if args.config_file:
            raise
        return None


def _check(args):
    """
    :raises kongming.exception.KongmingError: if options don't go together
    """
    tls = {'--tls-cert': args.tls_cert, '--tls-key': args.tls_key,
           '--tls-client-ca': args.tls_client_ca}
    given = [name for name, value in tls.items() if value]
    if args.listen is None:
        if args.unauthenticated:
            given.append('--unauthenticated')
        if given:
            raise exception.KongmingError(f'{given[0]} goes with --listen.')
        return
    if args.unauthenticated:
        if args.tls_client_ca:
            raise exception.KongmingError(
                '--tls-client-ca is an authentication: leave it or '
                '--unauthenticated out.')
    elif not _is_loopback(args.listen[0]) and len(given) < len(tls):
        raise exception.KongmingError(
            f'{args.listen[0]} is no address of loopback: whoever reaches it '
            f'would see the names of servers. Say '
            f'{", ".join(name for name in tls if name not in given)} as '
            f'well, or listen on {_LOOPBACK}. If a firewall or a proxy keeps '
            f'others out, say --unauthenticated.')
    if bool(args.tls_cert) != bool(args.tls_key) or (
            args.tls_client_ca and not args.tls_cert):
        raise exception.KongmingError(
            '--tls-cert and --tls-key go together, and --tls-client-ca with '
            'both.')
    for name in ('survey', 'memory'):
        if not getattr(args, f'{name}_interval') >= 0:
            raise exception.KongmingError(
                f'--{name}-interval is a number of seconds from 0 on.')


def _serve(args, collector, registry):
    import prometheus_client
    registry.register(collector)
    host, port = args.listen
    try:
        context = args.tls_cert and endpoint.tls(
            args.tls_cert, args.tls_key, args.tls_client_ca)
    except OSError as exc:
        files = filter(None, (args.tls_cert, args.tls_key,
                              args.tls_client_ca))
        raise exception.KongmingError(
            f'{", ".join(files)}: {exc.strerror or exc}') from exc
    try:
        server = endpoint.Endpoint(
            host, port, prometheus_client.make_wsgi_app(registry), context)
    except OSError as exc:
        raise exception.KongmingError(
            f'{host}:{port}: {exc.strerror or exc}') from exc
    scheme = 'https' if context else 'http'
    where = f'[{host}]' if ':' in host else host
    print(f'{scheme}://{where}:{server.server_port}/metrics',
          file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever(_POLL)
