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

"""What each user may do by command, and how it is told what he may not."""

import uuid

from tests.functional import test_cli

ADMIN = 'needs the admin role'
NO_PLACEMENT = 'This cloud has no Placement endpoint in its catalog.'
OLD = 'This Nova is too old: it does not know the compute API microversion'


class UsersTest(test_cli.CliBase):

    def setUp(self):
        super().setUp()
        self.name = self.flavor(2)
        self.document_of_one = self.document(version=1, cells={
            0: {'pin': '0:15 1:14'}}, grant=['template', 'profile'],
            profiles={'night': {'when': '22:00-06:00 UTC',
                                'cells': {0: {'pin': '0-1~v0'}}}})
        self.openstack('kongming', 'template', 'set', '--flavor', self.name,
                       self.document_of_one)

    def kongming(self, user, words, status=0, reported=''):
        """One line says what is the matter."""
        out, err = self.openstack('kongming', *words.split(), user=user,
                                  status=status)
        self.assertNotIn('Traceback', err)
        if reported:
            self.assertIn(reported, err)
            self.assertEqual(1, len(err.splitlines()), err)
        return out

    def server(self):
        name = f'server-{uuid.uuid4().hex[:8]}'
        self.openstack('server', 'create', '--flavor', self.name, '--image',
                       'idle', '--nic', 'none', '--wait', name)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)
        return name

    def test_only_admins(self):
        """Who may do it sees the same command end well elsewhere."""
        name, path = self.name, self.document_of_one
        before = self.specs(name)
        for user in ('member', 'reader'):
            for words in (
                    'host list', 'host list --long', 'host show compute1',
                    'host map compute1', 'host unpublish compute1',
                    f'template check {name}',
                    f'template set --flavor {name} --pin 0=0:5',
                    f'template set --no-check --flavor {name} --pin 0=0:5',
                    f'template unset --flavor {name}',
                    f'template delete {name}',
                    'template create --vcpus 1 --ram 64 --no-check --node '
                    '0=1 another',
                    'template preview --host compute1',
                    'server list --all-projects',
                    'server list --host compute1'):
                self.kongming(user, words, 1, ADMIN)
            self.kongming(user, f'template validate {path}')
            for words in ('template list --long', f'template show {name}',
                          f'template export {name}',
                          f'template preview --flavor {name}',
                          'server list'):
                self.assertIn(name if words.startswith('template li')
                              else '', self.kongming(user, words))
        self.assertEqual(before, self.specs(name))

    def test_servers(self):
        """What only an admin may see is left out, and is no error."""
        name = self.server()
        for user in ('member', 'reader'):
            row, = [row for row in self.json('kongming', 'server', 'list',
                                             '--long', user=user)
                    if row['server'] == name]
            self.assertEqual((None, None), (row['host'], row['owned']))
            shown = self.json('kongming', 'server', 'show', name, user=user)
            self.assertNotIn('owned', shown)
            self.assertEqual([], self.json('kongming', 'server', 'history',
                                           name, user=user))
            self.json('kongming', 'server', 'wait', name, user=user)
        self.kongming('reader', f'server set --pin 0=0:13 {name}', 1,
                      'Nova refused the metadata: Policy')
        self.kongming('member', f'server set --pin 0=0:13 {name}')
        self.kongming('reader', f'server unset --all {name}', 1,
                      'Nova refused the metadata: Policy')
        self.assertEqual('0:13', self.json(
            'kongming', 'server', 'show', name)['metadata'][
                'kongming:pin.0'])
        self.kongming('member', f'server unset --all {name}')

    def test_deployment(self):
        path = self.document(
            version=1, name='own', templates={'du': {
                'vcpus': 1, 'ram': 64, 'properties': {
                    'hw:cpu_policy': 'dedicated'}, 'cells': {0: {
                        'node': 0}}}},
            servers={'du-1': {'template': 'du', 'image': 'idle',
                              'networks': 'none'}})
        for user in ('member', 'reader'):
            for word in ('validate', 'apply'):
                self.kongming(user, f'deployment {word} {path}', 1, ADMIN)
        self.openstack('kongming', 'deployment', 'apply', path)
        self.kongming('reader', 'deployment show own')
        _out, err = self.openstack('kongming', 'deployment', 'delete',
                                   '--yes', 'own', user='reader', status=1)
        self.assertIn('0 of 1 steps are done, then: delete server du-1: '
                      "Policy doesn't allow", err)
        # A member's the server is, but not the flavor.
        _out, err = self.openstack('kongming', 'deployment', 'delete',
                                   '--yes', 'own', user='member')
        self.assertEqual([
            '[1/1] delete server du-1',
            'warning: flavor own.du stays, as far as it is there: only an '
            'admin sees it'], err.splitlines())
        self.openstack('kongming', 'deployment', 'delete', '--yes', 'own')
        self.assertNotIn('own.du', [row['Name'] for row in self.json(
            'flavor', 'list', '--all')])

    def test_a_cloud_that_lacks_what_is_needed(self):
        """A region with an older Nova and without Placement."""
        for words in ('host list', f'template check {self.name}',
                      f'template set --flavor {self.name} --pin 0=0:5'):
            self.kongming('old', words, 1, NO_PLACEMENT)
        for words in ('server list', 'deployment show ran'):
            self.kongming('old', words, 1, OLD)
        self.assertIn(self.name, self.kongming('old', 'template list'))

    def test_whatever_microversion_is_asked_for(self):
        """It is for Nova's own commands; ours know what they need."""
        old = '--os-compute-api-version', '2.1', 'kongming'
        path = self.document(
            version=1, name='own', templates={'du': {
                'vcpus': 2, 'ram': 64, 'grant': 'template', 'properties': {
                    'hw:cpu_policy': 'dedicated'}}},
            servers={'du-1': {'template': 'du', 'image': 'idle',
                              'networks': 'none', 'host': 'compute1',
                              'cells': {0: {'pin': '0:15 1:14'}}}})
        self.openstack(*old, 'deployment', 'apply', path)
        self.addCleanup(self.openstack, 'kongming', 'deployment', 'delete',
                        '--yes', 'own')
        self.openstack(*old, 'server', 'set', '--pin', '0=0:13', '--wait',
                       'du-1')
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 14}}],
                         self.json(*old, 'server', 'show', 'du-1')['owned'])
        self.assertIn(self.name, self.openstack(*old, 'template', 'list')[0])

    def test_wrong_password(self):
        _out, err = self.openstack('--os-password', 'wrong', 'kongming',
                                   'host', 'list', status=1)
        self.assertNotIn('Traceback', err)
        self.assertIn('401', err)
