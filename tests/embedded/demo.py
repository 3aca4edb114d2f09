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

"""The main job, shown: ``python -m tests.embedded.demo [HYPERVISOR]``.

Each step prints the command that it runs; the ``openstack`` command is the
real one.  Exits with 1 where anything is not as it should be.
"""

import datetime
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from xml.etree import ElementTree

import yaml

from kongming.host import topology
from kongming.kernel import process
from tests.embedded import witness

BOLD, RED, GREEN, RESET = (
    ('\033[1m', '\033[31m', '\033[32m', '\033[0m')
    if sys.stdout.isatty() else ('',) * 4)
BIN = pathlib.Path(sys.executable).parent


class Wrong(Exception):
    """Something is not as the story says."""


def step(text):
    print(f'\n{BOLD}# {text}{RESET}', flush=True)


class Cloud:
    """An embedded cloud in a process of its own.

    Its log and ``clouds.yaml`` are in ``folder``.
    """

    def __init__(self, hypervisor):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='kongming-demo-'))
        self._out = open(self.folder / 'out', 'w')
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'tests.embedded',
             # Two pCPUs are enough for a server to go from one to another.
             str(self.folder), '--hypervisor', hypervisor, '--dedicated'],
            stdout=self._out, stderr=self._out)

    def wait(self):
        start = time.monotonic()
        print('  nova-api, scheduler, conductor, compute and Placement '
              'in one process ...', flush=True)
        while not (self.folder / 'ready').exists():
            if self._process.poll() is not None:
                self._out.flush()
                print((self.folder / 'out').read_text()[-2000:])
                raise Wrong(f'The cloud did not start; the whole log is in '
                            f'{self.folder}/nova.log')
            if sys.stdout.isatty():
                print(f'\r  {time.monotonic() - start:.0f} s', end='',
                      flush=True)
            time.sleep(0.5)
        print(f'\r  up in {time.monotonic() - start:.0f} s')
        clouds = yaml.safe_load((self.folder / 'clouds.yaml').read_text())
        self.url = clouds['clouds']['kongming-admin']['auth'][
            'auth_url'].removesuffix('/identity/v3')

    def stop(self):
        self._process.terminate()
        self._process.wait(60)

    def run(self, *words, may_fail=False, as_json=False, shown=True):
        """Run ``openstack`` and print command and output."""
        if shown:
            print(f'$ openstack {shlex.join(words)}', flush=True)
        done = subprocess.run(
            [BIN / 'openstack', *words, *(['-f', 'json'] * as_json)],
            env=self.environment(), capture_output=True, text=True)
        if shown and not as_json:
            print(done.stdout + done.stderr, end='', flush=True)
        if done.returncode and not may_fail:
            raise Wrong(f'openstack {shlex.join(words)}: exit status '
                        f'{done.returncode} {done.stderr}')
        return json.loads(done.stdout) if as_json else done.returncode

    def environment(self):
        """Of the ``openstack`` command."""
        return {**os.environ, 'OS_CLOUD': 'kongming-admin',
                'OS_CLIENT_CONFIG_FILE': str(self.folder / 'clouds.yaml')}

    def hypervisor(self, server_id=''):
        with urllib.request.urlopen(
                f'{self.url}/hypervisor/{server_id}') as reply:
            return reply.read().decode()


def choose(host):
    """A node and pCPUs to name: the last node's last dedicated ones."""
    node = [n for n in host['map'] if n['dedicated']][-1]
    pcpus = node['dedicated'][-2:][::-1]
    return node['node'], pcpus


def set_template(cloud, flavor, vcpus, name, text,
                 native=('hw:cpu_policy=dedicated',)):
    """Create a flavor with the template of a document."""
    document = cloud.folder / name
    document.write_text(text)
    print(f'$ cat {name}\n{text}', end='')
    cloud.run('flavor', 'create', flavor, '--vcpus', str(vcpus),
              '--ram', '64', '--disk', '1',
              *(word for spec in native for word in ('--property', spec)),
              '-c', 'name', '-c', 'vcpus')
    cloud.run('kongming', 'template', 'set', '--flavor', flavor,
              str(document))


def agree(cloud, server, compute_uuid, template, real):
    """Ask every party where the server is; compare with the template."""
    pins, nodes = template
    xml = cloud.hypervisor(server['id'])
    parties = {'template': template, 'domain XML': witness.domain(xml)}
    print(f'$ openstack --os-compute-api-version 2.78 server show '
          f'--topology {server["name"]}')
    parties["Nova's topology API"] = witness.nova(cloud.run(
        '--os-compute-api-version', '2.78', 'server', 'show', '--topology',
        server['id'], as_json=True, shown=False)['topology'])
    print(f'$ openstack resource provider allocation show {server["id"]}')
    allocations = {row['resource_provider']: row['resources']
                   for row in cloud.run(
                       'resource', 'provider', 'allocation', 'show',
                       server['id'], as_json=True, shown=False)}
    granted = witness.placement(compute_uuid, allocations)
    parties['Placement'] = (pins if granted == {
        node: frozenset().union(*pins.values()) for node in nodes[0]
    } else granted, {0: frozenset(granted)})
    if real:
        name = ElementTree.fromstring(xml).findtext('name')
        print(f"$ grep Cpus_allowed_list /proc/$(cat /run/libvirt/qemu/"
              f"{name}.pid)/task/*/status")
        parties['/proc, live threads'] = witness.threads(name), nodes
    wrong = []
    for party, (its_pins, its_nodes) in parties.items():
        good = its_pins == pins and its_nodes == nodes
        if not good:
            wrong.append(party)
        shown = '  '.join(
            f'vCPU {v} on pCPU {topology.format_cpu_list(p)}'
            for v, p in sorted(its_pins.items()))
        mark = f'{GREEN}ok{RESET}' if good else f'{RED}WRONG{RESET}'
        print(f'  {party:<22} {shown}  node '
              f'{topology.format_cpu_list(its_nodes.get(0, ()))}  {mark}')
    if wrong:
        raise Wrong(f'{", ".join(wrong)} do not agree with the template')


class Guest:
    """The one vCPU of a real domain on this machine, and its thread."""

    def __init__(self, cloud, server):
        name = ElementTree.fromstring(
            cloud.hypervisor(server['id'])).findtext('name')
        self._process = int(witness.local(f'echo {witness.pid_file(name)}'))
        self._thread = process.vcpu_threads(self._process)[0]

    def look(self):
        """Print where it is and return it."""
        at = f'/proc/{self._process}/task/{self._thread}'
        print(f'$ grep Cpus_allowed_list {at}/status; cat {at}/stat')
        found = witness.running(self._process, self._thread)
        print(f'  vCPU 0 may run on pCPU '
              f'{topology.format_cpu_list(found.allowed)}, ran on pCPU '
              f'{found.last} last, has had {found.seconds:.2f} s of CPU time',
              flush=True)
        return found

    def check(self, pcpu):
        """Look twice: it is on its one pCPU, and it is running."""
        first = self.look()
        time.sleep(1)
        second = self.look()
        if not (first.allowed == second.allowed == {pcpu}
                and first.last == second.last == pcpu):
            raise Wrong(f'The thread is not on pCPU {pcpu}')
        if second.seconds <= first.seconds:
            raise Wrong('The guest has stopped')
        return first, second


def live(cloud, host, real):
    """A server changes its pCPU and does not notice."""
    node, pcpus = choose(host)
    if len(pcpus) < 2:
        step('A running server cannot change its pCPU here: there is one')
        return
    old, new = pcpus
    step(f'A guest that never sleeps, on pCPU {old}; its flavor lets it move')
    set_template(cloud, 'nfv.live', 1, 'live.yaml',
                 f'version: 1\ncells:\n  0:\n    node: {node}\n'
                 f'    pin: "0:{old}"\ngrant: [template]\n')
    cloud.run('server', 'create', '--flavor', 'nfv.live', '--image', 'busy',
              '--nic', 'none', '--wait', 'live-1', '-c', 'name',
              '-c', 'status')
    server = cloud.run('server', 'show', 'live-1', as_json=True, shown=False)
    guest = Guest(cloud, server) if real else None
    nodes = {0: frozenset({node})}
    agree(cloud, server, host['uuid'], ({0: frozenset({old})}, nodes), real)
    before = guest and guest.check(old)

    step(f'It moves to pCPU {new} while it runs')
    cloud.run('kongming', 'server', 'set', '--pin', f'0=0:{new}', '--wait',
              'live-1', '-c', 'intended', '-c', 'owned')
    after = guest and guest.check(new)
    if guest and after[0].seconds <= before[1].seconds:
        raise Wrong('The guest was started anew')
    agree(cloud, server, host['uuid'], ({0: frozenset({new})}, nodes), real)

    step('What is left behind of it')
    cloud.run('server', 'event', 'list', 'live-1', '-c', 'Action',
              '-c', 'Start Time')
    cloud.run('kongming', 'server', 'show', 'live-1', '-c', 'owned',
              '-c', 'last_change')
    if cloud.run('kongming', 'server', 'show', 'live-1', as_json=True,
                 shown=False)['last_change']['result'] != 'Success':
        raise Wrong('The change was not recorded')
    cloud.run('server', 'delete', '--wait', 'live-1')


def places(cloud, server_id, real):
    """vCPU -> pCPUs, by /proc where there is one, else by the domain."""
    xml = cloud.hypervisor(server_id)
    if real:
        return witness.threads(ElementTree.fromstring(xml).findtext('name'))
    return witness.domain(xml)[0]


def night(cloud, host, real):
    """What an admin writes once, and nobody has to look at again."""
    node, pcpus = choose(host)
    if len(pcpus) < 2:
        step('Day and night need two pCPUs here: there is one')
        return
    own = {vcpu: frozenset({pcpu}) for vcpu, pcpu in enumerate(pcpus)}
    packed = dict.fromkeys(own, own[0])
    # Time to boot, and not long to wait.
    now = datetime.datetime.now(datetime.UTC)
    dusk = (now + datetime.timedelta(seconds=105)).replace(
        second=0, microsecond=0)
    dawn = dusk + datetime.timedelta(hours=8)
    step(f'A server that is packed onto one of its two pCPUs at '
         f'{dusk:%H:%M} UTC, and lends the other one')
    set_template(
        cloud, 'web', 2, 'web.yaml',
        f'version: 1\ncells:\n  0:\n    node: {node}\n'
        f'    pin: "0:{pcpus[0]} 1:{pcpus[1]}"\nprofiles:\n  night:\n'
        f'    when: {dusk:%H:%M}-{dawn:%H:%M}\n'
        f'    cells: {{0: {{pin: "0-1~v0"}}}}\n    lend: true\n'
        f'  day:\n    cells: {{0: {{pin: "0-1:v0-1"}}}}\n'
        f'grant: [profile]\n')
    boot = ('server', 'create', '--image', 'idle', '--nic', 'none', '--wait',
            '-c', 'name', '-c', 'status')
    cloud.run(*boot, '--flavor', 'web', 'web-1')
    names = {'web-1': 'lends', 'batch-1': 'borrows'}
    shared = [n['shared'] for n in host['map'] if n['node'] == node][0]
    if shared:
        step('Another one, without pCPUs of its own, that borrows')
        set_template(cloud, 'batch', 1, 'batch.yaml',
                     f'version: 1\ncells: {{0: {{node: {node}}}}}\n'
                     f'borrow: node\n',
                     ('hw:cpu_policy=shared', 'hw:numa_nodes=1'))
        cloud.run(*boot, '--flavor', 'batch', 'batch-1')
    else:
        del names['batch-1']
    ids = {name: cloud.run('server', 'show', name, as_json=True,
                           shown=False)['id'] for name in names}
    at_day = {'web-1': own, 'batch-1': {0: frozenset(shared)}}
    at_night = {'web-1': packed,
                'batch-1': {0: frozenset(shared) | own[1]}}

    def look(wanted):
        found = {name: places(cloud, ids[name], real) for name in names}
        for name, places_ in found.items():
            print(f'  {datetime.datetime.now(datetime.UTC):%H:%M:%S}  '
                  f'{name:<8}' + '  '.join(
                      f'vCPU {v} on pCPU {topology.format_cpu_list(p)}'
                      for v, p in sorted(places_.items())), flush=True)
        if found != {name: wanted[name] for name in names}:
            raise Wrong('That is not what the template says')

    cloud.run('kongming', 'server', 'show', 'web-1', '-c', 'profile',
              '-c', 'owned')
    look(at_day)

    step(f'Nobody does anything until {dusk:%H:%M}')
    while (left := (dusk - datetime.datetime.now(datetime.UTC)
                    ).total_seconds()) > 0:
        if sys.stdout.isatty():
            print(f'\r  {left:.0f} s ', end='', flush=True)
        time.sleep(min(1, left))
    time.sleep(1)
    print('\r', end='')
    look(at_night)
    cloud.run('kongming', 'server', 'show', 'web-1', '-c', 'profile',
              '-c', 'owned', '-c', 'last_change')

    step('Somebody needs it at once, night or not')
    cloud.run('kongming', 'server', 'set', '--profile', 'day', '--wait',
              'web-1', '-c', 'profile', '-c', 'last_change')
    look(at_day)
    cloud.run('server', 'delete', '--wait', *names)


def story(cloud, hypervisor):
    real = hypervisor == 'libvirt'
    print(f'  hypervisor: {json.loads(cloud.hypervisor())["hypervisor"]}')

    step('The host, as Placement shows it: nodes, cores, pCPUs')
    name = cloud.run('kongming', 'host', 'list', as_json=True,
                     shown=False)[0]['host']
    cloud.run('kongming', 'host', 'show', name)
    host = cloud.run('kongming', 'host', 'show', name, as_json=True,
                     shown=False)
    node, pcpus = choose(host)

    step(f'A template on a flavor: cell 0 on node {node}, vCPUs on '
         f'{"pCPUs" if len(pcpus) > 1 else "pCPU"} '
         f'{", ".join(map(str, pcpus))}')
    pin = ' '.join(f'{v}:{p}' for v, p in enumerate(pcpus))
    set_template(cloud, 'nfv.du', len(pcpus), 'du.yaml',
                 f'version: 1\ncells:\n  0:\n    node: {node}\n'
                 f'    pin: "{pin}"\n')

    step('Bad input is refused before anything changes')
    if not cloud.run('kongming', 'template', 'set', '--flavor', 'nfv.du',
                     '--pin', '0=0:1 1:one', may_fail=True):
        raise Wrong('a malformed map was taken')

    step('Boot a server by it')
    boot = ('server', 'create', '--flavor', 'nfv.du', '--image', 'idle',
            '--nic', 'none', '--wait')
    cloud.run(*boot, 'du-1', '-c', 'name', '-c', 'status')
    server = cloud.run('server', 'show', 'du-1', as_json=True, shown=False)

    step('Template, hypervisor, Nova and Placement agree')
    template = ({v: frozenset({p}) for v, p in enumerate(pcpus)},
                {0: frozenset({node})})
    agree(cloud, server, host['uuid'], template, real)
    cloud.run('kongming', 'host', 'show', name)

    step('A second server for the same pCPUs is refused')
    cloud.run(*boot, 'du-2', '-c', 'name', '-c', 'status', may_fail=True)
    second = cloud.run('server', 'show', 'du-2', as_json=True, shown=False)
    if second['status'] != 'ERROR':
        raise Wrong(f'du-2 is {second["status"]}')
    if not cloud.run('kongming', 'template', 'check', 'nfv.du',
                     may_fail=True):
        raise Wrong('template check finds capacity where there is none')

    step('Delete both: all is free again')
    cloud.run('server', 'delete', '--wait', 'du-1', 'du-2')

    live(cloud, host, real)
    night(cloud, host, real)

    step('Nothing is left on the host')
    # Placement is told a moment after Nova.
    deadline = time.monotonic() + 30
    while (after := cloud.run('kongming', 'host', 'show', name, as_json=True,
                              shown=False)) != host:
        if time.monotonic() > deadline:
            raise Wrong(f'the host is not as it was: {after}')
    cloud.run('kongming', 'host', 'show', name)


def main():
    hypervisor = sys.argv[1] if len(sys.argv) > 1 else 'simulated'
    start = time.monotonic()
    step('Start a cloud')
    cloud = Cloud(hypervisor)
    try:
        cloud.wait()
        ready = time.monotonic()
        story(cloud, hypervisor)
    except Wrong as exc:
        print(f'\n{RED}{exc}{RESET}\nlogs: {cloud.folder}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        cloud.stop()
    print(f'\n{GREEN}All as it should be{RESET} (cloud up in '
          f'{ready - start:.0f} s, the story in '
          f'{time.monotonic() - ready:.0f} s). Logs: {cloud.folder}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
