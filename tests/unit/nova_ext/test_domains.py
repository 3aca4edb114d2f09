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
"""What is asked of libvirt and of the kernel about a server, and how often."""

import types
from unittest import mock

import fixtures
from nova import objects

from kongming.live import threads
from nova_ext.live import domains
from nova_ext.live import places
from tests import base
from tests.unit.nova_ext import test_filters

objects.register_all()
UUID = '5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11'
XML = """<domain type='kvm' id='1'><name>kongming-is-not-here</name>
<memory unit='KiB'>65536</memory><vcpu>1</vcpu>
<cputune><vcpupin vcpu='0' cpuset='3'/><emulatorpin cpuset='3'/></cputune>
</domain>"""


class DomainsBase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.server = objects.Instance(uuid=UUID)
        self.domain = mock.Mock()
        self.domain.ID.return_value = 1
        self.domain.XMLDesc.return_value = XML
        self.found = 1000
        self.pid = self.useFixture(fixtures.MockPatch(
            'kongming.kernel.process.pid', side_effect=lambda _domain: (
                self.found))).mock
        self.schedulers = self.useFixture(fixtures.MockPatch(
            'kongming.kernel.process.schedulers', return_value={})).mock
        self.domains = domains.Domains(mock.Mock())

    def look(self):
        return self.domains._look(self.server, self.domain)

    def begin_pass(self):
        self.domains.forget({UUID})


class DomainsTest(DomainsBase):

    def test_its_process_is_remembered(self):
        for _pass in range(3):
            self.begin_pass()
            self.assertEqual(1000, self.domains.pid(self.server, self.domain))
        self.assertEqual(1, self.pid.call_count)

    def test_a_domain_that_starts_anew(self):
        self.look()
        self.found = 1001
        self.domain.ID.return_value = 2
        self.assertEqual(1001, self.domains.pid(self.server, self.domain))

    def test_one_that_is_not_seen_is_looked_for_by_the_next_pass(self):
        self.found = None
        for _time in range(2):
            self.assertIsNone(self.domains.pid(self.server, self.domain))
        self.assertEqual(1, self.pid.call_count)
        self.found = 1000
        self.begin_pass()
        self.assertEqual(1000, self.domains.pid(self.server, self.domain))

    def test_one_that_has_ended(self):
        for error in FileNotFoundError, ProcessLookupError:
            self.schedulers.side_effect = error
            self.assertEqual({0: frozenset({3})}, self.look().vcpus)
        self.schedulers.side_effect = None
        self.found = 1001
        self.look()
        self.schedulers.assert_called_with(1001)

    def test_others_are_forgotten(self):
        self.look()
        self.domains.forget(set())
        self.assertEqual(({}, {}), (self.domains._pids, self.domains._read))

    def test_its_xml_is_read_once_in_a_pass(self):
        for number in range(1, 4):
            self.begin_pass()
            self.look()
            self.domains.stays(self.server, self.domain)
            self.assertEqual(number, self.domain.XMLDesc.call_count)

    def test_what_was_read_in_another_pass_says_nothing(self):
        self.look()
        self.begin_pass()
        self.domain.XMLDesc.return_value = XML.replace(
            '</domain>', '<devices><hostdev mode="subsystem" type="pci"/>'
                         '</devices></domain>')
        self.domains.stays(self.server, self.domain)
        self.assertEqual(2, self.domain.XMLDesc.call_count)


class BlindTest(DomainsBase):
    """Whether the kernel tells where servers run."""

    def setUp(self):
        super().setUp()
        self.patch(self.domains, 'domain', lambda server: self.domain)
        self.patch(self.domains, '_possible', lambda *args: (
            threads.Threads({0: frozenset({3})}, frozenset({3}))))
        self.useFixture(fixtures.MockPatch(
            'nova_ext.privileged.may_hold', return_value=''))

    def differences(self):
        self.begin_pass()
        return self.domains.differences(self.server, None, None)

    def test_a_process_that_has_just_ended(self):
        """libvirt takes its domain for running until it has seen that."""
        self.found = None
        self.differences()
        self.assertIn('is not seen', self.domains.witness.blind)
        self.domain = None
        self.differences()
        # A server that does not run hides nothing.
        self.assertEqual('', self.domains.witness.blind)


class HostTest(base.TestCase):
    """The host as the tracker has it."""

    def setUp(self):
        super().setUp()
        self.places = places.Places(*[None] * 10)

    def host(self, found):
        return self.places._host(types.SimpleNamespace(
            numa_topology=found and found._to_json()))

    def test_read_anew_where_it_is_another(self):
        first = self.host(test_filters.topology())
        self.assertIs(first, self.host(test_filters.topology()))
        other = self.host(test_filters.topology(taken={5}))
        self.assertEqual({5}, set(other[1].node(1).taken))
        self.assertEqual(set(), set(first[1].node(1).taken))
        # Only what is taken is another.
        self.assertIs(first[2], other[2])

    def test_none_is_obeyed(self):
        twice = test_filters.topology()
        twice.cells[1].pcpuset = twice.cells[0].pcpuset
        for found in None, twice:
            self.assertEqual((None, None, None), self.host(found))
