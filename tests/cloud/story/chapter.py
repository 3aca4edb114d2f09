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


"""What the chapters of the story share."""

import re
import secrets
import statistics
import time
import unittest

from kongming.live import progress
from tests.cloud import client
from tests.cloud import error
from tests.cloud import look

#: Every wait is for what should be there within seconds; a machine where
#: much else runs takes minutes.
_PATIENCE = 300
#: What servers of a story are called, see Stage.unique.
_NAME = re.compile(r'native-\w+|[a-z]+-[0-9a-f]{4}-\d+')


def on(*hosts, short=False):
    """Say where a chapter takes place.

    :param hosts: names of hosts that it needs
    :param short: whether it is told in the short story, too
    """
    def mark(function):
        function.hosts, function.short = hosts, short
        return function
    return mark


class Stage:
    """A cloud that is up, its users, and what is measured on it."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.admin = client.User(cloud.layout, 'admin')
        self.member = client.User(cloud.layout, 'member')
        self.reader = client.User(cloud.layout, 'reader')
        self.look = look.Look(cloud, self.admin)
        #: Figures for the table: (what, text)
        self.figures = []
        #: Native servers that live through all of it: name -> what it was
        self.neighbours = {}
        self._number = 0
        self._run = secrets.token_hex(2)

    def unique(self, stem):
        self._number += 1
        return f'{stem}-{self._run}-{self._number}'

    def clear(self):
        """Delete the servers of a story that was broken off.

        The places of theirs are those that the chapters name.
        """
        compute = self.admin.sdk.compute
        left = [server.id for server in compute.servers(all_projects=True)
                if _NAME.fullmatch(server.name or '')]
        for uuid in left:
            compute.delete(f'/servers/{uuid}')
        end = time.monotonic() + _PATIENCE
        while left and time.monotonic() < end:
            left = [uuid for uuid in left if compute.get(
                f'/servers/{uuid}').status_code != 404]
            time.sleep(0.5)
        if left:
            raise error.Problem(
                f'servers of an earlier story are not deleted after '
                f'{_PATIENCE} s: {", ".join(left)}; nova-compute.log says why')


class Chapter(unittest.TestCase):
    """One chapter; its servers and flavors go with it."""

    #: Given by the teller.
    stage: Stage

    longMessage = True

    def setUp(self):
        self.cloud, self.look = self.stage.cloud, self.stage.look
        self.admin, self.member = self.stage.admin, self.stage.member
        self.reader = self.stage.reader
        # When this chapter's servers are gone, nothing of them is left.
        self.addCleanup(self.assertClean)
        self.addCleanup(self._delete_flavors)
        self._flavors = []
        self.mine = []
        self._owners = {}
        self.addCleanup(self.delete, *())

    def figure(self, what, text):
        self.stage.figures.append((what, text))

    def seconds(self, what, seconds):
        self.figure(what, f'{seconds:.1f} s')

    def spread(self, what, samples):
        """p50 and p95 of seconds."""
        ordered = sorted(samples)
        self.figure(what, f'p50 {statistics.median(ordered):.2f} s, p95 '
                          f'{ordered[int(len(ordered) * 0.95)]:.2f} s '
                          f'({len(ordered)} times)')

    def until(self, what, ready, seconds=_PATIENCE, pause=0.3):
        """Wait for something that is true at last; its value.

        :param what: to be told if it never is
        """
        end = time.monotonic() + seconds
        while True:
            found = ready()
            if found:
                return found
            if time.monotonic() > end:
                self.fail(f'not so after {seconds} s: {what} (last: '
                          f'{found!r})')
            time.sleep(pause)

    # Flavors.

    def flavor(self, vcpus=1, ram=64, dedicated=True, template=(),
               **properties):
        """A flavor, by the CLI, with a template where words say one.

        :param template: further words of 'kongming template set'
        :returns: its name
        """
        name = self.stage.unique('flavor')
        specs = {key.replace('__', ':'): value
                 for key, value in properties.items()}
        if dedicated:
            specs.setdefault('hw:cpu_policy', 'dedicated')
        self.admin.run(
            'flavor', 'create', name, '--vcpus', vcpus, '--ram', ram,
            '--disk', 1, *(word for key, value in specs.items() for word in
                           ('--property', f'{key}={value}')))
        self._flavors.append(name)
        if template:
            self.admin.run('kongming', 'template', 'set', '--flavor', name,
                           *template)
        return name

    def grant(self, flavor, *what):
        self.admin.run('flavor', 'set', flavor, '--property',
                       f'kongming:grant={",".join(what)}')

    def _delete_flavors(self):
        for name in self._flavors:
            self.admin.run('flavor', 'delete', name, status=None)

    # Servers.

    def create(self, flavor, image='idle', user=None, host=None, name=None):
        """Ask for a server; its uuid.

        :param host: ask for this one; the scheduler has its say all the same
        """
        user = user or self.member
        compute = user.sdk.compute
        further = {}
        if host is not None:
            user = self.admin
            compute = user.sdk.compute
            further = {'host': host}
        image_id = user.sdk.image.find_image(image).id
        flavor_id = self.admin.sdk.compute.find_flavor(flavor).id
        body = {'name': name or self.stage.unique('server'),
                'imageRef': image_id, 'flavorRef': flavor_id,
                'networks': 'none', **further}
        found = compute.post('/servers', json={'server': body},
                             microversion='2.90')
        self.assertEqual(202, found.status_code, found.text)
        uuid = found.json()['server']['id']
        self.mine.append(uuid)
        self._owners[uuid] = user
        return uuid

    def show(self, uuid):
        return self.admin.sdk.compute.get(
            f'/servers/{uuid}', microversion='2.90').json().get('server', {})

    def wait_for(self, uuid, status='ACTIVE', seconds=_PATIENCE):
        """Until a server is what it is to be, and nothing is done to it."""
        def ready():
            found = self.show(uuid)
            if found['status'] == 'ERROR' and status != 'ERROR':
                self.fail(f"server {found['name']} is in ERROR: "
                          f"{found.get('fault', {}).get('message')}")
            return (found['status'] == status
                    and not found['OS-EXT-STS:task_state'] and found)
        return self.until(f'server {uuid} is {status}', ready, seconds)

    def boot(self, flavor, image='idle', **kwargs):
        uuid = self.create(flavor, image, **kwargs)
        self.wait_for(uuid)
        return uuid

    def act(self, uuid, user=None, **body):
        """An action of Nova's API, such as reboot={'type': 'HARD'}."""
        found = (user or self.admin).sdk.compute.post(
            f'/servers/{uuid}/action', json={
                name.replace('__', '-'): value
                for name, value in body.items()}, microversion='2.90')
        self.assertLess(found.status_code, 300, found.text)

    def say(self, uuid, user=None, **metadata):
        """Write metadata under kongming: as its owner; ``_`` is a dot."""
        found = (user or self._owners[uuid]).sdk.compute.post(
            f'/servers/{uuid}/metadata', json={'metadata': {
                f'kongming:{key.replace("_", ".")}': value
                for key, value in metadata.items()}})
        self.assertEqual(200, found.status_code, found.text)

    def ring(self, uuid):
        """The trigger of the reconciler, an admin's, until all is done."""
        while True:
            found = self.admin.sdk.compute.get(
                f'/servers/{uuid}/diagnostics', microversion='2.48')
            if not found.ok or not progress.read(
                    found.json().get('hypervisor_os')):
                return found
            time.sleep(0.2)

    def delete(self, *uuids):
        """Delete servers, all of this chapter's where none is named."""
        uuids = uuids or tuple(self.mine)
        for uuid in uuids:
            # A server that is deleted while it migrates leaves what its
            # migration has allocated; Nova's own do, too.
            end = time.monotonic() + _PATIENCE
            while (self.show(uuid).get('OS-EXT-STS:task_state')
                   and time.monotonic() < end):
                time.sleep(1)
            self.admin.sdk.compute.delete(f'/servers/{uuid}')
        for uuid in uuids:
            self.until(f'server {uuid} is deleted', lambda: (
                self.admin.sdk.compute.get(f'/servers/{uuid}').status_code
                == 404))
            if uuid in self.mine:
                self.mine.remove(uuid)

    # Checks.

    def assertIsOn(self, uuid, node, pins):
        """Nova, Placement's owner, libvirt and the kernel say the same."""
        self.assertEqual([], self.look.everybody_says(uuid, node, pins))

    def comes_to(self, uuid, node, pins, seconds=_PATIENCE):
        """As :meth:`assertIsOn`, once it has come to it."""
        def ready():
            try:
                return not self.look.everybody_says(uuid, node, pins)
            except LookupError:
                return False  # its domain is on its way
        try:
            self.until('', ready, seconds)
        except AssertionError:
            self.assertIsOn(uuid, node, pins)

    def assertClean(self, seconds=_PATIENCE):
        """No double owner, nothing leaked: at once or when it is idle."""
        try:
            self.until('', lambda: not self.look.audit(), seconds, pause=1)
        except AssertionError:
            self.assertEqual([], self.look.audit())
