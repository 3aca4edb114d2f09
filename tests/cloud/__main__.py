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


"""tools/cloud from the command line."""

import argparse
import shlex
import signal
import subprocess
import sys
import threading
import time

from tests.cloud import cloud as cloud_mod
from tests.cloud import daemon
from tests.cloud import error
from tests.cloud import layout as layout_mod
from tests.nested import error as nested_error

_EXAMPLES = """\
examples:
  tools/cloud up
  tools/cloud openstack kongming host list
  tools/cloud openstack --as member server list
  tools/cloud test
  tools/cloud test --short
  tools/cloud upgrade
  tools/cloud down
  tools/cloud up --hosts local1        # nothing emulated: a minute less

environment:
  KONGMING_CLOUD=DIR        where all of it is (default: .cloud in the
                            checkout)
  KONGMING_CLOUD_PORT=PORT  the default of --port
  KONGMING_CLOUD_NODES=4    nested hosts of four NUMA nodes instead of two
  KONGMING_NESTED=DIR       where the nested hosts' image is (tools/nested)
"""
_DESCRIPTION = """\
A real OpenStack on this machine, on 127.0.0.1 and in one folder: Keystone,
Placement, Glance, Neutron (its API), Nova's API, conductor, scheduler and a
nova-compute for each host, with KongMing as the installation guide says.

hosts:
  local1             this machine: a libvirtd beside the system's, KVM where
                     that works, one NUMA node
  nested1, nested2   emulated machines of two NUMA nodes, 12 pCPUs and SMT,
                     between which servers migrate
"""
_UPGRADE = """\
Upgrades Nova of a cloud while servers run, move and borrow on it.

It begins with an empty cloud of Nova 33, from an environment of its own that
is made once in the cloud's folder. Nova goes to 34 with the scheduler first,
back, to 34 with the scheduler last, and KongMing is removed as the
installation guide says. After each step no thread may have moved, Nova,
Placement, libvirt and the kernel have to agree, and what was answered before
has to be answered as it was.

A cloud that 'tools/cloud up' has made is not touched: remove it before.
"""
_UPGRADE_EXAMPLES = """\
examples:
  tools/cloud upgrade
  tools/cloud upgrade --hosts local1,nested1,nested2
  tools/cloud upgrade --keep           # look at it afterwards
  tools/cloud upgrade first back --keep
  tools/cloud upgrade last removal --resume
  tools/cloud upgrade removal          # of a cloud of Nova 33
  KONGMING_CLOUD=/tmp/upgrade tools/cloud upgrade

exit status: 0 if each step went as it has to, 1 if not
"""
_begin = time.monotonic()
_printing = threading.Lock()


def say(text):
    with _printing:
        print(f'\033[1m==> {time.monotonic() - _begin:4.0f} s  {text}\033[0m',
              file=sys.stderr, flush=True)


def _parser():
    parser = argparse.ArgumentParser(
        prog='tools/cloud', description=_DESCRIPTION, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar='COMMAND', required=True)

    def add(function, name, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    def add_up_options(command, hosts):
        command.add_argument(
            '--hosts', default=hosts, metavar='NAMES',
            help='the hosts, with commas (default: %(default)s)')
        command.add_argument(
            '--port', type=int, metavar='PORT',
            help=f'the first of its ports on 127.0.0.1 (default: '
                 f'{layout_mod.PORT}, or what it was made with)')

    everything = ','.join(cloud_mod.HOSTS)
    add_up_options(add(up, 'up', 'Start what does not run of it.'),
                   everything)
    command = add(down, 'down', 'Stop all of it. Databases and logs stay.')
    command.add_argument('--wipe', action='store_true',
                         help='remove its folder as well')
    add(status, 'status', 'Tell what runs; exit status 1 unless all does.')
    command = add(demo, 'demo', 'Show the main job on it.')
    add_up_options(command, everything)
    command = add(test, 'test', 'Tell the whole story on it, with a table of '
                                'results at the end.')
    add_up_options(command, everything)
    command.add_argument('--short', action='store_true',
                         help='the part of it that takes a few minutes, on '
                              'local1')
    command.add_argument('--keep', dest='leave_up', action='store_true',
                         help='leave the cloud up, if it was not before')
    command.add_argument('chapters', nargs='*', metavar='CHAPTER',
                         help='only these (default: all); --list tells them')
    command.add_argument('--list', action='store_true',
                         help='list the chapters')
    command = add(upgrade, 'upgrade',
                  'Upgrade Nova of it from 33 to 34 and back, remove '
                  'KongMing from it, and print a table of results.')
    command.description = _UPGRADE
    command.epilog = _UPGRADE_EXAMPLES
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    add_up_options(command, 'local1,nested1')
    command.add_argument('--keep', dest='leave_up', action='store_true',
                         help='leave the cloud up')
    command.add_argument('--resume', action='store_true',
                         help='go on with the cloud and the servers that an '
                              'earlier run has left up')
    command.add_argument('--short', action='store_true',
                         help='boot and move less at each step')
    command.add_argument('parts', nargs='*', metavar='PART',
                         help='only these of: first (to 34, the scheduler '
                              'first), back (to 33), last (to 34, the '
                              'scheduler last), removal (default: all)')
    command.add_argument('--list', action='store_true',
                         help='list the steps, and do nothing')
    command = add(openstack, 'openstack',
                  'Run the openstack command on it, as admin.')
    command.add_argument('--as', dest='user', default='admin',
                         choices=('admin', 'member', 'reader'))
    command.add_argument('words', metavar='WORD', nargs=argparse.REMAINDER)
    return parser


def _cloud(args):
    layout = layout_mod.Layout(port=getattr(args, 'port', None))
    return cloud_mod.Cloud(layout, say)


def _names(args):
    return [name for name in args.hosts.split(',') if name]


def up(args):
    _cloud(args).up(_names(args))
    return status(args)


def down(args):
    cloud = _cloud(args)
    if cloud.layout.folder.exists() and cloud.down():
        say(f'the cloud is down; logs are in {cloud.layout.logs}')
    else:
        say('no cloud runs')
    if args.wipe:
        cloud.layout.wipe()
    return 0


def status(args):
    cloud = _cloud(args)
    if not cloud.layout.folder.exists():
        print('there is no cloud; tools/cloud up makes one')
        return 1
    for name, process in cloud.processes().items():
        pid = process.pid
        print(f'{name:22} {f"process {pid}" if pid else "does not run"}')
    for name, host in cloud.hosts.items():
        print(f'{name:22} {host.uri if host.is_up() else "does not run"}')
    print(f'{"logs":22} {cloud.layout.logs}')
    print(f'export OS_CLIENT_CONFIG_FILE='
          f'{shlex.quote(str(cloud.layout.clouds_yaml))} '
          f'OS_CLOUD=kongming-admin')
    return 0 if cloud.is_up() else 1


def openstack(args):
    cloud = _cloud(args)
    return subprocess.run(
        [layout_mod.BIN / 'openstack', *args.words],
        env={**daemon.environment(cloud.layout),
             layout_mod.MARK: '',
             'OS_CLIENT_CONFIG_FILE': str(cloud.layout.clouds_yaml),
             'OS_CLOUD': f'kongming-{args.user}'}).returncode


def demo(args):
    from tests.cloud import demo as demo_mod
    cloud = _cloud(args)
    if not cloud.is_up():
        cloud.up(_names(args))
    return demo_mod.show(cloud)


def test(args):
    from tests.cloud import story
    if args.short:
        args.hosts = 'local1'
    return story.main(args, _cloud(args), _names(args))


def upgrade(args):
    from tests.cloud import upgrade as upgrade_mod
    return upgrade_mod.main(args, _cloud(args), _names(args))


def main():
    args = _parser().parse_args()
    # As 'status | head' has it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # What was begun is undone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return args.function(args)
    except (error.Problem, nested_error.Problem) as exc:
        print(f'error: {exc}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())
