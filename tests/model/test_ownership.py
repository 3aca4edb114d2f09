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

"""No pCPU has two owners, whatever happens and whatever is lost.

A stateful test over :mod:`tests.model`.  ``KONGMING_TEST_STEPS`` says how
many steps, ``KONGMING_TEST_SEED`` which ones; a failure names its seed.  Two
tests share them, so that two cores do.
"""

import contextlib
import logging
import os
import random

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st
from nova.compute import vm_states
from nova import objects

from kongming.live import rearrange
from nova_ext.live import states
from nova_ext.ownership import ownership
from nova_ext.ownership import write_ahead
from tests import base
from tests.model import cloud
from tests.model import database
from tests.model import host as hosts

STEPS = int(os.environ.get('KONGMING_TEST_STEPS', '10000'))
#: The same histories in each run; ``random`` looks for others.
SEED = os.environ.get('KONGMING_TEST_SEED', '2')
SEED = random.SystemRandom().randrange(2 ** 32) if (
    SEED == 'random') else int(SEED)
#: Of one history; then all is over and has to be well.
LENGTH = 50
#: Servers of both hosts.
MOST = 9
_PINNED = {'hw:cpu_policy': 'dedicated'}


def flavor(number, vcpus, specs):
    found = objects.Flavor(
        id=number, flavorid=str(number), name=str(number), vcpus=vcpus,
        memory_mb=64, root_gb=1, ephemeral_gb=0, swap=0, is_public=True,
        disabled=False, rxtx_factor=1.0, vcpu_weight=0, description=None,
        projects=[], extra_specs={**_PINNED, **specs})
    # As it comes from the database; else each save writes it.
    found.obj_reset_changes()
    return found


def template(node, pins, **specs):
    return {'kongming:node.0': str(node), 'kongming:pin.0': pins,
            'kongming:grant': 'template', **specs}


_ISOLATED = {'hw:emulator_threads_policy': 'isolate'}
_PAGES = {'hw:mem_page_size': 'small'}
#: One vCPU more than have a pCPU.
_MIXED = {'hw:cpu_policy': 'mixed'}
NATIVE = [flavor(1, 1, {}), flavor(2, 2, _PAGES), flavor(3, 3, {}),
          flavor(4, 1, _ISOLATED)]
TEMPLATES = [flavor(10 + number, len(specs['kongming:pin.0'].split())
                    + ('hw:cpu_dedicated_mask' in specs), specs)
             for number, specs in enumerate((
                 template(0, '0:2'), template(0, '0:3 1:2', **_PAGES),
                 template(0, '0:2 1:4'),
                 template(0, '0:7', **_MIXED, **{
                     'hw:cpu_dedicated_mask': '0'}),
                 template(1, '0:10 1:11', **_PAGES), template(1, '0:13'),
                 template(1, '0:13 1:10'), template(1, '0:15 1:14 2:10'),
                 template(1, '0:12', **_ISOLATED)))]
#: What is lost, if anything, and which message; whether libvirt fails.
FAULT = st.one_of(
    st.none(),
    st.tuples(st.sampled_from([database.LATE, *database.FAULTS]),
              # The first and the last save of a live change are the second
              # and the fifth message.
              st.sampled_from([1, 4, 1, 4, 0, 2, 3, 5, 6])))
LIBVIRT = st.sampled_from([None, None, None, False, True])
CHOICE = st.integers(0, 255)
HOST = st.sampled_from(['one', 'two'])


class Ownership(stateful.RuleBasedStateMachine):

    #: Of what kind the hosts are, and what servers are booted from.
    KIND = hosts.Host
    TEMPLATES = TEMPLATES

    def __init__(self):
        super().__init__()
        self.cloud = cloud.Cloud(host=self.KIND)
        #: (host, claim) of servers that are not spawned yet
        self.claimed = []
        #: (server, migration) on the way to another host
        self.moving = []
        #: what nova-api has read, and sends some time
        self.read = {}

    @stateful.initialize(one=CHOICE, two=CHOICE, three=CHOICE)
    def begin(self, one, two, three):
        for name, choice in (('one', one), ('one', two), ('two', three)):
            self.boot(name, choice, None, False)
            if not self.cloud.servers(vm_states.ACTIVE):
                raise cloud.Broken('An empty host takes no template')
            self.boot(name, choice, None, True)

    # What happens.

    @stateful.rule(name=HOST, choice=CHOICE, fault=FAULT,
                   native=st.booleans())
    def boot(self, name, choice, fault, native):
        if len(self.cloud.servers(busy=True)) < MOST:
            flavors = NATIVE if native else self.TEMPLATES
            self.may_fail(fault, self._boot, self.cloud.hosts[name],
                          flavors[choice % len(flavors)])

    def _boot(self, host, flavor):
        _uuid, claim = self.cloud.claim(host, flavor)
        self.cloud.spawn(host, claim)

    @stateful.rule(name=HOST, choice=CHOICE)
    def claim(self, name, choice):
        if len(self.cloud.servers(busy=True)) >= MOST:
            return
        host = self.cloud.hosts[name]
        flavors = [*NATIVE[:2], *self.TEMPLATES]
        with contextlib.suppress(*cloud.EXPECTED):
            _uuid, claim = self.cloud.claim(
                host, flavors[choice % len(flavors)])
            self.claimed.append((host, claim))

    @stateful.precondition(lambda self: self.claimed)
    @stateful.rule(choice=CHOICE, fault=FAULT)
    def spawn(self, choice, fault):
        self.may_fail(fault, self.cloud.spawn, *self.claimed.pop(
            choice % len(self.claimed)))

    @stateful.rule(choice=CHOICE, seed=CHOICE, fault=FAULT, libvirt=LIBVIRT,
                   queued=st.booleans())
    def change(self, choice, seed, fault, libvirt, queued):
        uuid = self.choose(choice, *states.CHANGEABLE, template=True)
        if uuid is None:
            return
        server = self.cloud.read(uuid)
        host = self.cloud.host_of(server)
        step = _step(random.Random(seed), host, server)
        if step is not None:
            self._change(host, [step], fault, libvirt, queued)

    @stateful.rule(choice=CHOICE, fault=FAULT, libvirt=LIBVIRT,
                   queued=st.booleans())
    def swap(self, choice, fault, libvirt, queued):
        one = self.choose(choice, *states.CHANGEABLE, template=True)
        if one is None:
            return
        one = self.cloud.read(one)
        host = self.cloud.host_of(one)
        for uuid in self.cloud.servers(*states.CHANGEABLE):
            two = self.cloud.read(uuid)
            found = (uuid != one.uuid and two.host == one.host
                     and istemplate(two) and _swap(host, one, two))
            if found:
                self._change(host, found, fault, libvirt, queued)
                return

    def _change(self, host, steps_, fault, libvirt, queued):
        uncertain = write_ahead.uncertain(host.rt)
        if (fault is None and libvirt is None and not queued
                and host.name not in self.cloud.unsure
                and not any(step.server in uncertain for step in steps_)):
            # Nothing is in its way.
            self.cloud.change(host, steps_)
            return
        if queued:
            self.cloud.queue.append(lambda: self._boot_native(host))
        failing = (contextlib.nullcontext() if libvirt is None
                   else host.libvirt.failing(libvirt))
        with failing:
            self.may_fail(fault, self.cloud.change, host, steps_)
        self.cloud.queue.clear()

    def _boot_native(self, host):
        if len(self.cloud.servers(busy=True)) < MOST + 2:
            with contextlib.suppress(*cloud.EXPECTED):
                self._boot(host, NATIVE[1])

    @stateful.rule(choice=CHOICE, fault=FAULT)
    def reboot(self, choice, fault):
        self.do(self.cloud.reboot, choice, fault, vm_states.ACTIVE,
                vm_states.ERROR)

    @stateful.rule(choice=CHOICE, fault=FAULT)
    def rebuild(self, choice, fault):
        self.do(self.cloud.rebuild, choice, fault, vm_states.ACTIVE,
                vm_states.ERROR)

    @stateful.rule(choice=CHOICE, fault=FAULT)
    def stop_or_start(self, choice, fault):
        uuid = self.choose(choice, vm_states.ACTIVE, vm_states.STOPPED)
        if uuid is not None:
            stopped = (self.cloud.database.instances[uuid]['vm_state']
                       == vm_states.STOPPED)
            self.do(self.cloud.start if stopped else self.cloud.stop, choice,
                    fault, vm_states.ACTIVE, vm_states.STOPPED)

    @stateful.rule(choice=CHOICE, fault=FAULT)
    def rescue(self, choice, fault):
        self.do(self.cloud.rescue, choice, fault, vm_states.ACTIVE)

    @stateful.precondition(lambda self: self.cloud.servers(
        vm_states.RESCUED))
    @stateful.rule(choice=CHOICE)
    def unrescue(self, choice):
        self.do(self.cloud.unrescue, choice, None, vm_states.RESCUED)

    @stateful.rule(choice=CHOICE, fault=FAULT)
    def delete(self, choice, fault):
        self.do(self.cloud.delete, choice, fault, vm_states.ACTIVE,
                vm_states.STOPPED, vm_states.RESCUED, vm_states.ERROR)

    @stateful.rule(choice=CHOICE)
    def nova_api_reads(self, choice):
        uuid = self.choose(choice, vm_states.ACTIVE, vm_states.STOPPED)
        if uuid is not None:
            self.read[uuid] = self.cloud.read(uuid)

    @stateful.rule(choice=CHOICE, kind=CHOICE, native=st.booleans())
    def prepare_resize(self, choice, kind, native):
        uuid = self.choose(choice, vm_states.ACTIVE, vm_states.STOPPED)
        if uuid is None or self.is_written_late(uuid):
            return
        server = self.sent(uuid)
        other, = [host for host in self.cloud.hosts.values()
                  if host.name != server.host]
        flavors = [server.flavor,
                   *(NATIVE if native else self.TEMPLATES)]
        with contextlib.suppress(*cloud.EXPECTED):
            self.moving.append((server, self.cloud.prepare_resize(
                server, other, flavors[kind % len(flavors)])))

    @stateful.precondition(lambda self: self.moving)
    @stateful.rule(choice=CHOICE, fault=FAULT)
    def resize(self, choice, fault):
        server, migration = self.moving.pop(choice % len(self.moving))
        if migration.status == 'pre-migrating':
            self.may_fail(fault, self.cloud.resize, server, migration)
            if migration.status == 'post-migrating':
                self.moving.append((server, migration))
        else:
            self.may_fail(fault, self.cloud.finish_resize, server, migration)

    @stateful.precondition(lambda self: self.cloud.servers(
        vm_states.RESIZED))
    @stateful.rule(choice=CHOICE, fault=FAULT, revert=st.booleans())
    def end_resize(self, choice, fault, revert):
        self.do(self.cloud.revert if revert else self.cloud.confirm,
                choice, fault, vm_states.RESIZED)

    @stateful.rule(name=HOST)
    def audit(self, name):
        self.cloud.audit(self.cloud.hosts[name])

    @stateful.rule(name=HOST, fault=FAULT)
    def resolve(self, name, fault):
        self.may_fail(fault, self.cloud.resolve, self.cloud.hosts[name])

    @stateful.rule(name=HOST, choice=CHOICE)
    def write_uncertain(self, name, choice):
        host = self.cloud.hosts[name]
        found = sorted(uuid for uuid in write_ahead.uncertain(host.rt)
                       if uuid in self.cloud.owned(host))
        if found:
            self.cloud.write_uncertain(host, found[choice % len(found)])

    @stateful.rule(name=HOST, fault=FAULT, libvirt=LIBVIRT)
    def look_after(self, name, fault, libvirt):
        host = self.cloud.hosts[name]
        with (contextlib.nullcontext() if libvirt is None
              else host.libvirt.failing(libvirt)):
            self.may_fail(fault, self.cloud.look_after, host)

    @stateful.rule(name=HOST)
    def restart(self, name):
        self.cloud.restart(self.cloud.hosts[name])
        # Whoever was being made there is not any more.
        self.claimed = [(host, claim) for host, claim in self.claimed
                        if host.name != name]

    @stateful.precondition(lambda self: self.cloud.bus.late)
    @stateful.rule(choice=CHOICE)
    def carry_out(self, choice):
        self.cloud.carry_out(choice)

    @stateful.rule(seconds=st.integers(1, 200))
    def wait(self, seconds):
        self.cloud.wait(seconds)

    @stateful.invariant()
    def one_owner(self):
        self.cloud.check()
        self.cloud.check_exactly()

    def teardown(self):
        try:
            self.cloud.settle()
        finally:
            self.cloud.resources.close()

    # How.

    def may_fail(self, fault, function, *args):
        """Do something, of which a message may be lost."""
        with (self.cloud.losing(*fault or (None, 0)),
              contextlib.suppress(*cloud.EXPECTED)):
            function(*args)

    def choose(self, choice, *states, template=False):
        """A server in one of these states, or None."""
        found = self.cloud.servers(*states)
        if template:
            found = [uuid for uuid in found
                     if 'kongming:' in self.cloud.database.extra[uuid][
                         'flavor']]
        return found[choice % len(found)] if found else None

    def do(self, function, choice, fault, *states):
        """Something that a user asks for."""
        uuid = self.choose(choice, *states)
        if uuid is not None:
            self.may_fail(fault, function, self.sent(uuid, fault))

    def is_written_late(self, uuid):
        """Whether a server that moves on would be written over.

        Nova's own writes, too, can be late like that.
        """
        return any(late.obj.uuid == uuid for late in self.cloud.bus.late)

    def sent(self, uuid, fault=None):
        """A server as nova-api sends it: as it has been read some time."""
        found, now = self.read.pop(uuid, None), self.cloud.read(uuid)
        # test_ownership_faults has what happens with both.
        same = found is not None and fault is None and all(
            found[name] == now[name]
            for name in ('host', 'vm_state', 'task_state'))
        return found if same else now


def istemplate(server):
    return 'kongming:node.0' in server.flavor.extra_specs


def _step(rng, host, server):
    """A step that the planner might choose, or None."""
    mine = ownership.Ownership(server.numa_topology)
    if mine.has_target or mine.lacks_pcpus:
        return None
    cell, = server.numa_topology.cells
    node = rng.choice([cell.id, cell.id, 1 - cell.id])
    free = sorted(hosts.NODES[node][1] - host.pinned)
    whole = dict(mine.pins)
    if mine.emulator:
        whole[rearrange.EMULATOR], = mine.emulator
    if not whole and node == cell.id:
        return None
    moving = (list(whole) if node != cell.id
              else rng.sample(list(whole), rng.randint(1, len(whole))))
    if len(free) < len(moving):
        return None
    return rearrange.Step(server.uuid, 0, cell.id, node, tuple(
        rearrange.Move(vcpu, whole[vcpu], target)
        for vcpu, target in zip(moving, rng.sample(free, len(moving)))))


def _swap(host, one, two):
    """Steps by which two servers exchange a pCPU, by way of a free one."""
    topologies = [server.numa_topology for server in (one, two)]
    if any(ownership.Ownership(topology).has_target
           or ownership.Ownership(topology).lacks_pcpus
           for topology in topologies):
        return None
    (first,), (second,) = (topology.cells for topology in topologies)
    free = sorted(hosts.NODES[first.id][1] - host.pinned)
    if first.id != second.id or not free or not (
            first.cpu_pinning and second.cpu_pinning):
        return None
    mine, theirs = first.cpu_pinning[0], second.cpu_pinning[0]
    return [rearrange.Step(server.uuid, 0, first.id, first.id,
                           (rearrange.Move(0, source, target),))
            for server, source, target in (
                (one, mine, free[0]), (two, theirs, mine),
                (one, free[0], theirs))]


def settings(steps_=STEPS // 2, **kwargs):
    """As many histories as make the steps."""
    return hypothesis.settings(
        max_examples=max(1, steps_ // LENGTH), stateful_step_count=LENGTH,
        database=None, deadline=None, print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck), **kwargs)


class OwnershipTest(base.TestCase):

    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)

    def one_owner(self, seed, machine=Ownership, steps_=STEPS // 2):
        try:
            stateful.run_state_machine_as_test(
                hypothesis.seed(seed)(machine), settings=settings(steps_))
        except Exception as exc:
            exc.add_note(f'KONGMING_TEST_SEED={SEED} '
                         f'KONGMING_TEST_STEPS={STEPS}')
            raise

    def test_one_owner(self):
        self.one_owner(SEED)

    def test_one_owner_again(self):
        self.one_owner(SEED + 1)
