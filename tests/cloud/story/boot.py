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


"""Hosts in Placement, templates on flavors, boots by them."""

import time

from kongming.host import topology
from kongming.libvirt import hypervisor
from tests.cloud.story import chapter


class Boot(chapter.Chapter):

    @chapter.on(short=True)
    def test_hosts(self):
        """Each host is published: nodes, cores, dedicated and shared pCPUs"""
        listed = {row['host'] for row in
                  self.admin.json('kongming', 'host', 'list')}
        self.assertEqual(set(self.cloud.hosts), listed)
        for name, host in self.cloud.hosts.items():
            _hostname, real = hypervisor.host(host.uri)
            shown = self.admin.json('kongming', 'host', 'show', name)
            shared, dedicated = host.cpu_sets()
            self.assertEqual(
                (dedicated, shared),
                tuple(sorted(topology.parse_cpu_list(shown[key])
                             if shown[key] else ())
                      for key in ('dedicated_set', 'shared_set')))
            usable = {*dedicated, *shared}
            for node in shown['map']:
                self.assertEqual(
                    {core for cores in real.cores_on(node['node'])
                     if (core := tuple(p for p in cores if p in usable))},
                    {tuple(core) for core in node['cores']})

    @chapter.on(short=True)
    def test_templates(self):
        """A template is written; a bad one and one of a tenant's are not"""
        flavor = self.flavor(2)
        said = self.admin.refused('kongming', 'template', 'set', '--flavor',
                                  flavor, '--pin', '0=0:1 1:one')
        self.assertIn('column', said)
        # What the SDK asks for is older than the check of extra specs.
        flavor_id = self.admin.sdk.compute.find_flavor(flavor).id
        found = self.admin.sdk.compute.post(
            f'/flavors/{flavor_id}/os-extra_specs', microversion='2.86',
            json={'extra_specs': {'kongming:pin.0': '0:1 1:one'}})
        self.assertEqual(400, found.status_code, found.text)
        self.assertIn('column', found.text)
        path = self.cloud.layout.data / 'du.yaml'
        path.write_text('version: 1\ncells:\n  0:\n    node: 0\n'
                        '    pin: "0:1 1:0"\n')
        self.assertNotEqual('', self.member.refused(
            'kongming', 'template', 'set', '--flavor', flavor, str(path)))
        self.admin.run('kongming', 'template', 'set', '--flavor', flavor,
                       path)
        specs = self.admin.json('flavor', 'show', flavor)['properties']
        self.assertEqual('0:1 1:0', specs['kongming:pin.0'])
        self.assertEqual('required', specs['trait:CUSTOM_KONGMING_HOOK'])
        self.admin.run('kongming', 'template', 'unset', flavor,
                       status=None)

    @chapter.on('local1', short=True)
    def test_boot(self):
        """A tenant's server boots on the pCPU of its template; a second not"""
        flavor = self.flavor(template=('--pin', '0=0:0'))
        begin = time.monotonic()
        first = self.create(flavor)
        self.wait_for(first)
        self.assertIsOn(first, 0, {0: 0})
        self.seconds('boot to pinned, KVM', time.monotonic() - begin)
        self.assertEqual({('local1', 0)}, self.look.named(first))
        name = self.show(first)['name']
        second = self.create(flavor)
        self.wait_for(second, 'ERROR')
        self.assertIn('No valid host', self.show(second)['fault']['message'])
        said = self.admin.refused('kongming', 'template', 'check', flavor)
        self.assertIn('pCPU 0 is owned by', ' '.join(said.split()))
        self.assertIn(name, said)
        self.assertIsOn(first, 0, {0: 0})

    @chapter.on('nested1', 'nested2')
    def test_boot_on_a_node(self):
        """Node and siblings as the template says, on each of two hosts"""
        flavor = self.flavor(2, template=('--node', '0=1', '--pin',
                                          '0=0:11 1:10'))
        begin = time.monotonic()
        servers = [self.boot(flavor)]
        self.assertIsOn(servers[0], 1, {0: 11, 1: 10})
        self.seconds('boot to pinned, emulated host',
                     time.monotonic() - begin)
        servers.append(self.boot(flavor))
        self.assertIsOn(servers[1], 1, {0: 11, 1: 10})
        self.assertEqual({'nested1', 'nested2'}, {
            self.look.server(uuid)['host'] for uuid in servers})
        third = self.create(flavor)
        self.wait_for(third, 'ERROR')
        said = self.admin.refused('kongming', 'template', 'check', flavor)
        for name in ('nested1', 'nested2'):
            self.assertIn(name, said)

    @chapter.on('nested2')
    def test_neighbours(self):
        """Servers without a template move in, shared and dedicated"""
        for name, flavor in (
                ('shared', self.flavor(dedicated=False)),
                ('dedicated', self.flavor(hw__numa_nodes='1'))):
            uuid = self.boot(flavor, host='nested2', name=f'native-{name}')
            self.assertFalse(self.look.named(uuid))
            # They stay.
            self.mine.remove(uuid)
            self.stage.neighbours[uuid] = describe(self.look, uuid)


def describe(look, uuid):
    """What must not change of a native server."""
    return {'process': look.process(uuid)[0], 'xml': look.xml(uuid),
            'threads': look.threads(uuid), 'cells': look.cells(uuid),
            'allocations': look.allocations(uuid)}
