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

"""Guests that Nova reads, places or asks for otherwise than KongMing."""

import testtools

from kongming.fit import demand
from kongming.fit import fit
from kongming.placement import flavor as flavor_mod
from kongming.template import guest
from kongming.template import template
from nova import objects
from nova.scheduler import utils
from nova.virt import hardware
from nova_ext import translate
from tests import expected

objects.register_all()

DEDICATED = {'hw:cpu_policy': 'dedicated'}


def flavor(vcpus, specs, memory_mb=1024):
    return objects.Flavor(
        name='f', flavorid='f', vcpus=vcpus, memory_mb=memory_mb, root_gb=1,
        ephemeral_gb=0, swap=0, extra_specs=specs)


def constraints(*args):
    """What Nova makes of a flavor."""
    return hardware.numa_get_constraints(
        flavor(*args), objects.ImageMeta.from_dict({'properties': {}}))


class FlavorTest(testtools.TestCase):
    """The same flavor, read by Nova and by the library."""

    def assertSameGuest(self, vcpus, specs):
        self.assertEqual(translate.guest_of(constraints(vcpus, specs)),
                         guest.from_flavor(vcpus, 1024, specs))

    @expected.failure(issue=5, because=(
        r'reference = .*dedicated=frozenset\(\{0, 1, 2, 3\}\).* '
        r'actual = .*dedicated=frozenset\(\),'))
    def test_dedicated_by_resources(self):
        self.assertSameGuest(4, {'resources:PCPU': '4'})

    @expected.failure(issue=5, because=(
        "reference = .*thread_policy='require'.* "
        'actual = .*thread_policy=None'))
    def test_thread_policy_by_trait(self):
        self.assertSameGuest(4, {
            **DEDICATED, 'trait:HW_CPU_HYPERTHREADING': 'required'})

    @expected.failure(issue=5, because=(
        r"^InvalidTemplate: hw:numa_cpus.0 = '0-4,\^2'"))
    def test_cells_by_exclusion(self):
        self.assertSameGuest(6, {
            **DEDICATED, 'hw:numa_nodes': '2',
            'hw:numa_cpus.0': '0-4,^2', 'hw:numa_mem.0': '512',
            'hw:numa_cpus.1': '2,5', 'hw:numa_mem.1': '512'})


class FitTest(testtools.TestCase):
    """What fits by KongMing has to boot, so Nova has to be of one mind."""

    @expected.failure(issue=5, because='False != True')
    def test_require_on_a_core_of_four_threads_that_is_partly_taken(self):
        """Two cores, two threads of one are taken, six vCPUs."""
        host = objects.NUMATopology(cells=[objects.NUMACell(
            id=0, socket=0, cpuset=set(), pcpuset=set(range(8)), memory=8192,
            cpu_usage=0, memory_usage=0, pinned_cpus={0, 1},
            siblings=[{0, 1, 2, 3}, {4, 5, 6, 7}],
            mempages=[objects.NUMAPagesTopology(
                size_kb=4, total=2097152, used=0, reserved=0)],
            network_metadata=objects.NetworkMetadata(
                physnets=set(), tunneled=False))])
        asked = constraints(6, {
            **DEDICATED, 'hw:cpu_thread_policy': 'require'})
        ours = fit.fit(translate.host_state(host), demand.Demand(
            translate.guest_of(asked),
            template.decode({'kongming:node.0': '0'})))
        self.assertEqual(
            hardware.numa_fit_instance_to_host(host, asked, None) is not None,
            bool(ours))


class RequestLineTest(testtools.TestCase):
    """What nova-scheduler asks Placement for, of named pCPUs."""

    def request_line(self, vcpus):
        specs = {**DEDICATED, 'kongming:node.0': '1',
                 'kongming:pin.0': f'0-{vcpus - 1}:8-{vcpus + 7}'}
        specs |= flavor_mod.changes(specs, template.decode(specs)).put
        asked = utils.ResourceRequest.from_request_spec(objects.RequestSpec(
            flavor=flavor(vcpus, specs, 65536), project_id='p',
            image=objects.ImageMeta(properties=objects.ImageMetaProps()),
            is_bfv=False, requested_resources=[], pci_requests=None,
            request_level_params=objects.RequestLevelParams(),
            numa_topology=None, availability_zone=None))
        return (f'GET /allocation_candidates?{asked.to_querystring()} '
                f'HTTP/1.1')

    def test_no_pcpu_is_named(self):
        self.assertNotIn('CUSTOM_KONGMING_PCPU_', self.request_line(2))

    def test_a_stock_web_server_takes_it(self):
        """Apache's LimitRequestLine is 8190 bytes."""
        self.assertLessEqual(len(self.request_line(384)), 8190)
