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

"""Metadata of a tenant who means no good: any keys, any values."""

import datetime
import time

import hypothesis
from hypothesis import strategies as st

from kongming.fit import demand
from kongming.host import usage
from kongming.intent import limits
from kongming.intent import merge
from kongming.live import threads
from kongming.template import choices
from kongming.template import guest
from kongming.template import template
from tests import base

FLAVOR = {'kongming:node.0': '0', 'kongming:pin.0': '0:2 1:3',
          'kongming:qos': '0:weight=200,quota=50%',
          'kongming:sched': '0:fifo:1',
          'kongming:profile.night.when': '22:00-06:00',
          'kongming:profile.night.pin.0': '0-1~2'}
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
EVERY_GRANT = 'profile template qos'
#: What a metadata line in the log may have at most, in characters.
LONGEST_LINE = 6000

KEYS = st.one_of(
    st.sampled_from([
        'node.0', 'node.1', 'pin.0', 'pin.0.1', 'pin.0.2', 'pin.1',
        'memory.0', 'emulator', 'iothread.1', 'sched', 'qos', 'grant',
        'borrow', 'balance', 'profile', 'profile.night.when',
        'profile.night.pin.0', 'profile.night.lend',
        'profile.x.qos', 'profile.x.sched', 'profile.auto.when', 'pin',
        'pin.', 'pin.0\n', 'pin.٣', 'Grant', 'grant ', '']),
    st.text(max_size=20)).map(lambda key: f'kongming:{key}'[:255])
VALUES = st.one_of(
    st.sampled_from([
        '0', '0:2', '0:4 1:5', '0~0-1', '0-4095~0-8191', 'own', 'shared',
        '0-8191', 'n0c0t0', 'v0-1', '0~v0', 'host', 'true', 'preferred',
        '0:fifo:99', '0-4095:rr:99',
        '0:weight=10000', '0:quota=100%,burst=100%', 'template', 'night',
        'auto', EVERY_GRANT, '00:00-24:00', '0:4\n2026-01-01 ERROR fake',
        '\x00', '\x1b[2J', '\u202e', '9' * 255]),
    st.text(max_size=255))
METADATA = st.dictionaries(KEYS, VALUES, max_size=12)


def flavor(grant=''):
    return template.decode({
        **FLAVOR, **({'kongming:grant': grant} if grant else {})})


def long(unit, separator=',', most=255):
    """As many of a unit as a value holds."""
    return separator.join([unit] * ((most + len(separator))
                                    // (len(unit) + len(separator))))


def parts(value):
    """A pin map of cell 0 in 128 values; ``{}`` is a vCPU of its own."""
    return {f'kongming:pin.0{f".{part}" if part else ""}': value.format(part)
            for part in range(128)}


#: The most that Nova takes: 128 keys, 255 characters each.
LARGEST = {
    'float over everything': parts('{}~' + long('0-8191', most=240)),
    'relative': parts('{}~' + long('n0-1023c0-8191t0-8191', most=240)),
    'cells': {f'kongming:pin.{n}': '0-4095:0-4095' for n in range(128)},
    'ids': {f'kongming:iothread.{n + 1}': long('1') for n in range(128)},
    'digits': {f'kongming:node.{n}': '9' * 255 for n in range(128)},
    'escapes': {f'kongming:pin.{n}': '\U000e0001' * 255 for n in range(128)},
    'names': {f'kongming:{n:-<246}': '\n\x1b' * 127 for n in range(128)},
    'profiles': {f'kongming:profile.p{n}.when': long(
        '00:00-01:00 ../../../etc/passwd', ';') for n in range(128)},
    'vCPUs': parts(' '.join(f'{{0}}{n:02}~0' for n in range(30))),
}


class HostileTest(base.TestCase):

    def assertOneLine(self, intent):
        text = '; '.join(map(str, intent.refused))
        self.assertTrue(text.isprintable(), text)
        self.assertLess(len(text), LONGEST_LINE)

    @hypothesis.given(METADATA)
    def test_without_a_grant_nothing_has_an_effect(self, metadata):
        wanted = flavor()
        intent = merge.merge(wanted, metadata, NOON)
        self.assertIs(wanted, intent.base)
        self.assertIsNone(intent.profile)
        self.assertEqual(bool(metadata), bool(intent.refused))
        self.assertOneLine(intent)

    @hypothesis.given(METADATA, st.sets(st.sampled_from(choices.GRANTS)))
    def test_no_more_than_the_grant(self, metadata, granted):
        wanted = flavor(' '.join(granted))
        bounds = limits.Limits(500, 10)
        intent = merge.merge(wanted, metadata, NOON, bounds)
        base_ = intent.base
        # Whatever is granted, these are the flavor's.
        self.assertEqual((wanted.grant, wanted.profiles, wanted.borrow,
                          wanted.balance),
                         (base_.grant, base_.profiles, base_.borrow,
                          base_.balance))
        self.assertIn(intent.profile, (None, *wanted.profiles))
        if 'profile' not in granted:
            self.assertIsNone(intent.profile)
        if 'qos' not in granted:
            self.assertEqual(wanted.qos, base_.qos)
        if 'template' not in granted:
            self.assertEqual(
                (wanted.nodes, wanted.pins, wanted.memory, wanted.emulator,
                 wanted.iothreads, wanted.sched),
                (base_.nodes, base_.pins, base_.memory, base_.emulator,
                 base_.iothreads, base_.sched))
        self.assertEqual((base_, ()), limits.within(base_, bounds))
        mine = {vcpu: entry for entry in base_.qos
                for part in entry.vcpus for vcpu in part.ids()}
        self.assertLessEqual(mine[0].weight or 100, 200)
        self.assertLessEqual(mine[0].quota, 5000)
        self.assertOneLine(intent)

    @hypothesis.given(METADATA)
    def test_no_thread_leaves_its_own_and_the_shared_set(self, metadata):
        """Whatever is granted: not pCPUs of others, nor of another host's
        shared set, nor those that no template may have.
        """
        host = usage.HostState([usage.NodeState(
            0, frozenset(range(2, 8)), frozenset({2, 3, 6}),
            shared=frozenset({0, 1}), memory_mib=4096,
            siblings=[{p, p + 1} for p in range(0, 8, 2)],
            never=frozenset({1, 7}))])
        default = threads.Threads(
            {0: frozenset({2}), 1: frozenset({3}), 2: frozenset({0, 1})},
            frozenset({0, 1}), {1: frozenset({0, 1})})
        owned = threads.Owned({0: 2, 1: 3})
        intent = merge.merge(flavor(EVERY_GRANT), metadata, NOON)
        found, _problems = threads.shape(default, host, owned, intent)
        for pcpus in (*found.vcpus.values(), found.emulator,
                      *found.iothreads.values()):
            self.assertLessEqual(pcpus, {0, 2, 3})
        for vcpu, sched in found.sched.items():
            self.assertTrue(vcpu < 2 or not sched.priority)

    def test_the_most_that_nova_takes(self):
        """Costs nothing to speak of without a grant, and little with all."""
        for name, metadata in LARGEST.items():
            for key, value in metadata.items():
                self.assertLessEqual((len(key), len(value)), (255, 255))
            for grant, most in (('', 0.05), (EVERY_GRANT, 1.0)):
                wanted = flavor(grant)
                begun = time.process_time()
                intent = merge.merge(wanted, metadata, NOON)
                took = time.process_time() - begun
                self.assertLess(took, most, name)
                self.assertOneLine(intent)
                self.assertLessEqual(len(intent.refused), 9)
                if not grant:
                    self.assertIs(wanted, intent.base, name)

    def test_what_is_accepted_of_it_costs_a_host_little(self):
        cell = guest.Cell(frozenset(), frozenset(range(64)), 64)
        host = usage.HostState([usage.NodeState(
            0, frozenset(), shared=frozenset(range(8192)),
            memory_mib=4096, siblings=[{p} for p in range(8192)])])
        granted_only = template.decode({'kongming:grant': EVERY_GRANT})
        for name, metadata in LARGEST.items():
            intent = merge.merge(granted_only, metadata, NOON)
            begun = time.process_time()
            asked = demand.Demand(guest.Guest((cell,)), intent.base)
            try:
                demand.resolve(host, asked)
            except demand.Unfit:
                pass
            self.assertLess(time.process_time() - begun, 1.0, name)
