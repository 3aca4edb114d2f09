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


"""What tenants may not do."""

from tests.cloud.story import chapter


class Tenants(chapter.Chapter):

    @chapter.on('local1', short=True)
    def test_no_grant(self):
        """Metadata without a grant have no effect, whatever they say"""
        flavor = self.flavor(template=('--pin', '0=0:0'))
        server = self.boot(flavor)
        xml = self.look.xml(server)
        changes = [{'pin_0': '0:1'}, {'node_0': '0'}, {'profile': 'night'},
                   {'qos': '0:weight=10000'}, {'sched': '0:fifo:49'},
                   {'grant': 'template,qos,profile'}, {'borrow': 'host'},
                   {'pin_0': '0:' + '9' * 200}, {'pin_0': '\u202e0:1\n'},
                   {'emulator': '1'}, {'profile_x_when': '00:00-00:00'}]
        for desired in changes:
            self.say(server, **desired)
        self.ring(server)
        self.assertIsOn(server, 0, {0: 0})
        self.assertEqual(xml, self.look.xml(server))
        shown = self.member.json('kongming', 'server', 'show', server)
        self.assertIn('grant', str(shown['not_obeyed']))

    @chapter.on('local1', short=True)
    def test_what_is_anothers(self):
        """With a grant, another one's pCPU is refused, and not whose it is"""
        victim = self.boot(self.flavor(template=('--pin', '0=0:0')),
                           user=self.admin)
        flavor = self.flavor(template=('--pin', '0=0:1'))
        self.grant(flavor, 'template')
        server = self.boot(flavor)
        self.say(server, pin_0='0:0')
        self.ring(server)
        self.assertIsOn(victim, 0, {0: 0})
        self.assertIsOn(server, 0, {0: 1})
        name = self.show(victim)['name']
        said = self.admin.run('kongming', 'server', 'history', server)
        self.assertIn(name, ''.join(said.split()).replace('|', ''))
        said = self.member.run('kongming', 'server', 'history', server)
        self.assertIn('Error', said)
        self.assertNotIn(name, said)
        self.assertNotIn(victim, said)

    @chapter.on('local1')
    def test_storm(self):
        """Metadata in a loop: ten changes are made, the last one in the end"""
        flavor = self.flavor(template=('--pin', '0=0:0'))
        self.grant(flavor, 'template')
        server = self.boot(flavor)
        for number in range(1, 32):
            self.say(server, pin_0=f'0:{number % 2}')
            self.ring(server)
        self.comes_to(server, 0, {0: 1})
        made = [row['result'] for row in self.admin.json(
            'kongming', 'server', 'history', server, '--limit', '100')]
        self.figure('of 31 requests in a loop, changes made',
                    str(made.count('Success')))
        self.assertLess(len(made), 31)

    @chapter.on('local1', short=True)
    def test_rights(self):
        """Flavors, the trigger and others' pins are not a tenant's"""
        flavor = self.flavor(template=('--pin', '0=0:0'))
        server = self.boot(flavor)
        flavor_id = self.admin.sdk.compute.find_flavor(flavor).id
        for user in (self.member, self.reader):
            found = user.sdk.compute.post(
                f'/flavors/{flavor_id}/os-extra_specs',
                json={'extra_specs': {'kongming:grant': 'template'}})
            self.assertEqual(403, found.status_code)
            found = user.sdk.compute.get(f'/servers/{server}/diagnostics')
            self.assertEqual(403, found.status_code)
            shown = user.json('kongming', 'server', 'show', server)
            self.assertNotIn('owned', shown)
        found = self.reader.sdk.compute.post(
            f'/servers/{server}/metadata',
            json={'metadata': {'kongming:pin.0': '0:1'}})
        self.assertEqual(403, found.status_code)
        self.assertNotEqual('', self.reader.refused(
            'kongming', 'server', 'set', '--pin', '0=0:1', server))
