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


"""A cloud brought up and taken down."""

import concurrent.futures
import contextlib
import os
import signal
import threading
import time

from tests.cloud import config as config_mod
from tests.cloud import daemon
from tests.cloud import error
from tests.cloud import hosts as hosts_mod
from tests.cloud import layout as layout_mod
from tests.cloud import services
from tests.cloud import stores
from tests.embedded import guests

HOSTS = ('local1', 'nested1', 'nested2')
WORKERS = ('conductor', 'scheduler')
#: For all of a service's first report, on a busy machine.
_REPORT = 420


class Cloud:
    """:param layout: tests.cloud.layout.Layout

    :param say: called with a line at each step
    """

    def __init__(self, layout, say=lambda text: None):
        self.layout = layout
        self.say = say
        self.config = config_mod.Config(layout)
        self.mariadb = stores.Mariadb(layout)
        self.rabbitmq = stores.Rabbitmq(layout)
        self.hosts = {
            host.name: host for host in hosts_mod.named(
                layout, layout.facts().get('hosts', ()))}
        #: host -> its reports before its nova-compute was started
        self._reports = {}

    # What runs.

    def web(self, name):
        return services.web(self.layout, name)

    def worker(self, name):
        return services.worker(self.layout, name)

    def compute(self, host):
        """nova-compute's process of a host, by the host's name."""
        state = self.layout.data / host
        return services.compute(self.layout, self.hosts[host],
                                state / 'nova.conf')

    def processes(self):
        """Name -> process, of all that is to run."""
        found = {'mariadb': self.mariadb.daemon,
                 'rabbitmq': self.rabbitmq.daemon}
        found |= {name: self.web(name) for name in services.WEB}
        found |= {f'nova-{name}': self.worker(name)
                  for name in WORKERS}
        for name in self.hosts:
            record = daemon.Daemon(self.layout, f'nova-compute-{name}', [])
            found[record.name] = record
        return found

    def is_up(self):
        return (all(process.pid for process in self.processes().values())
                and all(host.is_up() for host in self.hosts.values())
                and bool(self.hosts))

    # Up.

    def up(self, names):
        """Start all that doesn't run yet.

        :param names: of hosts
        """
        begin = time.monotonic()
        running = daemon.all_of(self.layout)
        if not running:
            self.layout.check_free(layout_mod.port_names(
                {'nested1', 'nested2', 'local1'} - set(names)))
        self.layout.make()
        # By this all that is started here is found again, nested hosts, too.
        os.environ[layout_mod.MARK] = str(self.layout.folder)
        known = self.layout.facts().get('hosts', [])
        names = [name for name in HOSTS if name in {*known, *names}]
        self.layout.note(hosts=names)
        self.hosts = {host.name: host for host in hosts_mod.named(
            self.layout, names)}
        with concurrent.futures.ThreadPoolExecutor() as pool:
            starting = {}
            if any(host.kind == 'nested' for host in self.hosts.values()):
                made = pool.submit(hosts_mod.make_image, self.layout,
                                   self.say)
            for name, host in self.hosts.items():
                starting[name] = pool.submit(
                    self._start_host, host,
                    made if host.kind == 'nested' else None)
            self._start_services(pool, starting)
            for waiting in starting.values():
                waiting.result()
        self.wait_for_hosts()
        self.say(f'the cloud is up ({time.monotonic() - begin:.0f} s)')

    def _start_host(self, host, before):
        if before is not None:
            before.result()
        host.start(self.say)

    def _start_services(self, pool, starting):
        layout, say = self.layout, self.say
        list(pool.map(lambda store: store.start(),
                      (self.mariadb, self.rabbitmq)))
        say('MariaDB and RabbitMQ answer')
        self.config.write()
        services.write_clouds(layout)
        if not layout.facts().get('made'):
            with self._step('databases made'):
                # Two at a time: each is a Python program of its own.
                with concurrent.futures.ThreadPoolExecutor(2) as two:
                    list(two.map(lambda make: make(layout), (
                        services.make_nova, services.make_keystone,
                        services.make_neutron, services.make_glance,
                        services.make_placement)))
            layout.note(made=True)
        # A story that was broken off may have forced a host down.
        stores.query(layout, 'nova', 'UPDATE services SET forced_down = 0')
        with self._step('keystone, placement, glance, neutron, nova-api, '
                        'conductor and scheduler answer'):
            for name in services.WEB:
                self.web(name).start()
            services.wait_for_web(layout, 'keystone')
            services.register(layout)
            # Without their users they end at once.
            for name in WORKERS:
                self.worker(name).start()
            list(pool.map(lambda name: services.wait_for_web(layout, name),
                          services.WEB))
        self.make_images()
        # Its very first query must not be for ports.
        list(services.connect(layout).network.networks())
        for name, waiting in starting.items():
            waiting.result()
            self.start_compute(name)

    def make_images(self):
        folder = self.layout.data / 'images'
        folder.mkdir(exist_ok=True)
        services.upload_images(self.layout, {
            name: guests.write(folder, name) for name in guests.NAMES})

    def start_compute(self, name):
        self.config.write_compute(self.hosts[name])
        self._reports[name] = self._reports_of(name)
        self.compute(name).start()

    def _reports_of(self, name):
        """How often a host's nova-compute has said that it is up."""
        return sum(row['report_count'] for row in stores.query(
            self.layout, 'nova', 'SELECT report_count FROM services WHERE '
            "deleted = 0 AND services.binary = 'nova-compute' AND host = %s",
            name))

    def restore(self):
        """Start what has been killed, and wait for it."""
        self.mariadb.start()
        self.rabbitmq.start()
        for name in services.WEB:
            self.web(name).start()
        for name in WORKERS:
            self.worker(name).start()
        for name in services.WEB:
            services.wait_for_web(self.layout, name)
        for name, host in self.hosts.items():
            host.start(lambda text: None)
            if self.compute(name).pid is None:
                self.start_compute(name)

    def wait_for_hosts(self, names=None):
        """Until each host is known, reports and is published."""
        with self._step('all nova-computes report'):
            for name in names or self.hosts:
                self.compute(name).wait_until(
                    lambda: self.host_is_ready(name), _REPORT, 'report')
            for name, process in self.processes().items():
                if process.pid is None:
                    raise error.Problem(f'{name} has ended; '
                                        f'{process.tail()}')

    def host_is_ready(self, name):
        # The scheduler looks for new hosts every few seconds.
        if not stores.query(self.layout, 'nova_api', 'SELECT id FROM '
                            'host_mappings WHERE host = %s', name):
            return False
        # What it has said before it was started says nothing.
        if self._reports_of(name) <= self._reports.get(name, -1):
            return False
        admin = services.connect(self.layout)
        if not any(service.host == name and service.state == 'up'
                   for service in admin.compute.services(
                       binary='nova-compute')):
            return False
        return any(provider.name.startswith(f'{name}_KONGMING_NODE')
                   for provider in admin.placement.resource_providers())

    @contextlib.contextmanager
    def _step(self, text):
        begin = time.monotonic()
        yield
        self.say(f'{text} ({time.monotonic() - begin:.0f} s)')

    # Down.

    def down(self):
        """Stop everything.

        :returns: whether anything ran
        """
        ran = bool(daemon.all_of(self.layout))
        early = [process for name, process in self.processes().items()
                 if name not in ('mariadb', 'rabbitmq')]
        _stop(early)
        _stop_all(host.stop for host in self.hosts.values())
        _stop([self.mariadb.daemon, self.rabbitmq.daemon,
               self.rabbitmq.epmd])
        # Whatever they have started and left.
        for pid in daemon.all_of(self.layout):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while left := daemon.all_of(self.layout):
            if time.monotonic() > end:
                raise error.Problem(f'processes {left} do not end')
            time.sleep(0.1)
        return ran


def _stop(processes):
    """All at once: some take a while."""
    for process in processes:
        process.ask_to_stop()
    _stop_all(process.stop for process in processes)


def _stop_all(calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
