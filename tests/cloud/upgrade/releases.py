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

"""Which release of Nova each service of a cloud runs."""

import functools
import json
import os
import pathlib
import signal
import subprocess

from tests.cloud import daemon
from tests.cloud import services
from tests.cloud import stores

OLD, NEW = '33', '34'
#: For all of a service's first report, on a busy machine.
_REPORT = 420
#: What Nova's records call its API.
_API = 'nova-osapi_compute'


def _children_of(pid):
    path = pathlib.Path(f'/proc/{pid}/task/{pid}/children')
    return {*path.read_text().split()}


class Releases:
    """:param cloud: tests.cloud.cloud.Cloud"""

    def __init__(self, cloud):
        self.cloud = cloud
        self.layout = cloud.layout

    @functools.cached_property
    def known(self):
        """release -> (Nova's version, the version of its services)."""
        return {release: self._look(release) for release in (OLD, NEW)}

    def environment(self, release):
        """The newer one is the checkout's own."""
        return self.layout.environment(OLD if release == OLD else None)

    def _look(self, release):
        said = subprocess.run(
            [self.environment(release) / 'bin' / 'python', '-c',
             'import json\n'
             'from importlib import metadata\n'
             'from nova.objects import service\n'
             'print(json.dumps([metadata.version("nova"), '
             'service.SERVICE_VERSION]))'],
            check=True, cwd=self.layout.folder, text=True,
            capture_output=True, env=daemon.environment(self.layout)).stdout
        return tuple(json.loads(said.splitlines()[-1]))

    def services(self):
        """All of Nova's: nova is its API."""
        return ['nova-scheduler', 'nova-conductor', 'nova',
                *self.computes()]

    def computes(self):
        return [f'nova-compute-{name}' for name in self.cloud.hosts]

    def note(self, release, *names):
        """Have services run from a release when they start next."""
        noted = self.layout.facts().get('releases', {})
        for name in names:
            if release == OLD:
                noted[name] = OLD
            else:
                noted.pop(name, None)
        self.layout.note(releases=noted)

    def process(self, service):
        """tests.cloud.daemon.Daemon, as it is to run now."""
        host = service.removeprefix('nova-compute-')
        if host != service:
            return self.cloud.compute(host)
        if service == 'nova':
            return self.cloud.web('nova')
        return self.cloud.worker(service.removeprefix('nova-'))

    def rows(self):
        """service -> its record: id, version, report_count."""
        found = {}
        for row in stores.query(
                self.layout, 'nova', 'SELECT id, host, services.binary AS '
                'kind, version, report_count FROM services '
                'WHERE deleted = 0'):
            name = {_API: 'nova', 'nova-compute':
                    f"nova-compute-{row['host']}"}.get(
                        row['kind'], row['kind'])
            found[name] = row
        return found

    def running(self):
        """service -> its release, by what it has written of itself."""
        by_version = {version: release for release, (_name, version)
                      in self.known.items()}
        return {name: by_version.get(row['version'], row['version'])
                for name, row in self.rows().items()}

    def start(self, service):
        """Start it, by the configuration of its release."""
        host = service.removeprefix('nova-compute-')
        if host != service:
            self.cloud.start_compute(host)
            return
        self.cloud.config.write_nova()
        self.process(service).start()

    def put(self, service, release):
        """Restart a service from a release, until it works."""
        self.process(service).stop()
        self.note(release, service)
        self.begin(service)

    def begin(self, service, published=True):
        """Start what was stopped, until it works.

        :param published: whether a host is to have its providers, too
        """
        was = self.rows()[service]
        wanted = self.known[self.layout.release(service) or NEW][1]
        self.start(service)
        if service == 'nova':
            services.wait_for_web(self.layout, 'nova')

        def works():
            row = self.rows()[service]
            return row['version'] == wanted and (
                service == 'nova'
                or row['report_count'] > was['report_count'])

        self.process(service).wait_until(works, _REPORT, 'report')
        if service == 'nova-conductor':
            self.hear_of_all()
        if published and service.startswith('nova-compute-'):
            self.cloud.wait_for_hosts([service.removeprefix(
                'nova-compute-')])

    def hear_of_all(self):
        """Until each host reports to the new conductor.

        One that waits for an answer that the old conductor owes it waits for
        rpc_response_timeout, and Nova boots nothing there meanwhile.
        """
        was = self.rows()
        for service in self.computes():
            self.process(service).wait_until(lambda: (
                self.rows()[service]['report_count']
                > was[service]['report_count']), _REPORT, 'report')

    def hang_up(self):
        """Have all but hosts forget which versions there were, by SIGHUP.

        :raises tests.cloud.error.Problem: if one does not go on
        """
        was, api = self.rows(), self.process('nova')
        old = _children_of(api.pid)
        others = [name for name in self.services()
                  if name not in self.computes()]
        for service in others:
            os.kill(self.process(service).pid, signal.SIGHUP)
        # Its workers answer until they end.
        api.wait_until(lambda: (now := _children_of(api.pid))
                       and not now & old, _REPORT, 'have another worker')
        services.wait_for_web(self.layout, 'nova')
        for service in others:
            # An API reports nothing.  The first one may be from before.
            if service != 'nova':
                self.process(service).wait_until(lambda: (
                    self.rows()[service]['report_count']
                    > was[service]['report_count'] + 1), _REPORT, 'report')

    def forget(self):
        """Have all services forget which versions there were.

        nova-compute is restarted, as with threads it would not go on after
        SIGHUP (oslo_service/backend/_threading/service.py, _reload_service).
        """
        self.hang_up()
        for service in self.computes():
            self.process(service).stop()
            self.begin(service)

    def manage(self, *words, program='nova-manage'):
        """A program of Nova's newest release that is installed.

        :raises tests.cloud.error.Problem: if it fails
        """
        daemon.run(self.layout, [
            self.environment(NEW) / 'bin' / program, '--config-file',
            self.layout.etc / 'nova' / 'nova.conf', *words], 'nova-manage')

    def lower(self, service):
        """Have the record of a service, which is stopped, say the old one.

        Nova has no command for it, but of its database's backup.
        """
        stores.query(self.layout, 'nova', 'UPDATE services SET version = %s '
                     'WHERE id = %s', self.known[OLD][1],
                     self.rows()[service]['id'])
