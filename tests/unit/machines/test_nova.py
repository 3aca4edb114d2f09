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

"""The fitter beside Nova's own, on every named host.

What fits by KongMing and is refused by Nova ends in an ERROR, and what is
refused though Nova would take it is capacity that is lost.  Nova's objects
and Nova's ``numa_fit_instance_to_host`` are real.
"""

import logging
import random

import fixtures
from nova import objects
from nova.virt import hardware

from kongming.fit import demand
from kongming.fit import fit
from kongming.template import template
from nova_ext import translate
from tests import base
from tests import machines

objects.register_all()
POLICIES = None, 'prefer', 'require', 'isolate'
COUNTS = 1, 2, 3, 5
#: Nodes of a host that are compared, CPUs or not: Nova tries them all.
NODES = 4
MEMORY = 64


def nova_host(machine, dedicated, shared, taken):
    """The host as nova-compute has it; at most the first few nodes.

    See nova/virt/libvirt/driver.py, ``_get_host_numa_topology``.
    """
    host = machine.host().restricted_to(dedicated | shared)
    return objects.NUMATopology(cells=[
        objects.NUMACell(
            id=node.id, socket=0, cpuset=set(node.pcpus & shared),
            pcpuset=set(node.pcpus & dedicated),
            pinned_cpus=set(node.pcpus & dedicated & taken),
            siblings=[set(core.pcpus) for core in node.cores],
            memory=node.memory_mib, cpu_usage=0, memory_usage=0,
            mempages=[objects.NUMAPagesTopology(
                size_kb=size, total=total, used=0, reserved=0)
                for size, total in sorted(node.pages.items())],
            network_metadata=objects.NetworkMetadata(
                physnets=set(), tunneled=False))
        for node in host.nodes[:NODES]])


def nova_guest(count, policy):
    return objects.InstanceNUMATopology(cells=[objects.InstanceNUMACell(
        id=0, cpuset=set(), pcpuset=set(range(count)), memory=MEMORY,
        cpu_policy='dedicated', cpu_thread_policy=policy)])


@machines.on_each
class NovaTest(base.TestCase):

    def setUp(self):
        super().setUp()
        # Nova says at length how it fits.
        self.useFixture(fixtures.FakeLogger('nova', level=logging.ERROR))

    def check(self, machine, dedicated, shared, policies=POLICIES):
        """Both say the same, however much is owned."""
        rng = random.Random(machine.name)
        for part in (0, .3, .6, .8, .95):
            taken = {pcpu for pcpu in sorted(dedicated)
                     if rng.random() < part}
            host = nova_host(machine, dedicated, shared, taken)
            state = translate.host_state(host)
            for policy in policies:
                for count in COUNTS:
                    asked = nova_guest(count, policy)
                    ours = fit.fit(state, demand.Demand(
                        translate.guest_of(asked), template.Template()))
                    theirs = hardware.numa_fit_instance_to_host(
                        host, asked, None)
                    self.assertEqual(
                        theirs is not None, bool(ours),
                        (policy, count, sorted(taken), str(ours)))

    def check_sets(self, machine, policies):
        shared = machine.first_cores()
        self.check(machine, machine.host().pcpus - shared, shared, policies)

    def test_dedicated_and_shared_sets(self, machine):
        self.check_sets(machine, POLICIES)

    def test_neither_set(self, machine):
        pcpus = machine.host().pcpus
        self.check(machine, pcpus, pcpus)
