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

import collections
import itertools
import logging
import random
import types

import fixtures
import testtools

from kongming.deployment import deployment as dep
from kongming.deployment import placing
from kongming.deployment import projection
from kongming import exception as km_exc
from kongming.fit import demand
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.host import usage
from kongming.placement import flavor as flavor_mod
from kongming.template import grammar
from kongming.template import guest
from kongming.template import template
from nova import context
from nova import exception as nova_exc
from nova import objects
from nova.scheduler import utils
from nova.virt import hardware
from nova_ext import filters
from nova_ext import translate
from tests.functional import test_boot

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

    def test_dedicated_by_resources(self):
        self.assertSameGuest(4, {'resources:PCPU': '4'})

    def test_thread_policy_by_trait(self):
        self.assertSameGuest(4, {
            **DEDICATED, 'trait:HW_CPU_HYPERTHREADING': 'required'})

    def test_cells_by_exclusion(self):
        self.assertSameGuest(6, {
            **DEDICATED, 'hw:numa_nodes': '2',
            'hw:numa_cpus.0': '0-4,^2', 'hw:numa_mem.0': '512',
            'hw:numa_cpus.1': '2,5', 'hw:numa_mem.1': '512'})


class FlavorFormsTest(testtools.TestCase):
    """The product of the forms in which Nova takes each key.

    Where Nova refuses a flavor, the library does, and names the key.
    """

    def check(self, forms, **also):
        outcomes = collections.Counter()
        for values in itertools.product(*forms.values()):
            specs = {key: value for key, value in zip(forms, values)
                     if value is not None} | also
            try:
                theirs = translate.guest_of(constraints(4, specs))
            except Exception as exc:  # of many kinds
                theirs = exc
            try:
                ours = guest.from_flavor(4, 1024, specs)
            except km_exc.InvalidTemplate as exc:
                ours = exc
                self.assertTrue(exc.problems[0].key, specs)
            refused = isinstance(theirs, Exception)
            outcomes[refused] += 1
            self.assertEqual(refused, isinstance(ours, Exception),
                             (specs, theirs, ours))
            # Nova gives some servers no NUMA topology.
            if not refused and theirs.cells:
                self.assertEqual(theirs, ours, specs)
        self.assertGreater(min(outcomes[True], outcomes[False]), 5)

    def test_policies(self):
        self.check({
            'hw:cpu_policy': (None, 'dedicated', 'mixed', 'shared', 'x'),
            'resources:PCPU': (None, '4', '5'),
            'resources1:VCPU': (None, '4', 'x'),
            'hw:cpu_thread_policy': (None, 'require', 'x'),
            'trait:HW_CPU_HYPERTHREADING': (None, 'required', 'forbidden'),
            'hw:emulator_threads_policy': (None, 'isolate', 'share')})

    def test_masks(self):
        masks = (None, '', '^0', '0-1', '0-3', '1-9', '0-3,^1', '^0-3')
        self.check({
            'hw:cpu_policy': (None, 'dedicated', 'mixed', 'shared'),
            'hw:cpu_dedicated_mask': masks,
            'hw:cpu_realtime': (None, 'yes', 'no'),
            'hw:cpu_realtime_mask': masks,
            'hw:emulator_threads_policy': (None, 'share')})

    def test_page_sizes(self):
        """But for sizes below 1 KiB, which Nova takes for none asked for."""
        self.check({'hw:mem_page_size': (
            None, '', 'small', 'large', 'any', '64', '2048', '2MB', '2MiB',
            '2Mb', '2Mi', '2M', '1GB', '1.5GB', '2048KB', '2048kB', '-1',
            'x', '16GiB', '1TB', ' 2MB', '2 MB', '64KiB', '2097152B')},
            **DEDICATED)

    def test_cells(self):
        self.check({
            'hw:numa_nodes': (None, '1', '2', '3', '0', '-1', 'x', '5', ''),
            'hw:numa_cpus.0': (None, '0-1', '0-3,^2', '0,,1', '^0',
                               '0-1,^0', '0 - 1', '1-0', 'x', ''),
            'hw:numa_cpus.1': (None, '2-3', '2,3', '1-3', '2', '3,^1'),
            'hw:numa_mem.0': (None, '512', 'x', '1024', ''),
            'hw:numa_mem.1': (None, '512', '256')}, **DEDICATED)


class FitTest(testtools.TestCase):
    """What fits by KongMing has to boot, so Nova has to be of one mind."""

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


class NovaFitterTest(testtools.TestCase):
    """The model of Nova's fitter, against the installed Nova's."""

    def host(self, rng):
        cells, first, threads = [], 0, rng.choice((1, 2, 2, 4))
        for number in range(rng.randint(1, 5)):
            cores = rng.randint(1, 6)
            pcpus = range(first, first + cores * threads)
            first += len(pcpus)
            shared = set(rng.sample(pcpus, rng.randint(0, len(pcpus) // 2)))
            dedicated = set(pcpus) - shared
            pages = [objects.NUMAPagesTopology(
                size_kb=4, total=rng.randint(1, 4000) * 256, used=0,
                reserved=0)]
            if rng.random() < 0.3:
                pages.append(objects.NUMAPagesTopology(
                    size_kb=2048, total=rng.randint(0, 500), used=0,
                    reserved=0))
            cells.append(objects.NUMACell(
                id=number, socket=0, cpuset=shared, pcpuset=dedicated,
                memory=4096, memory_usage=rng.randint(0, 2000),
                cpu_usage=rng.randint(0, 3), mempages=pages,
                siblings=[{*pcpus[core::cores]} for core in range(cores)],
                pinned_cpus=set(rng.sample(
                    sorted(dedicated), rng.randint(0, len(dedicated))))))
        return objects.NUMATopology(cells=cells)

    def server(self, rng):
        cells, first = [], 0
        mixed, equal = rng.random() < 0.2, rng.random() < 0.2
        policy = rng.choice((None, None, None, 'prefer', 'require', 'isolate'))
        page, size = rng.choice((None, None, None, 2048, -1, -2, -3)), 2
        for number in range(rng.choice((1, 2, 3, 3, 4))):
            size = size if equal else rng.randint(1, 5)
            vcpus = set(range(first, first + size))
            first += size
            shared = set(sorted(vcpus)[:rng.randint(
                number == 0, size)]) if mixed else set()
            cells.append(objects.InstanceNUMACell(
                id=number, cpuset=shared, pcpuset=vcpus - shared,
                memory=rng.choice((512, 512, 1024)), pagesize=page,
                cpu_policy='mixed' if mixed else 'dedicated',
                cpu_thread_policy=policy))
        return objects.InstanceNUMATopology(
            cells=cells,
            emulator_threads_policy=rng.choice((None, None, 'isolate')))

    def test_same_answer(self):
        # Nova tells of each pair of cells that it looks at.
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        rng = random.Random(21)
        outcomes = collections.Counter()
        for _round in range(4000):
            host, asked = self.host(rng), self.server(rng)
            if not any(cell.pcpuset for cell in asked.cells):
                continue  # no mask makes that
            limits = rng.choice((None, usage.Limits(2.0, 1.0)))
            ours = nova_fitter.place(
                translate.host_state(host), translate.guest_of(asked), limits)
            found = hardware.numa_fit_instance_to_host(
                host, asked, None, limits=limits and
                objects.NUMATopologyLimits(
                    cpu_allocation_ratio=2.0, ram_allocation_ratio=1.0))
            theirs = None if found is None else [
                (cell.id, self.node_of(host, cell)) for cell in found.cells]
            self.assertEqual(theirs, ours)
            outcomes['refused' if theirs is None else 'right' if all(
                pinned in (None, node) for node, pinned in theirs)
                else 'wrong'] += 1
        self.assertGreater(min(outcomes['refused'], outcomes['right']), 200)
        self.assertGreater(outcomes['wrong'], 2)

    def test_the_filter_refuses_nothing_that_nova_boots(self):
        """And passes nothing for that nova-scheduler would fail."""
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        rng = random.Random(22)
        outcomes = collections.Counter()
        for _round in range(2000):
            host, asked = self.host(rng), self.server(rng)
            wanted = demand.Demand(translate.guest_of(asked),
                                   template.Template())
            if nova_fitter.are_equal(wanted) or not any(
                    cell.pcpuset for cell in asked.cells):
                continue
            state = types.SimpleNamespace(
                numa_topology=host, pci_stats=None, cpu_allocation_ratio=2.0,
                ram_allocation_ratio=1.0,
                allocation_candidates=[{'mappings': {}}])
            passes = filters._restrict_to_bootable(
                state, types.SimpleNamespace(
                    demand=wanted, spec=objects.RequestSpec(
                        numa_topology=asked, pci_requests=None)))
            found = hardware.numa_fit_instance_to_host(
                host, asked, None, limits=objects.NUMATopologyLimits(
                    cpu_allocation_ratio=2.0, ram_allocation_ratio=1.0))
            try:
                # What nova-scheduler and the claim on the host do next.
                boots = found is not None and bool(
                    hardware.numa_usage_from_instance_numa(host, found))
            except nova_exc.NovaException:
                boots = False
                outcomes['mislaid'] += 1
            self.assertEqual(boots, passes)
            outcomes[passes] += 1
        self.assertGreater(min(outcomes[True], outcomes[False]), 100)
        self.assertGreater(outcomes['mislaid'], 1)

    def node_of(self, host, cell):
        pcpus = {*(cell.cpu_pinning or {}).values()}
        return next((node.id for node in host.cells if pcpus & node.pcpuset),
                    None)


class CellsBase(test_boot.BootBase):

    def sizes(self, *cells):
        keys, first = {'numa_nodes': str(len(cells))}, 0
        for number, size in enumerate(cells):
            keys[f'numa_cpus.{number}'] = f'{first}-{first + size - 1}'
            keys[f'numa_mem.{number}'] = '512'
            first += size
        return keys

    def demanded(self, *cells, **template_keys):
        return demand.Demand(guest.from_flavor(
            sum(cells), 512 * len(cells), {
                **DEDICATED, **{f'hw:{key}': value for key, value
                                in self.sizes(*cells).items()}}),
            template.decode({f'kongming:{key.replace("_", ".")}': value
                             for key, value in template_keys.items()}))

    def topology(self, host='compute1'):
        return objects.NUMATopology.obj_from_db_obj(
            objects.ComputeNode.get_first_node_by_host_for_old_compat(
                context.get_admin_context(), host).numa_topology)


class BootTest(CellsBase):
    """Three nodes of four dedicated pCPUs, of which 0 and 2 have three free.

    Cells of one and four vCPUs fit on nodes 0 and 1.  Nova mistakes the first
    for the second, and refuses them in this order.
    """

    SHAPE = {'cpu_nodes': 3, 'cpu_sockets': 1, 'cpu_cores': 4,
             'cpu_threads': 2, 'kB_mem': 24 * 1024 ** 2}
    DEDICATED = '4-7,12-15,20-23'
    SHARED = '0-1,8-9,16-17'

    def test_the_order_of_cells_that_is_advised_boots(self):
        self.start_host()
        for node in ('0', '2'):
            self.boot(self.flavor({'node.0': node}, vcpus=1))
        host = translate.host_state(self.topology())
        asked = self.demanded(1, 4, node_1='1')
        self.assertTrue(fit.fit(host, asked))
        self.assertIn('in the order 1, 0 it would boot',
                      nova_fitter.advice(host, asked))
        self.boot(self.flavor({'node.1': '1'}, vcpus=5, **self.sizes(1, 4)),
                  state='ERROR')
        server = self.boot(self.flavor({'node.0': '1'}, vcpus=5,
                                       **self.sizes(4, 1)))
        self.assertEqual(1, self.instance(
            server['id']).numa_topology.cells[0].id)

    def test_a_cell_that_nova_gives_no_pcpus_has_its_own_in_the_end(self):
        self.start_host()
        for node in ('1', '2'):
            self.boot(self.flavor({'node.0': node}, vcpus=1))
        asked = self.demanded(1, 1, 4, node_2='0')
        host = translate.host_state(self.topology())
        self.assertIsNone(
            nova_fitter.place(host, asked.guest)[2].pinned)
        self.assertTrue(nova_fitter.bootable(host, asked))
        server = self.boot(self.flavor(
            {'node.2': '0'}, vcpus=6, memory=1536, **self.sizes(1, 1, 4)))
        last = self.instance(server['id']).numa_topology.cells[2]
        self.assertEqual((0, {2: 4, 3: 5, 4: 6, 5: 7}),
                         (last.id, last.cpu_pinning))


class OtherHostTest(CellsBase):
    """Four nodes, of which the first and the last have three free.

    Nova gives the last cell of one, one and four vCPUs node 1, and the first
    one pCPUs of it; its claim can't be.
    """

    SHAPE = {'cpu_nodes': 4, 'cpu_sockets': 1, 'cpu_cores': 4,
             'cpu_threads': 2, 'kB_mem': 32 * 1024 ** 2}
    DEDICATED = '4-7,12-15,20-23,28-31'
    SHARED = '0-1,8-9,16-17,24-25'

    def test_another_host_takes_it(self):
        self.start_host()
        for node in ('0', '3'):
            self.boot(self.flavor({'node.0': node}, vcpus=1))
        wanted = self.flavor({'node.2': '1'}, vcpus=6, memory=1536,
                             **self.sizes(1, 1, 4))
        log = self.useFixture(fixtures.FakeLogger(
            'nova_ext.filters', level=logging.INFO))
        self.boot(wanted, state='ERROR')
        self.assertIn("Nova's own fitter gives cell 0 pCPUs of another node",
                      log.output)
        self.start_host('compute2')
        server = self.boot(wanted)
        instance = self.instance(server['id'])
        self.assertEqual('compute2', instance.host)
        self.assertEqual(1, instance.numa_topology.cells[2].id)


class DeploymentTest(CellsBase):
    """Steps of a deployment boot in the order of its plan.

    Four nodes, of which the second and the last have one free.  Cells of
    one, four and two vCPUs are refused until another server has come.
    """

    SHAPE, DEDICATED = OtherHostTest.SHAPE, OtherHostTest.DEDICATED
    SHARED = OtherHostTest.SHARED

    def test_in_the_order_of_the_plan(self):
        self.start_host()
        for node in ('1', '3'):
            self.boot(self.flavor({'node.0': node}, vcpus=3))
        state = translate.host_state(self.topology())
        flavors = {name: dep.Flavor(
            sum(cells), 512 * len(cells), 1, {
                **DEDICATED, **{f'hw:{key}': value for key, value
                                in self.sizes(*cells).items()}},
            template.Template(pins={
                number: grammar.parse_pins(each)
                for number, each in enumerate(pins)}))
            for name, cells, pins in (
                ('a', (1, 4, 2), ('0:15', '1-4:20-23', '5-6:6-7')),
                ('b', (2,), ('0-1:4-5',)))}
        self.assertIn("Nova's own fitter", str(nova_fitter.bootable(
            state, flavors['a'].demand)))
        steps, refused = placing.Placing(
            flavors, {'compute1': projection.ProjectedHost(
                dep.Host(state, {}, {}))}, {}).place([
                    dep.Server(name, 'du', name, 'idle') for name in 'ab'])
        self.assertEqual({}, refused)
        self.assertEqual(['b', 'a'], [step.name for step in steps])
        for step in steps:
            flavor = flavors[step.name]
            specs = {key.removeprefix('kongming:'): value for key, value
                     in template.encode(flavor.desired).items()}
            server = self.boot(self.flavor(
                specs, vcpus=flavor.vcpus, memory=flavor.ram_mib,
                **{key.removeprefix('hw:'): value for key, value
                   in flavor.properties.items() if key not in DEDICATED}))
            self.assertEqual(
                [(cell.node, cell.pins) for cell in step.assignment.cells],
                [(cell.id, cell.cpu_pinning) for cell in self.instance(
                    server['id']).numa_topology.cells])


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
