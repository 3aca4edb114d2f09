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

"""KongMing is removed from the cloud, word for word as the page says it."""

import configparser
import pathlib
import subprocess

from tests.cloud import daemon
from tests.cloud import services
from tests.cloud.upgrade import releases
from tests import documents

PAGE = pathlib.Path('doc/source/install/upgrade.rst')
HEADING = 'Removal'
#: What the page calls a flavor with a template, one without, a host, a
#: server that was booted with a template.
_FLAVOR, _NATIVE, _HOST, _SERVER = 'nfv.l', 'plain', 'compute1', 'du-1'


class Removal:
    """The commands of the page, in its order.

    What the page says once for a host is done for each host, and what it says
    of a flavor or a server for each of them.

    :param procedure: tests.cloud.upgrade.procedure.Procedure
    """

    def __init__(self, procedure):
        self.procedure = procedure
        self.cloud, self.actor = procedure.cloud, procedure.actor
        self.admin = self.actor.admin
        self.releases = procedure.releases
        self.status = 0
        #: Commands of the page that were run
        self.done = 0
        self._servers = ()

    def steps(self):
        """(title, function) of each; the page's steps 2 to 5 are a host's."""
        blocks = documents.section(PAGE, HEADING)
        first = self._number(blocks, '--disable')
        last = self._number(blocks, '--enable')
        one, of_host, after = (blocks[:first], blocks[first:last + 1],
                               blocks[last + 1:])
        for block in one:
            yield self._title(block), lambda block=block: self.flavors(block)
        for host in self.cloud.hosts:
            yield (f'removal: steps 2 to 5, {host}',
                   lambda host=host: self.host(of_host, host))
        yield "removal: all hosts have Nova's driver", self.native
        resize, unpublish, scheduler, *rest = after
        yield self._title(resize), lambda: self.resize(resize)
        yield self._title(unpublish), lambda: self.unpublish(unpublish)
        yield ('removal: the schedulers as they were',
               lambda: self.follow([scheduler, rest[0]]))
        yield (self._title(rest[1]), lambda: self.uninstall(rest[1:]))
        yield 'removal: the native servers run on', self.neighbours

    @staticmethod
    def _number(blocks, word):
        number, = [number for number, block in enumerate(blocks)
                   if word in block.text]
        return number

    @staticmethod
    def _title(block):
        *_others, last = documents.commands(block)
        return f'removal: {" ".join(last.words)}'

    # Commands of the page.

    def follow(self, blocks, **names):
        """Do what blocks say.

        :param names: ``host``, and what else stands for what the page calls
            it
        """
        for block in blocks:
            if block.kind == 'ini':
                self.configure(block, names.get('host'))
                continue
            for command in documents.commands(block):
                self.do(command, **names)

    def configure(self, block, host):
        parsed = configparser.ConfigParser(default_section='')
        parsed.read_string(block.text)
        settings = self.cloud.layout.facts()['settings']
        mine = settings[host or 'nova'] = {
            section: dict(options) for section, options
            in settings[host or 'nova'].items()}
        for section in parsed.sections():
            mine.setdefault(section, {}).update(parsed[section])
        self.cloud.layout.note(settings=settings)
        if host:
            self.cloud.config.write_compute(self.cloud.hosts[host])
        else:
            self.cloud.config.write_nova()
        self.done += 1

    def do(self, command, host=None, flavor=None, server=None):
        given = {_HOST: host, _FLAVOR: flavor, _SERVER: server}
        words = [given.get(word) or word for word in command.words]
        self.done += 1
        if words == ['echo', '$?']:
            self.actor.assertEqual(command.shown, [str(self.status)],
                                   command.where)
        elif words[0] == 'openstack':
            self.admin.run(*words[1:])
        elif words[:3] == ['python', '-m', 'nova_ext.cleanup']:
            self.cleanup(host, words)
        elif words[0] == 'pip':
            self.pip(*words[1:])
        else:
            self.actor.assertEqual('systemctl', words[0], command.where)
            self.systemctl(*words[1:], host)

    def cleanup(self, host, words):
        """On the host, with the file that nova-compute is started with."""
        layout, on = self.cloud.layout, self.cloud.hosts[host]
        programs = layout.programs(f'nova-compute-{host}')
        done = subprocess.run(
            list(map(str, on.inside([
                *on.runs(programs, *words), '--config-file',
                layout.data / host / 'nova.conf']))), text=True,
            cwd=layout.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=daemon.environment(layout))
        with open(layout.logs / 'cleanup.log', 'a') as log:
            log.write(f'{host} # {" ".join(words)}\n{done.stdout}'
                      f'(status {done.returncode})\n\n')
        self.status = done.returncode

    def systemctl(self, action, service, host):
        match action, service:
            case 'stop', 'nova-compute':
                self.cloud.compute(host).stop()
            case 'start', 'nova-compute':
                self.begin(f'nova-compute-{host}')
            case 'restart', 'nova-scheduler':
                self.cloud.worker('scheduler').stop()
                self.begin('nova-scheduler')
            case 'restart', 'nova-api':
                self.cloud.web('nova').stop()
                self.cloud.web('nova').start()
                services.wait_for_web(self.cloud.layout, 'nova')
            case _:
                self.actor.fail(f'{action} {service}')

    def begin(self, service):
        self.releases.begin(service, published=False)

    def pip(self, *words):
        """In each environment; tools/ puts it into theirs anew."""
        for release in (releases.OLD, releases.NEW):
            environment = self.releases.environment(release)
            (environment / '.sources').unlink(missing_ok=True)
            daemon.run(self.cloud.layout, [environment / 'bin' / 'pip',
                                           *words], 'pip')

    # Steps of the page, and what holds after them.

    def flavors(self, block):
        listed, unset = documents.commands(block)
        self.do(listed)
        with self.actor.nothing_moves():
            for row in self.admin.json(*listed.words[1:]):
                self.do(unset, flavor=row['flavor'])
        self.procedure.looked()
        self.actor.assertEqual([], self.admin.json(*listed.words[1:]))

    def host(self, blocks, host):
        actor = self.actor
        was = actor.picture()
        self.follow(blocks, host=host)
        self.assertOwn(was, host)
        service, = [each for each in self.admin.sdk.compute.services(
            binary='nova-compute') if each.host == host]
        actor.assertEqual(('enabled', 'up'), (service.status, service.state))

    def assertOwn(self, was, host):
        """Each server runs on, on what Nova's record says that it owns."""
        actor, now = self.actor, self.actor.picture()
        for role, mine in now.items():
            before = was[role]
            if mine['host'] != host or role.startswith('native-'):
                actor.assertEqual(before, mine, role)
                continue
            for key in ('process', 'cells', 'allocations'):
                actor.assertEqual(before[key], mine[key], role)
            pins = {vcpu: frozenset({pcpu}) for vcpu, pcpu
                    in actor.look.pins(actor.by_role[role]).items()}
            if role == 'borrower':
                pins = {0: frozenset(actor.shared(host, 1))}
            for key in ('threads', 'libvirt'):
                actor.assertEqual(pins, mine[key], role)

    def native(self):
        """A server keeps its place over a reboot; others are deleted."""
        actor = self.actor
        moved = actor.by_role['moved-nested']
        pins = actor.look.pins(moved)
        actor.act(moved, reboot={'type': 'HARD'})
        actor.wait_for(moved)
        actor.assertIsOn(moved, 0, pins)
        said = self.admin.refused('kongming', 'host', 'unpublish',
                                  actor.nested)
        actor.assertIn('moved-nested', said)
        self.procedure.figure('unpublish, before step 6', 'refused')
        for role in ('lender', 'borrower', 'hours'):
            actor.delete(actor.by_role.pop(role))
        self._servers = tuple(
            uuid for role, uuid in actor.by_role.items()
            if not role.startswith('native-'))
        self.admin.run('flavor', 'create', _NATIVE, '--vcpus', '1', '--ram',
                       '64', '--disk', '1', '--property',
                       'hw:cpu_policy=dedicated')

    def resize(self, block):
        for uuid in self._servers:
            self.follow([block], server=uuid)
            self.actor.wait_for(uuid)

    def unpublish(self, block):
        for host in self.cloud.hosts:
            self.follow([block], host=host)
        self.actor.assertEqual([], [
            name for name in self.actor.look.providers().values()
            if 'KONGMING' in name])

    def uninstall(self, blocks):
        self.follow(blocks)
        for release in (releases.OLD, releases.NEW):
            done = subprocess.run(
                [self.releases.environment(release) / 'bin' / 'python', '-c',
                 'import nova.virt.libvirt, kongming'], text=True,
                cwd=self.cloud.layout.folder, capture_output=True)
            self.actor.assertIn('No module named', done.stderr)
        self.procedure.figure('commands and files of the page',
                              str(self.done))

    def neighbours(self):
        """Without KongMing, all services start, and Nova does its work."""
        actor = self.actor
        for service in self.releases.services():
            self.releases.process(service).stop()
            self.begin(service)
        for role, was in self.procedure.picture.items():
            if role.startswith('native-'):
                actor.assertEqual(was, actor.picture()[role])
        actor.wait_for(actor.boot(actor.flavor(dedicated=False),
                                  host=actor.nested))
        for role in ('native-shared', 'native-dedicated'):
            actor.act(actor.by_role[role], reboot={'type': 'HARD'})
            actor.wait_for(actor.by_role[role])
        actor.assertEqual(self.procedure.picture['native-dedicated']['cells'],
                          actor.picture()['native-dedicated']['cells'])
        actor.delete(*list(actor.mine))
        actor.assertEqual({}, actor.look.owners())
        actor.assertEqual(set(), actor.look.consumers())
