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

"""The servers that live through an upgrade, and what must not change."""

import contextlib
import datetime
import threading
import time

from tests.cloud.story import chapter
from tests.embedded import witness

#: What the servers are called.
_ROLES = ('moved-local', 'lender', 'borrower', 'hours', 'moved-nested',
          'native-shared', 'native-dedicated')
#: Pauses between two looks at the threads of a host, in seconds.
_PAUSE = {'local': 0.2, 'nested': 1.0}


class Servers(chapter.Chapter):
    """Servers of each kind, on the hosts that there are.

    It is no test by itself: the steps of an upgrade use it as their actor.
    On a nested host are a lender and its borrower, a server that was moved
    by hand, one with hours, and two without a template.  On ``local1``, which
    has two pCPUs, is one that is moved by hand.
    """

    def __init__(self, stage):
        super().__init__()
        self.stage = stage
        self.cloud, self.look = stage.cloud, stage.look
        self.admin, self.member = stage.admin, stage.member
        self._flavors, self.mine, self._owners = [], [], {}
        #: role -> uuid
        self.by_role = {}
        self.nested = next(name for name, host in self.cloud.hosts.items()
                           if host.kind == 'nested')
        #: Of those that a live move is asked for: host -> uuid
        self.movers = {}

    # Boot.

    def document(self, name, text):
        path = self.cloud.layout.data / f'{name}.yaml'
        path.write_text(f'version: 1\n{text}')
        return (path,)

    def begin(self):
        """Boot them, and have them where they are to be."""
        add = self._add
        if 'local1' in self.cloud.hosts:
            self.movers['local1'] = add(
                'moved-local', 'local1', grant='template',
                template=('--pin', '0=0:0'))
        nested = self.nested
        add('lender', nested, 2, template=self.document('lender', """\
cells:
  0:
    node: 1
    pin: "0:8 1:9"
profiles:
  night:
    cells: {0: {pin: "0-1~v0"}}
    lend: true
  day:
    cells: {0: {pin: "0-1:v0-1"}}
grant: [profile]
"""))
        add('borrower', nested, dedicated=False, hw__numa_nodes='1',
            template=self.document('borrower', """\
cells: {0: {node: 1}}
borrow: node
"""))
        now = datetime.datetime.now(datetime.UTC)
        hours = [(now + datetime.timedelta(hours=each)).strftime('%H:%M')
                 for each in (-2, 10)]
        add('hours', nested, 2, template=self.document('hours', f"""\
cells:
  0:
    node: 0
    pin: "0:4 1:5"
profiles:
  now:
    when: "{hours[0]}-{hours[1]} UTC"
    cells: {{0: {{pin: "0-1~v0"}}}}
"""))
        self.movers[nested] = add(
            'moved-nested', nested, grant='template',
            template=('--node', '0=0', '--pin', '0=0:2'))
        for uuid in self.by_role.values():
            self.wait_for(uuid)
        # These take what is left.
        for uuid in (add('native-shared', nested, dedicated=False),
                     add('native-dedicated', nested, hw__numa_nodes='1')):
            self.wait_for(uuid)
        for host, uuid in self.movers.items():
            self.move(uuid, self.free(host, 0)[0])
        self.until('its hours have begun', lambda: self.look.threads(
            self.by_role['hours']) == dict.fromkeys((0, 1), frozenset({4})))
        self.assertClean()
        self.lend()

    def find(self):
        """Those that an earlier run has left."""
        compute = self.admin.sdk.compute
        for server in compute.servers(all_projects=True):
            if server.name in _ROLES:
                self.by_role[server.name] = server.id
                self._owners[server.id] = self.admin
                self.mine.append(server.id)
        self.assertEqual({*_ROLES} - (
            {'moved-local'} if 'local1' not in self.cloud.hosts else set()),
            self.by_role.keys())
        self.movers = {self.look.server(uuid)['host']: uuid
                       for role, uuid in self.by_role.items()
                       if role.startswith('moved-')}
        self.assertBorrows()

    def assertBorrows(self):
        """It is lent now, and the borrower is there."""
        self.assertIn(9, self.look.threads(self.by_role['borrower'])[0])

    def _add(self, role, host, vcpus=1, grant=None, **kwargs):
        flavor = self.flavor(vcpus, **kwargs)
        if grant:
            self.grant(flavor, grant)
        uuid = self.by_role[role] = self.create(flavor, host=host, name=role)
        return uuid

    def free(self, host, node):
        """pCPUs of a node that nobody owns."""
        taken = {pcpu for on, pcpu in self.look.owners() if on == host}
        _shared, dedicated = self.cloud.hosts[host].cpu_sets()
        if self.cloud.hosts[host].kind == 'nested':
            shape = self.cloud.hosts[host].SHAPE
            dedicated = [pcpu for pcpu in shape.pcpus(node)
                         if pcpu in dedicated]
        return [pcpu for pcpu in dedicated if pcpu not in taken]

    def shared(self, host, node):
        """The shared pCPUs of a node of a nested host."""
        on = self.cloud.hosts[host]
        return {*on.cpu_sets()[0]} & {*on.SHAPE.pcpus(node)}

    # What is asked of them.

    def move(self, uuid, pcpu):
        """A live move of a server of one vCPU, as a tenant asks for it."""
        self.admin.run('kongming', 'server', 'set', '--pin', f'0=0:{pcpu}',
                       '--wait', '--timeout', 300, uuid)
        self.assertIsOn(uuid, 0, {0: pcpu})

    def there_and_back(self, host):
        """A live move to a free pCPU and back."""
        uuid = self.movers[host]
        home = self.look.pins(uuid)[0]
        target = self.free(host, 0)[0]
        self.move(uuid, target)
        self.move(uuid, home)

    def profile(self, name):
        """A tenant asks for a profile of the lender."""
        self.admin.run('kongming', 'server', 'set', '--profile', name,
                       '--wait', '--timeout', 300, self.by_role['lender'])

    def lend(self):
        """The lender packs itself onto one pCPU and lends the other."""
        borrower = self.by_role['borrower']
        own = self.look.threads(borrower)[0]
        self.assertNotIn(9, own)
        self.profile('night')
        self.until('the borrower floats over what is lent', lambda: (
            self.look.threads(borrower) == {0: own | {9}}), pause=1)
        self.assertEqual(dict.fromkeys((0, 1), frozenset({8})),
                         self.look.threads(self.by_role['lender']))

    def take_back_and_lend(self):
        """The lender has its pCPU back, alone, and lends it again."""
        borrower = self.by_role['borrower']
        lent = self.look.threads(borrower)[0]
        self.assertIn(9, lent)
        self.profile('day')
        self.assertEqual({0: lent - {9}}, self.look.threads(borrower))
        self.assertEqual({0: frozenset({8}), 1: frozenset({9})},
                         self.look.threads(self.by_role['lender']))
        self.assertClean()
        self.lend()

    def assertAgree(self):
        """Nova, Placement, libvirt and the kernel agree, as it is lent.

        The audit knows of no lending: it has to find the borrower on the
        lender's pCPU, and nothing else.
        """
        lent = [f'vCPU 0 of {self.by_role["borrower"]} on {self.nested} runs '
                f'on {frozenset({9})}, which others own']
        try:
            self.until('', lambda: self.look.audit() == lent, pause=1)
        except AssertionError:
            self.assertEqual(lent, self.look.audit())

    # What must not change.

    def threads(self, host):
        """role -> vCPU -> pCPUs, by the kernel of a host."""
        names = {self.look.domain_name(uuid): role
                 for role, uuid in self.by_role.items()
                 if self.look.server(uuid)['host'] == host}
        found = witness.threads_of_all(
            list(names), self.cloud.hosts[host].shell)
        return {names[name]: threads for name, threads in found.items()}

    def picture(self):
        """All that an upgrade must not change of each server.

        Its process, what Nova has of it, what it has allocated, and where
        libvirt and the kernel have its threads.
        """
        found = {}
        for name, host in self.cloud.hosts.items():
            threads = self.threads(name)
            domains = self.look.domains(host)
            for role in threads:
                uuid = self.by_role[role]
                found[role] = {
                    'host': name, 'process': self.look.process(uuid)[0],
                    'threads': threads[role],
                    'libvirt': witness.domain(domains[uuid][1])[0],
                    'cells': self.look.cells(uuid),
                    'allocations': self.look.allocations(uuid)}
        self.assertEqual(self.by_role.keys(), found.keys())
        return found

    @contextlib.contextmanager
    def nothing_moves(self):
        """Threads are looked at all the time meanwhile, by the kernel.

        :raises AssertionError: if one was anywhere else for a moment
        """
        was = {name: self.threads(name) for name in self.cloud.hosts}
        names = {host: {self.look.domain_name(self.by_role[role]): role
                        for role in threads}
                 for host, threads in was.items()}
        seen = {host: [] for host in was}
        times = dict.fromkeys(was, 0)
        done = threading.Event()

        def watch(name):
            host = self.cloud.hosts[name]
            while not done.is_set():
                try:
                    found = witness.threads_of_all(
                        list(names[name]), host.shell)
                except Exception as exc:  # told below, not lost in a thread
                    seen[name].append(repr(exc))
                    return
                found = {names[name][domain]: threads
                         for domain, threads in found.items()}
                times[name] += 1
                if found != was[name]:
                    seen[name].append(found)
                time.sleep(_PAUSE[host.kind])

        watchers = [threading.Thread(target=watch, args=(name,))
                    for name in was]
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            done.set()
            for watcher in watchers:
                watcher.join()
        for name, different in seen.items():
            self.assertEqual([], different, f'{name} had {was[name]}')
        self.looks = sum(times.values())
