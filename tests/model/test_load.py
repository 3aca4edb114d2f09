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

"""The same where servers lend and borrow by their load.

No thread is where another server's is, but on what is shared; no pCPU has two
owners.  Servers get idle and busy, borrowers come and leave, cells of servers
that own nothing change nodes, as balance has them, in any order with all that
:mod:`tests.model.test_ownership` does: lost messages, a libvirt that fails
and a nova-compute that starts anew in the middle of it.
"""

import contextlib

from hypothesis import stateful
from hypothesis import strategies as st
from nova.compute import vm_states

from tests.model import lending
from tests.model import test_ownership

#: One pCPU is enough for it while it is idle; the others are lent.
_LENDS = {'kongming:profile.calm.when': 'use<15%',
          'kongming:profile.calm.pin.0': '0-{last}~v0',
          'kongming:profile.calm.lend': 'true'}
_BORROWS = {'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1',
            'kongming:balance': 'node'}


def _lends(node, pins):
    last = len(pins.split()) - 1
    return test_ownership.template(node, pins, **{
        key: value.format(last=last) for key, value in _LENDS.items()})


LENDERS = [_lends(0, '0:2 1:3'), _lends(0, '0:4 1:5 2:6'),
           _lends(1, '0:10 1:11'), _lends(1, '0:12 1:13 2:14')]
BORROWERS = [{**_BORROWS, 'kongming:node.0': str(node),
              'kongming:borrow': borrow}
             for node, borrow in ((0, 'node'), (1, 'host'))]
TEMPLATES = [
    *(test_ownership.flavor(30 + number, len(
        specs['kongming:pin.0'].split()), specs)
      for number, specs in enumerate(LENDERS)),
    *(test_ownership.flavor(40 + number, 1, specs)
      for number, specs in enumerate(BORROWERS)),
    *test_ownership.TEMPLATES[5:7]]


class Load(test_ownership.Ownership):

    KIND = lending.Host
    TEMPLATES = TEMPLATES

    def __init__(self):
        super().__init__()
        for patch in lending.patches(self.cloud.clock):
            self.cloud.resources.enter_context(patch)

    @stateful.initialize(name=test_ownership.HOST, calm=st.booleans())
    def begin(self, name, calm):
        lenders, borrowers = TEMPLATES[:4], TEMPLATES[4:6]
        for flavor in (lenders[0], borrowers[1], lenders[2], borrowers[0]):
            self._boot(self.cloud.hosts[name], flavor)
        if calm:
            self.all_are_idle(name)

    @stateful.rule(name=test_ownership.HOST)
    def all_are_idle(self, name):
        """And the passes come that the host asks for then."""
        host = self.cloud.hosts[name]
        host.load_changes(set(self.cloud.servers(vm_states.ACTIVE))
                          - host.calm)
        for _pass in range(2):
            with contextlib.suppress(*test_ownership.cloud.EXPECTED):
                self.cloud.look_after(host)

    @stateful.rule(choices=st.lists(test_ownership.CHOICE, min_size=1,
                                    max_size=3),
                   libvirt=test_ownership.LIBVIRT)
    def idle_or_busy(self, choices, libvirt):
        for name, host in self.cloud.hosts.items():
            here = {uuid for uuid in self.cloud.servers(vm_states.ACTIVE)
                    if self.cloud.database.instances[uuid]['host'] == name}
            some = {self.choose(choice, vm_states.ACTIVE, template=True)
                    for choice in choices} & here
            with (contextlib.nullcontext() if libvirt is None
                  else host.libvirt.failing(libvirt)):
                host.load_changes(some)


class LoadTest(test_ownership.OwnershipTest):

    test_one_owner_again = None

    def test_one_owner(self):
        before = lending.Host.borrowed
        # A pass has threads of its own, so that these take longer.
        self.one_owner(test_ownership.SEED, Load, test_ownership.STEPS // 8)
        self.assertGreater(lending.Host.borrowed, before)
