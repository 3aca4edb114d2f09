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

"""Hosts by either name, and why the scheduler would leave one out."""

import types
import urllib.parse

from kongming.compute import api
from kongming.compute import hosts
from kongming.compute import scheduling
from kongming import exception
from kongming.placement import scheduling as scheduling_mod
from tests import base


class Cloud:
    """Nova's and Placement's answers, one page of two at a time.

    :ivar asked: paths
    """

    def __init__(self, nodes=(), services=(), providers=None, aggregates=()):
        self.asked = []
        self.hypervisors = [
            {'id': uuid, 'hypervisor_hostname': name,
             'service': {'host': service}} for uuid, name, service in nodes]
        self.services = [{'binary': 'nova-compute', 'status': 'enabled',
                          'state': 'up', 'forced_down': False, 'zone': 'nova',
                          'disabled_reason': None, **service}
                         for service in services]
        self.providers = providers or {}
        self.aggregates = list(aggregates)
        self.compute = types.SimpleNamespace(get=self.get)
        self.placement = types.SimpleNamespace(request=self.request)

    def get(self, url, microversion=None):
        self.asked.append(url)
        path, _mark, query = url.partition('?')
        query = dict(urllib.parse.parse_qsl(query))
        if path == '/os-services':
            return self._answer({'services': self.services})
        if path == '/os-aggregates':
            return self._answer({'aggregates': self.aggregates})
        start = int(query.get('marker', 0))
        found = [one for one in self.hypervisors if query.get(
            'hypervisor_hostname_pattern', '') in one['hypervisor_hostname']]
        if not found and 'hypervisor_hostname_pattern' in query:
            return self._answer({'itemNotFound': {}}, 404)
        links = [{'rel': 'next', 'href': f'https://proxy/v2.1{path}?marker='
                                         f'{start + 2}'}]
        return self._answer({
            'hypervisors': found[start:start + 2],
            **({'hypervisors_links': links} if start + 2 < len(found)
               else {})})

    def request(self, path, method, **_kwargs):
        self.asked.append(path)
        query = urllib.parse.parse_qsl(path.partition('?')[2])
        found = self.providers.get('='.join(query[0]))
        if found is None:
            return self._answer({'errors': [{'detail': 'none'}]}, 400)
        return self._answer({'resource_providers': [
            {'uuid': uuid, 'root_provider_uuid': uuid} for uuid in found]})

    @staticmethod
    def _answer(body, status=200):
        response = types.SimpleNamespace(
            status_code=status, headers={}, content='x', text='x',
            reason='', url='x', json=lambda: body,
            request=types.SimpleNamespace(method='GET', url='x'))
        return response


NODES = (('1', 'compute1.example.org', 'compute1'),
         ('2', 'compute2.example.org', 'compute2'),
         ('3', 'Rack3.example.org', 'RACK3'),
         ('4', 'rack3.example.org', 'rack4'))


class NameTest(base.TestCase):

    def test_either_name_in_any_letters(self):
        for name, uuid in (('compute1.example.org', '1'), ('compute2', '2'),
                           ('COMPUTE2.Example.org', '2'), ('Compute1', '1'),
                           ('rack3', '3'), ('rack3.example.org', '4')):
            self.assertEqual(uuid, hosts.find(Cloud(NODES), name).id, name)
        self.assertIsNone(hosts.find(Cloud(NODES), 'compute'))

    def test_a_name_that_two_have(self):
        self.assertIn("2 hosts are called 'RACK3.EXAMPLE.ORG'", str(
            self.assertRaises(exception.CloudError, hosts.find, Cloud(NODES),
                              'RACK3.EXAMPLE.ORG')))
        found = hosts.names(Cloud(NODES))
        self.assertNotIn('rack3.example.org', found)
        self.assertEqual('3', found['rack3'].id)


class PageTest(base.TestCase):

    def test_pages_that_go_round(self):
        conn = types.SimpleNamespace(compute=types.SimpleNamespace(
            get=lambda url, microversion: Cloud._answer({
                'servers': [], 'servers_links': [
                    {'rel': 'next', 'href': 'x?marker=1'}]})))
        self.assertIn('marker=1 comes twice', str(self.assertRaises(
            exception.CloudError, list,
            api.entries(conn, '/servers', 'servers'))))


class SchedulingTest(base.TestCase):

    def why_not(self, cloud, **wanted):
        asked = scheduling.Scheduling(cloud, [
            ('compute1.example.org', '1'), ('compute2.example.org', '2')])
        found = asked.why_not(scheduling_mod.Wanted(**wanted))
        self.doubts = asked.doubts
        return found

    def test_services_by_the_name_of_the_service(self):
        for service, why in (
                ({'status': 'disabled'}, 'its compute service is disabled'),
                ({'status': 'disabled', 'disabled_reason': 'AUTO: x'},
                 'its compute service is disabled (AUTO: x)'),
                ({'forced_down': True, 'state': 'down'}, 'forced down'),
                ({'state': 'down'}, 'is down'),
                ({'status': 'UNKNOWN'}, 'its cell does not answer')):
            cloud = Cloud(NODES, [{'host': 'COMPUTE1', **service},
                                  {'host': 'compute2'}])
            (name, found), = self.why_not(cloud).items()
            self.assertEqual('compute1.example.org', name)
            self.assertIn(why, found)

    def test_one_that_nova_does_not_know(self):
        self.assertEqual(
            {'compute1.example.org': 'Nova knows no compute service of it'},
            self.why_not(Cloud(NODES, [{'host': 'compute2'}])))

    def test_who_may_not_see_the_services(self):
        cloud = Cloud(NODES)
        cloud.compute.get = lambda *args, **kwargs: Cloud._answer({}, 403)
        self.assertEqual({}, self.why_not(cloud))
        self.assertIn('not known: Nova refused', self.doubts[0])

    def test_zone_traits_resources_and_aggregates(self):
        services = [{'host': 'compute1', 'zone': 'a'}, {'host': 'compute2'}]
        cloud = Cloud(
            NODES, services, {'required=A': ['1'], 'required=B': ['2'],
                              'resources=DISK_GB:9': ['2']},
            [{'hosts': ['compute2'], 'metadata': {'ssd': 'true, yes'}}])
        name = 'compute2.example.org'
        self.assertEqual(
            {name: "it is in the availability zone 'nova', not in 'a'"},
            self.why_not(cloud, zone='a'))
        self.assertEqual({name: 'it lacks the trait A'},
                         self.why_not(cloud, required={'A'}))
        self.assertEqual(
            {name: 'it has the trait B, which is forbidden'},
            self.why_not(cloud, forbidden={'B', 'UNKNOWN'}))
        self.assertEqual(
            {'compute1.example.org': 'Placement has no 9 of DISK_GB left on '
                                     'it'},
            self.why_not(cloud, resources={'DISK_GB': 9}))
        self.assertEqual(
            {'compute1.example.org': 'no aggregate of it says ssd=yes'},
            self.why_not(cloud, aggregates={'ssd': 'yes'}))

    def test_disk_that_others_share(self):
        cloud = Cloud(NODES, [{'host': 'compute1'}, {'host': 'compute2'}],
                      {'resources=DISK_GB:9': ['nfs']})
        self.assertEqual({}, self.why_not(cloud, resources={'DISK_GB': 9}))

    def test_each_is_asked_once(self):
        cloud = Cloud(NODES, [{'host': 'compute1'}, {'host': 'compute2'}],
                      {'required=A': ['1', '2'], 'resources=DISK_GB:9': []})
        self.why_not(cloud, required={'A'}, resources={'DISK_GB': 9})
        self.assertEqual(len(set(cloud.asked)), len(cloud.asked))


class WantedTest(base.TestCase):

    def test_of_a_flavor(self):
        found = scheduling_mod.of_flavor({
            'trait:A': 'required', 'trait:B': 'forbidden',
            'trait:CUSTOM_KONGMING_HOOK': 'required', 'trait1:C': 'required',
            'resources:VGPU': '1', 'resources:VCPU': '0',
            'resources:DISK_GB': '0', 'hw:cpu_policy': 'dedicated',
            'aggregate_instance_extra_specs:ssd': '<in> t'}, 20, 'z')
        self.assertEqual(scheduling_mod.Wanted(
            frozenset('A'), frozenset('B'), {'VGPU': 1}, {'ssd': '<in> t'},
            'z'), found)
        self.assertEqual([], scheduling_mod.aggregates_lack(
            found, {'ssd': {'true'}}))
        self.assertEqual({'DISK_GB': 20}, scheduling_mod.of_flavor(
            {}, 20).resources)
