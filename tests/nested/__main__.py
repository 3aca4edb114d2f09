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


"""tools/nested: the nested host from the command line."""

import argparse
import signal
import subprocess
import sys

from tests.nested import error
from tests.nested import machine

_EXAMPLES = """\
examples:
  tools/nested up
  virsh -c $(tools/nested uri) capabilities
  tools/nested shell numactl --hardware
  tools/nested down
  tools/nested up --nodes 4 --cgroup v1

environment:
  KONGMING_NESTED=DIR        where all of it is (default: .nested in the
                             checkout); a second host needs another one
  KONGMING_NESTED_PORT=PORT  the default of --port
  KONGMING_MIRROR=URL        the Debian mirror that the image is built from
"""
_DESCRIPTION = """\
A host with several NUMA nodes and SMT siblings in an emulated machine: QEMU
without KVM, so that it runs anywhere. libvirt and QEMU are inside; libvirt is
reached from outside on 127.0.0.1. The first start builds an image of Debian
packages and boots it; later ones restore a saved state in seconds.
"""


def say(text):
    print(f'\033[1m==> {text}\033[0m', file=sys.stderr, flush=True)


def _parser():
    parser = argparse.ArgumentParser(
        prog='tools/nested', description=_DESCRIPTION, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar='COMMAND', required=True)

    def add(function, name, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    command = add(up, 'up', 'Start the host where it does not run.')
    command.add_argument('--nodes', type=int, choices=(2, 4), default=2,
                         help='NUMA nodes, each of 2 cores with 2 threads '
                              '(default: 2)')
    command.add_argument('--cgroup', choices=('v1', 'v2'), default='v2',
                         help='the version of its cgroups (default: v2)')
    command.add_argument('--port', type=int, default=machine.PORT,
                         help="libvirt's port on 127.0.0.1, the next one is "
                              "SSH's (default: %(default)s)")
    command.add_argument('--parallel', action='store_true',
                         help='a thread for each pCPU, as for measuring how '
                              'long one waits for another; slower where few '
                              'cores are free')
    command.add_argument('--fresh', action='store_true',
                         help='boot, even where there is a saved state')
    add(down, 'down', 'Stop it; nothing of it is kept.')
    add(status, 'status', 'Tell what runs; exit status 1 if nothing does.')
    add(uri, 'uri', "Print libvirt's URI.")
    command = add(shell, 'shell', 'Run a command inside, or a shell.')
    command.add_argument('words', metavar='WORD', nargs=argparse.REMAINDER)
    return parser


def up(args):
    host = machine.Machine()
    host.up(machine.Shape(args.nodes, args.cgroup, args.parallel), args.port,
            args.fresh, say)
    return status(args)


def down(args):
    if machine.Machine().down():
        say('the nested host is down')
    else:
        say('no nested host runs')
    return 0


def _running():
    host = machine.Machine()
    running = host.running()
    if not running:
        raise error.Problem('no nested host runs; start it: tools/nested up')
    return host, running


def status(args):
    host, running = _running()
    shape = machine.Shape(**running['shape'])
    print(f'nodes    {shape.nodes}, each {shape.node_mib} MiB, '
          f'{shape.huge_pages} huge pages of 2 MiB and '
          f'{shape.cores} cores with {shape.threads} threads'
          f'{", each with a thread here" if shape.parallel else ""}\n'
          f'cgroup   {shape.cgroup}\n'
          f"libvirt  {machine.uri(running['port'])}\n"
          f'folder   {host.share} (inside at the same path)\n'
          f"process  {running['pid']}")
    return 0


def uri(args):
    _host, running = _running()
    print(machine.uri(running['port']))
    return 0


def shell(args):
    host, _running_ = _running()
    words = host.ssh(*args.words)
    if not args.words and sys.stdin.isatty():
        words.insert(1, '-t')
    return subprocess.run(words, cwd=host.folder).returncode


def main():
    args = _parser().parse_args()
    # What was begun is undone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return args.function(args)
    except error.Problem as exc:
        print(f'error: {exc}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())
