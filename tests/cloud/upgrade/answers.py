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

"""What is asked of a cloud at each step of an upgrade, and what it answers.

An answer is a word that has to stay the same: what was not refused before is
not refused now, and what was refused is refused still.
"""

_TAKEN = ('refused: No valid host was found. There are not enough hosts '
          'available.')


class Answers:
    """:param actor: tests.cloud.upgrade.servers.Servers"""

    def __init__(self, actor):
        self.actor = actor
        self.admin = actor.admin
        new = actor.flavor
        #: what is asked -> the flavor, the host, and the pCPU: what boots at
        #: the same time
        self._boots = []
        first = {}
        for host in actor.cloud.hosts:
            pcpu = actor.free(host, 0)[0]
            first[f'boot by a template, {host}'] = (
                new(template=('--pin', f'0=0:{pcpu}')), host, pcpu)
        nested = actor.nested
        taken = actor.look.pins(actor.by_role['lender'])[0]
        first['boot on a pCPU that is taken'] = (
            new(template=('--node', '0=1', '--pin', f'0=0:{taken}')), nested,
            None)
        first[f'boot without a template, {nested}'] = (
            new(dedicated=False), nested, None)
        self._boots.append(first)
        if 'local1' in actor.cloud.hosts:
            # It takes what the one by a template has had.
            self._boots.append({'boot without a template, local1': (
                new(hw__numa_nodes='1'), 'local1', None)})
        self._written = new()
        self._fits = f'0=0:{actor.free(nested, 0)[-1]}'

    @property
    def usual(self):
        """What a cloud of one release answers."""
        hosts = self.actor.cloud.hosts
        return {
            'write a template': 'status 0', 'check a template': 'status 0',
            'write a malformed key': 'HTTP 400',
            **{what: _TAKEN if 'taken' in what else 'ACTIVE'
               for what in self.boots(*hosts)},
            **{f'live move, {host}': 'moved' for host in self.actor.movers},
            'lend and borrow': 'lent'}

    def boots(self, *hosts, brief=False):
        """What is asked for that boots a server on one of these hosts."""
        if brief and 'local1' in self.actor.cloud.hosts:
            hosts = {'local1'} & {*hosts}
        return {what for boots in self._boots[:1 if brief else None]
                for what, (_flavor, host, _pcpu) in boots.items()
                if host in hosts or 'taken' in what}

    def ask(self, *hosts, brief=False):
        """Ask for all of it, for boots and moves on these hosts.

        Who lends and borrows is on the nested host.

        :param brief: boot one server on ``local1``, not two, and none on
            the slower hosts
        :returns: what is asked -> the answer
        """
        return {**self.of_commands(), **self.of_boots(*hosts, brief=brief),
                **self.of_live(*hosts)}

    def of_commands(self):
        self.admin.run('kongming', 'template', 'set', '--flavor',
                       self._written, '--pin', self._fits, status=None)
        found = {'write a template': f'status {self.admin.code}'}
        self.admin.run('kongming', 'template', 'check', self._written,
                       status=None)
        found['check a template'] = f'status {self.admin.code}'
        compute = self.admin.sdk.compute
        flavor = compute.find_flavor(self._written).id
        answer = compute.post(
            f'/flavors/{flavor}/os-extra_specs', microversion='2.86',
            json={'extra_specs': {'kongming:pin.0': '0:1 1:one'}})
        found['write a malformed key'] = f'HTTP {answer.status_code}'
        return found

    def of_boots(self, *hosts, brief=False):
        actor, found = self.actor, {}
        wanted = self.boots(*hosts, brief=brief)
        for boots in self._boots:
            asked = {what: (actor.create(flavor, host=host), pcpu)
                     for what, (flavor, host, pcpu) in boots.items()
                     if what in wanted}
            for what, (uuid, pcpu) in asked.items():
                found[what] = self._booted(uuid, pcpu)
            if asked:
                actor.delete(*(uuid for uuid, _pcpu in asked.values()))
        return found

    def _booted(self, uuid, pcpu):
        """How a boot ended."""
        shown = self.actor.until(f'server {uuid} is there', lambda: (
            (found := self.actor.show(uuid))['status'] in ('ACTIVE', 'ERROR')
            and not found['OS-EXT-STS:task_state'] and found))
        if shown['status'] == 'ERROR':
            return 'refused: ' + shown['fault']['message'].splitlines()[
                0][:80]
        if pcpu is not None:
            self.actor.assertIsOn(uuid, 0, {0: pcpu})
        return 'ACTIVE'

    def of_live(self, *hosts):
        """Whoever can't be moved, or be lent to, has failed: no answer."""
        found = {}
        for host in self.actor.movers:
            if host in hosts:
                self.actor.there_and_back(host)
                found[f'live move, {host}'] = 'moved'
        if self.actor.nested in hosts:
            self.actor.take_back_and_lend()
            found['lend and borrow'] = 'lent'
        return found
