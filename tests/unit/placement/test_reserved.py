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


class BesideTest(base.TestCase):
    """What nova-compute knows without a list of servers."""

    def check(self, expected, node, allocations=(), coming=(), huge=0):
        self.assertEqual(expected, {
            name.removeprefix('CUSTOM_KONGMING_'): amount for name, amount in
            reserved.beside(node, huge, allocations, coming).items()})

    def test_native_servers(self):
        self.check({'PCPU': 2, 'PCPU_1': 1, 'PCPU_2': 1, 'MEMORY_MB': 512},
                   node({1, 2}, 512))

    def test_beside_what_was_allocated(self):
        self.check({'PCPU': 1, 'PCPU_3': 1}, node({1, 2, 3}, 512), [
            named(1, 2, PCPU=2, MEMORY_MB=512)])

    def test_open_pcpus_are_counted_and_taken(self):
        self.check({'PCPU_1': 1, 'PCPU_2': 1}, node({1, 2}, 512),
                   [named(PCPU=2, MEMORY_MB=512)])

    def test_huge_pages(self):
        pages = [usage.Pages(4, 100, 100), usage.Pages(2048, 512, 256)]
        self.check({'MEMORY_MB': 100}, node((), 612, pages), [
            named(PAGES_2M=256)], huge=512)

    def test_a_claim_that_is_about_to_be_swapped(self):
        """It was allocated 5 and 6, and Nova has claimed 1 and 2."""
        self.check({}, node({1, 2}), coming=[owned(1, 2)])
        self.check({'PCPU': 1, 'PCPU_3': 1}, node({1, 2, 3}, 512),
                   coming=[owned(1, 2, memory_mib=512)])

    def test_never_given_to_a_template(self):
        never = frozenset({6, 7})
        self.check({'PCPU': 2, 'PCPU_6': 1, 'PCPU_7': 1},
                   node({1, 6}, never=never), coming=[owned(1, 6)])
        self.check({'PCPU': 1, 'PCPU_7': 1}, node({6}, never=never),
                   [named(6, PCPU=1)])


class AllocatedTest(base.TestCase):

    def test_counts_always_pcpus_by_their_names_where_named(self):
        self.assertEqual(
            {'a': named(2, PCPU=2, MEMORY_MB=64), 'b': named(PAGES_1G=1)},
            reserved.allocated({
                'a': owned(2, 3, memory_mib=64),
                'b': owned(memory_mib=1024, page_kib=1048576),
                'c': owned()}, {2, 9}))


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

    def test_allocated(self):
        self.assertEqual(
            {'new': {'CUSTOM_KONGMING_PCPU': 1, **self.CLAIM}},
            reserved.allocated({'new': reserved.Owned(
                frozenset({2}), claim=usage.CacheClaim(2, 30))}, ()))
