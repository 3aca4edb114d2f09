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


"""MariaDB and RabbitMQ, of the distribution, as processes of ours."""

import getpass
import socket

import pymysql

from tests.cloud import daemon

DATABASES = ('keystone', 'placement', 'glance', 'neutron', 'nova_api',
             'nova_cell0', 'nova')


class Mariadb:
    """Its data is in the cloud's folder, no account is without password."""

    def __init__(self, layout):
        self.layout = layout
        self._data = layout.data / 'mariadb'
        self._init = layout.etc / 'mariadb.sql'
        self.daemon = daemon.Daemon(layout, 'mariadb', [
            'mariadbd', '--no-defaults', f'--datadir={self._data}',
            f'--user={getpass.getuser()}',
            f'--socket={layout.run}/mariadb.sock',
            f'--pid-file={layout.run}/mariadb.pid',
            f'--port={layout.port("mariadb")}', '--bind-address=127.0.0.1',
            '--skip-name-resolve', f'--init-file={self._init}',
            # Nobody misses it after a power cut.
            '--innodb-flush-log-at-trx-commit=0', '--skip-log-bin',
            '--innodb-doublewrite=0', '--max-connections=600'])

    def start(self):
        if not (self._data / 'mysql').exists():
            daemon.run(self.layout, [
                'mariadb-install-db', '--no-defaults',
                f'--datadir={self._data}', f'--user={getpass.getuser()}',
                '--auth-root-authentication-method=normal',
                '--skip-test-db'], 'mariadb')
        secret = self.layout.secret
        self._init.write_text(''.join([
            f"ALTER USER root@localhost IDENTIFIED BY '{secret}';\n",
            "DROP USER IF EXISTS root@'127.0.0.1', root@'::1';\n",
            f"CREATE USER IF NOT EXISTS openstack@'127.0.0.1' "
            f"IDENTIFIED BY '{secret}';\n",
            "GRANT ALL ON *.* TO openstack@'127.0.0.1';\n",
            *(f'CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8;\n'
              for name in DATABASES)]))
        self._init.chmod(0o600)
        self.daemon.start()
        self.daemon.wait_until(self._answers, 120)

    def _answers(self):
        try:
            connect(self.layout).close()
        except pymysql.Error:
            return False
        return True


def connect(layout, database='mysql'):
    """A connection to a database, every statement a transaction."""
    return pymysql.connect(
        host='127.0.0.1', port=layout.port('mariadb'), user='openstack',
        password=layout.secret, database=database, autocommit=True,
        cursorclass=pymysql.cursors.DictCursor)


def query(layout, database, text, *values):
    """Rows of a query, as dictionaries."""
    connection = connect(layout, database)
    try:
        with connection.cursor() as cursor:
            cursor.execute(text, values)
            return cursor.fetchall()
    finally:
        connection.close()


class Rabbitmq:
    """One node, with an epmd of its own, on 127.0.0.1."""

    def __init__(self, layout):
        self.layout = layout
        home = layout.data / 'rabbitmq'
        epmd = {'ERL_EPMD_ADDRESS': '127.0.0.1',
                'ERL_EPMD_PORT': str(layout.port('epmd'))}
        self._config = layout.etc / 'rabbitmq.conf'
        nodes = layout.port('rabbitmq nodes')
        self.epmd = daemon.Daemon(layout, 'epmd', ['epmd'], epmd)
        self.daemon = daemon.Daemon(
            layout, 'rabbitmq', ['/usr/lib/rabbitmq/bin/rabbitmq-server'], {
                **epmd, 'HOME': str(home),
                'RABBITMQ_NODENAME':
                    f'kongming{layout.port_base}@localhost',
                'RABBITMQ_CONFIG_FILE': str(self._config),
                'RABBITMQ_CONF_ENV_FILE': '/dev/null',
                'RABBITMQ_ENABLED_PLUGINS_FILE': '/dev/null',
                'RABBITMQ_MNESIA_BASE': str(home / 'mnesia'),
                'RABBITMQ_LOG_BASE': str(layout.logs),
                'RABBITMQ_LOGS': '-',
                'RABBITMQ_PID_FILE': str(home / 'pid'),
                'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS':
                    f'-kernel inet_dist_use_interface {{127,0,0,1}} '
                    f'inet_dist_listen_min {nodes} '
                    f'inet_dist_listen_max {nodes} '
                    f'+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none'})
        self._home = home

    def start(self):
        self._home.mkdir(exist_ok=True)
        self._config.write_text(
            f'listeners.tcp.1 = 127.0.0.1:{self.layout.port("rabbitmq")}\n'
            f'default_user = openstack\n'
            f'default_pass = {self.layout.secret}\n'
            f'disk_free_limit.absolute = 200MB\n'
            f'log.console.level = warning\n')
        self.epmd.start()
        self.daemon.start()
        self.daemon.wait_until(self.answers, 180)

    def answers(self):
        try:
            with socket.create_connection(
                    ('127.0.0.1', self.layout.port('rabbitmq')), 2) as found:
                # Nonsense is answered with the version that it speaks.
                found.sendall(b'AMQP\x00\x00\x00\x00')
                return found.recv(4) == b'AMQP'
        except OSError:
            return False
