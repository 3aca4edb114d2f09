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

"""``tools/cloud upgrade``: the steps, and the table of what they came to."""

import json
import sys
import time
import traceback

from tests.cloud import error
from tests.cloud import hosts as hosts_mod
from tests.cloud.story import chapter
from tests.cloud.story import teller
from tests.cloud.upgrade import answers
from tests.cloud.upgrade import releases
from tests.cloud.upgrade import removal
from tests.cloud.upgrade import servers

OLD, NEW = releases.OLD, releases.NEW
#: Of an upgrade, in their order.
PARTS = ('first', 'back', 'last', 'removal')
#: How nova.exception.ServiceTooOld begins.
_TOO_OLD = 'This service is older'


class Procedure:
    """:param cloud: tests.cloud.cloud.Cloud, up, of the older release

    :param known: tests.cloud.upgrade.releases.Releases
    :param parts: of PARTS, those to do
    :param resume: go on with the servers that an earlier run has left
    :param short: boot and move less at each step
    """

    def __init__(self, cloud, known, parts=(), resume=False, short=False):
        self.parts = parts or PARTS
        self.resume, self.short = resume, short
        self.cloud = cloud
        self.releases = known
        self.stage = chapter.Stage(cloud)
        self.actor = servers.Servers(self.stage)
        self.rows = []

    # The steps in their order.

    def steps(self):
        """(title, function) of each."""
        computes = self.releases.computes()
        if self.resume:
            yield 'Servers of an earlier run', self.find
        else:
            yield 'Servers boot, move and borrow', self.boot
        if {'first', 'last'} & {*self.parts} and not (
                self.resume and 'first' not in self.parts):
            yield 'Schema of 34 below all services of 33', self.schema
        if 'first' in self.parts:
            yield from self._up('scheduler first', (
                'nova-scheduler', 'nova-conductor', 'nova', *computes))
            yield 'Old versions are forgotten; data migrations', self.finish
        if 'back' in self.parts:
            yield 'A server is booted that will go back', self.boot_newer
            yield from self._down()
        if 'last' in self.parts:
            yield from self._up('scheduler last', (
                'nova-conductor', 'nova', *computes, 'nova-scheduler'))
            yield 'Old versions are forgotten; data migrations', self.finish
        if 'removal' in self.parts:
            yield from removal.Removal(self).steps()

    def _up(self, how, order):
        first, *_further = self.releases.computes()
        for service in order:
            yield (f'{how}: {service} to 34',
                   lambda service=service: self.put(service, NEW))
            if how == 'scheduler last' and service == first and len(
                    self.cloud.hosts) > 1:
                for release in (OLD, NEW):
                    yield (f'{how}: {service} to {release} again',
                           lambda release=release: self.put(first, release))

    def _down(self):
        """Hosts first, as an older nova-conductor knows less than they say.

        Then all others at once: what one of 34 writes down of a boot, one of
        33 can't read (nova/objects/request_spec.py, ImageMetaProps).
        """
        first, *others = self.releases.computes()
        yield (f'{first} of 33, where all records say 34',
               lambda: self.refused(first))
        yield (f'back: {first} to 33, its record set by hand',
               lambda: self.back(first))
        for service in others:
            # A nova-compute of 33 runs: Nova takes another one.
            yield (f'back: {service} to 33',
                   lambda service=service: self.put(service, OLD))
        yield 'back: the server that 34 has booted, on 33', (
            self.newer_on_older)
        yield 'back: all others to 33 at once, records set by hand', (
            lambda: self.back('nova-conductor', 'nova-scheduler', 'nova'))

    # What they do.

    def boot(self):
        self.actor.begin()
        self.answers = answers.Answers(self.actor)
        self.answered = self.answers.ask(*self.cloud.hosts)
        self.actor.assertEqual(self.answers.usual, self.answered)
        self.picture = self.actor.picture()
        for what, answer in self.answered.items():
            self.figure(what, answer)
        self.assertAll(OLD)

    def find(self):
        self.actor.find()
        self.answers = answers.Answers(self.actor)
        self.answered = self.answers.usual
        self.picture = self.actor.picture()
        self.figure('releases', ', '.join(
            f'{name} {release}' for name, release
            in sorted(self.releases.running().items())))

    def schema(self):
        with self.actor.nothing_moves():
            self.releases.manage('api_db', 'sync')
            self.releases.manage('db', 'sync')
            self.releases.manage('upgrade', 'check', program='nova-status')
        self.looked()
        self.check(*self.hosts_of('nova'))

    def put(self, service, release):
        """Restart a service from a release; look at all meanwhile."""
        with self.actor.nothing_moves():
            self.releases.put(service, release)
        self.looked()
        self.assertRelease(service, release)
        self.check(*self.hosts_of(service), brief=(
            release == OLD or service == 'nova-conductor'))

    def hosts_of(self, service):
        """Where boots and moves are asked for once it has changed.

        A host of its own after its nova-compute; else the first one, where
        they are quick.
        """
        host = service.removeprefix('nova-compute-')
        return [host if host != service else next(iter(self.cloud.hosts))]

    def finish(self):
        self.assertAll(NEW)
        with self.actor.nothing_moves():
            self.releases.forget()
            self.releases.manage('db', 'online_data_migrations')
        self.looked()
        self.check(*self.cloud.hosts)

    def boot_newer(self):
        actor = self.actor
        self.home, self.target = actor.free(actor.nested, 1)[:2]
        flavor = actor.flavor(template=('--node', '0=1', '--pin',
                                        f'0=0:{self.home}'))
        actor.grant(flavor, 'template')
        self.newer = actor.boot(flavor, host=actor.nested)
        self.native = actor.boot(actor.flavor(dedicated=False),
                                 host=actor.nested)
        actor.assertIsOn(self.newer, 1, {0: self.home})

    def newer_on_older(self):
        """Moved and rebooted; what Nova refuses, it refuses a native one."""
        actor = self.actor
        actor.admin.run('kongming', 'server', 'set', '--pin',
                        f'0=0:{self.target}', '--wait', '--timeout', 300,
                        self.newer)
        actor.assertIsOn(self.newer, 1, {0: self.target})
        for uuid in (self.newer, self.native):
            actor.act(uuid, reboot={'type': 'HARD'})
            actor.wait_for(uuid)
        actor.assertIsOn(self.newer, 1, {0: self.target})
        said = {}
        for name, uuid in (('with', self.newer), ('without', self.native)):
            answer = actor.admin.sdk.compute.post(
                f'/servers/{uuid}/action', json={'migrate': None},
                microversion='2.56')
            said[name] = answer.status_code
            self.figure(f'cold migration {name} a template',
                        f'HTTP {answer.status_code}')
        actor.assertEqual(said['with'], said['without'])
        actor.delete(self.newer, self.native)

    def refused(self, service):
        """The older release, while all records say the newer one."""
        known = self.releases
        process = known.process(service)
        with self.actor.nothing_moves():
            # Whatever nova-conductor remembers of an earlier run.
            known.hang_up()
            process.stop()
            known.note(OLD, service)
            size = process.log.stat().st_size
            known.start(service)
            process = known.process(service)
            self.actor.until(
                f'{service} says that it is too old', lambda: _TOO_OLD in (
                    process.log.read_bytes()[size:].decode(
                        errors='replace')))
            process.stop()
        self.looked()
        self.figure('it says', f'{_TOO_OLD} (v{known.known[OLD][1]}) than '
                    f'the minimum (v{known.known[NEW][1]})')

    def back(self, *services):
        """Records lowered, by hand, since Nova has no way."""
        with self.actor.nothing_moves():
            for service in services:
                self.releases.process(service).stop()
                self.releases.note(OLD, service)
                self.releases.lower(service)
            if services[0] in self.releases.computes():
                # nova-conductor remembers that there was none of 33.
                self.releases.hang_up()
            for service in services:
                self.releases.begin(service)
        self.looked()
        for service in services:
            self.assertRelease(service, OLD)
        self.check(*self.hosts_of(services[0]), brief=True)

    # Checks.

    def figure(self, what, text):
        self.stage.figures.append((what, text))

    def looked(self):
        self.figure('looks at all threads meanwhile, none moved',
                    str(self.actor.looks))

    def check(self, *hosts, brief=False):
        """Nothing has moved, all agree, all is answered as before.

        :param hosts: for boots and moves
        :param brief: as tests.cloud.upgrade.answers.Answers.ask takes it
        """
        actor = self.actor
        actor.assertEqual(self.picture, actor.picture())
        actor.assertAgree()
        begin = time.monotonic()
        found = self.answers.ask(*hosts, brief=brief or self.short)
        actor.assertEqual({what: self.answered[what] for what in found},
                          found)
        self.figure('answered as before', f'{len(found)} requests, in '
                    f'{time.monotonic() - begin:.0f} s')

    def assertRelease(self, service, release):
        self.actor.assertEqual(release, self.releases.running()[service])

    def assertAll(self, release):
        self.actor.assertEqual(
            dict.fromkeys(self.releases.services(), release),
            self.releases.running())

    # All of it.

    def run(self):
        """Each step, also after one that failed.

        Nothing is done without servers, and nothing is removed from a cloud
        that is not as it should be.

        :returns: rows of the table
        """
        for title, function in self.steps():
            if self.rows and self.rows[-1][1] != 'ok' and (
                    len(self.rows) == 1 or title.startswith('removal')
                    or self.rows[-1][1] == 'skipped'):
                self.rows.append((title, 'skipped', 0.0, []))
                continue
            how = 'ok'
            print(f'\033[1m--- {title}\033[0m', flush=True)
            self.stage.figures = figures = []
            begin = time.monotonic()
            try:
                function()
            except Exception:
                traceback.print_exc(file=sys.stderr)
                how = 'failed'
            seconds = time.monotonic() - begin
            self.rows.append((title, how, seconds, figures))
            print(f'{how:8} {seconds:6.1f} s' + ''.join(
                f'\n    {what} {text}' for what, text in figures),
                flush=True)
        return self.rows


def prepare(cloud, names):
    """An empty cloud of the older release, up.

    :raises tests.cloud.error.Problem: if another cloud is there
    """
    facts = cloud.layout.facts()
    if facts.get('made') and not facts.get('upgrade'):
        raise error.Problem(
            f'{cloud.layout.folder} has a cloud of tools/cloud up; remove it '
            f'(tools/cloud down --wipe), or set KONGMING_CLOUD')
    cloud.down()
    cloud.layout.empty()
    cloud.layout.make()
    settings = {'upgrade_levels': {'compute': 'auto'},
                'DEFAULT': {'allow_resize_to_same_host': 'true'},
                'quota': {'instances': '-1', 'cores': '-1'}}
    cloud.layout.note(upgrade=True, hosts=names, settings=dict.fromkeys(
        ('nova', *names), settings), releases=dict.fromkeys(
        ('nova', 'nova-manage', 'nova-conductor', 'nova-scheduler',
         *(f'nova-compute-{name}' for name in names)), OLD))
    cloud.up(names)


def check_names(names):
    """:raises tests.cloud.error.Problem: if the hosts do not do"""
    if not any(name.startswith('nested') for name in names):
        raise error.Problem('an upgrade is shown with servers that lend and '
                            'borrow, which takes a host with shared pCPUs: '
                            'nested1 or nested2')


def check_parts(parts, resume):
    """:raises tests.cloud.error.Problem: if there are no such parts"""
    for part in parts:
        if part not in PARTS:
            raise error.Problem(f"there is no part '{part}'; there are "
                                f"{', '.join(PARTS)}")
    if {'first', 'last'} <= {*parts} and 'back' not in parts or (
            'back' in parts and 'first' not in parts and not resume):
        raise error.Problem("'back' goes back from where 'first' has got, "
                            "and 'last' begins where 'back' ends")


def main(args, cloud, names):
    """``tools/cloud upgrade``."""
    began = time.monotonic()
    check_names(names)
    check_parts(args.parts, args.resume)
    if args.list:
        cloud.hosts = {host.name: host for host in hosts_mod.named(
            cloud.layout, names)}
        for title, _function in Procedure(
                cloud, releases.Releases(cloud), args.parts,
                args.resume).steps():
            print(title)
        return 0
    try:
        if not args.resume:
            prepare(cloud, names)
        elif not (cloud.is_up() and cloud.layout.facts().get('upgrade')):
            raise error.Problem('no cloud of an earlier run is up; --keep '
                                'leaves one')
        ready = time.monotonic()
        procedure = Procedure(cloud, releases.Releases(cloud), args.parts,
                              args.resume, args.short)
        rows = procedure.run()
    finally:
        if not args.leave_up:
            cloud.down()
    print(teller.table(rows))
    counts = {how: sum(row[1] == how for row in rows)
              for how in ('ok', 'failed', 'skipped')}
    (cloud.layout.folder / 'upgrade.json').write_text(json.dumps(rows))
    print(', '.join(f'Nova {release} is {name}, service version {version}'
                    for release, (name, version)
                    in procedure.releases.known.items()))
    print(f'cloud up in {ready - began:.0f} s, the upgrade in '
          f'{time.monotonic() - ready:.0f} s; commands and logs are in '
          f'{cloud.layout.logs}')
    print(f'{counts["ok"]} passed, {counts["failed"]} failed, '
          f'{counts["skipped"]} skipped')
    return 0 if counts['ok'] == len(rows) else 1
