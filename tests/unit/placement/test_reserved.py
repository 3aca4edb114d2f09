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

from kongming.host import usage
from kongming.placement import reserved
from tests import base


def node(taken, memory=0, pages=(), shared=0, **kwargs):
    return usage.NodeState(0, frozenset(range(8)), frozenset(taken),
                           memory_mib=4096, memory_used_mib=memory,
                           shared_used=shared, pages=pages, **kwargs)


def owned(*pcpus, **fields):
    return reserved.Owned(frozenset(pcpus), **fields)


def named(*pcpus, **counts):
    return {**{f'CUSTOM_KONGMING_PCPU_{p}': 1 for p in pcpus},
            **{f'CUSTOM_KONGMING_{k}': v for k, v in counts.items()}}


class ReservedTest(base.TestCase):

    def check(self, expected, *args, **kwargs):
        self.assertEqual(expected, {
            name.removeprefix('CUSTOM_KONGMING_'): amount for name, amount in
            reserved.reserved(*args, **kwargs).items()})

    def test_native_server(self):
        self.check({'PCPU': 2, 'PCPU_1': 1, 'PCPU_2': 1, 'MEMORY_MB': 512},
                   node({1, 2}, 512), {'a': owned(1, 2, memory_mib=512)}, {})

    def test_what_is_allocated_is_not_reserved(self):
        self.check({}, node({1, 2}, 512),
                   {'a': owned(1, 2, memory_mib=512)},
                   {'a': named(1, 2, PCPU=2, MEMORY_MB=512)})

    def test_server_that_moved_since(self):
        """It was granted 1 and 2 and owns 2 and 3 now."""
        self.check({'PCPU_3': 1}, node({2, 3}), {'a': owned(2, 3)},
                   {'a': named(1, 2, PCPU=2)})

    def test_promise_to_one_that_is_not_here_yet(self):
        """b was granted what a native server has taken meanwhile."""
        self.check({'PCPU': 1, 'PCPU_1': 1}, node({1}), {'a': owned(1)},
                   {'b': named(1, PCPU=1)})

    def test_unsettled_claim_is_no_ownership(self):
        self.check({}, node({1, 2}), {'a': owned(1, 2)},
                   {'a': named(5, 6, PCPU=2)},
                   pending={'a': named(5, 6, PCPU=2)})

    def test_unsettled_claim_on_another_node_than_was_granted(self):
        """Another server may be allocated what it is about to leave."""
        claimed = {'a': owned(1, memory_mib=512)}
        for granted, left in [
                (named(5, PCPU=1, MEMORY_MB=512), {}),
                # What it did not ask Placement for is not told to Placement.
                (named(5, PCPU=1), {'MEMORY_MB': 512}),
                ({}, {'PCPU': 1, 'MEMORY_MB': 512})]:
            self.check(left, node({1}, 512), claimed, {},
                       pending={'a': granted})

    def test_moved_and_not_yet_allocated_on_a_full_node(self):
        """Else there was never capacity for its allocation to follow."""
        self.check({}, node(range(8), 4096), {
            'a': owned(0, 1, 2, 3, memory_mib=2048),
            'b': owned(4, 5, 6, 7, memory_mib=2048)},
            {'a': named(0, 1, 2, 3, PCPU=4, MEMORY_MB=2048)},
            pending={'b': named(PCPU=4, MEMORY_MB=2048)})

    def test_source_of_a_migration(self):
        self.check({}, node({1, 2}), {'m': owned(1, 2)},
                   {'m': named(1, 2, PCPU=2)})

    def test_huge_pages_and_shared_vcpus(self):
        pages = [usage.Pages(4, 100, 100), usage.Pages(2048, 512, 256)]
        self.check({'PAGES_2M': 256, 'VCPU': 2, 'MEMORY_MB': 100},
                   node((), 612, pages, shared=2),
                   {'a': owned(memory_mib=512, page_kib=2048),
                    'b': owned(vcpus=2, memory_mib=100)}, {})

    def test_never_given_to_a_template(self):
        for never in ({6, 7}, {6, 7, 99}):
            self.check({'PCPU': 2, 'PCPU_6': 1, 'PCPU_7': 1},
                       node((), never=frozenset(never)), {}, {})

    def test_never_given_but_owned(self):
        never = frozenset({6, 7})
        # By a native server, once only.
        self.check({'PCPU': 2, 'PCPU_6': 1, 'PCPU_7': 1},
                   node({6}, never=never), {'a': owned(6)}, {})
        # By a server with a template, from before.
        self.check({'PCPU': 1, 'PCPU_7': 1}, node({6}, never=never),
                   {'a': owned(6)}, {'a': named(6, PCPU=1)})
        # By a claim that is about to be swapped.
        self.check({'PCPU': 2, 'PCPU_6': 1, 'PCPU_7': 1},
                   node({1, 6}, never=never), {'a': owned(1, 6)},
                   {'a': named(1, 2, PCPU=2)},
                   pending={'a': named(1, 2, PCPU=2)})


class CacheTest(base.TestCase):
    """Counted by what servers claim, not by what they happen to have."""

    CLAIM = {'CUSTOM_KONGMING_CLOSID': 2, 'CUSTOM_KONGMING_L3': 30}

    def test_reserved(self):
        node = usage.NodeState(0, frozenset({2}), frozenset({2}))
        servers = {'a': reserved.Owned(frozenset({2}),
                                       claim=usage.CacheClaim(2, 30))}
        self.assertEqual(self.CLAIM, {
            name: amount for name, amount in reserved.reserved(
                node, servers, {}).items() if name in self.CLAIM})
        self.assertEqual({}, reserved.reserved(node, servers, {'a': {
            'CUSTOM_KONGMING_PCPU': 1, 'CUSTOM_KONGMING_PCPU_2': 1,
            **self.CLAIM}}))

    def test_moved(self):
        self.assertEqual(
            {'new': {'CUSTOM_KONGMING_PCPU': 1, **self.CLAIM}},
            reserved.moved(
                {'old': {'CUSTOM_KONGMING_PCPU': 1, **self.CLAIM}},
                {'new': reserved.Owned(frozenset({2}),
                                       claim=usage.CacheClaim(2, 30))}))
