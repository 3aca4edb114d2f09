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


"""The services of OpenStack: their databases, processes, users, endpoints."""

import getpass
import grp
import os
import urllib.error
import urllib.request

import openstack
import yaml

from tests.cloud import daemon
from tests.cloud import error
from tests.cloud import layout as layout_mod
from tests.cloud import stores

BIN = layout_mod.BIN
#: service -> (module that has its application, type, path of its endpoint)
WEB = {
    'keystone': ('keystone.wsgi.api', 'identity', '/v3'),
    'placement': ('placement.wsgi.api', 'placement', ''),
    'glance': ('glance.wsgi.api', 'image', ''),
    'neutron': ('neutron.wsgi.api', 'network', ''),
    'nova': ('nova.wsgi.osapi_compute', 'compute', '/v2.1'),
}
#: Users of the project 'demo' and their roles.
USERS = {'member': 'member', 'reader': 'reader'}
PROJECT = 'demo'
_START = 300


def web(layout, service):
    """A WSGI service by uwsgi, as one process with threads."""
    config = layout.etc / service
    programs = layout.programs(service)
    further = {
        'keystone': {'OS_KEYSTONE_CONFIG_FILES': config / 'keystone.conf'},
        'placement': {'OS_PLACEMENT_CONFIG_DIR': config},
        'glance': {'OS_GLANCE_CONFIG_DIR': config},
        'neutron': {'OS_NEUTRON_CONFIG_FILES': config / 'neutron.conf'},
        'nova': {'OS_NOVA_CONFIG_DIR': config}}[service]
    return daemon.Daemon(layout, service, [
        programs / 'pyuwsgi', '--http-socket',
        f'127.0.0.1:{layout.port(service)}', '--module',
        f'{WEB[service][0]}:application', '--master', '--processes', '1',
        '--threads', '6', '--enable-threads', '--lazy-apps', '--die-on-term',
        '--need-app', '--buffer-size', '65535', '--thunder-lock',
        # A snapshot comes in pieces, as fast as QEMU writes it; some are
        # larger than the 1 MiB that is usually the limit.
        '--chunked-input-timeout', '300', '--chunked-input-limit',
        str(64 << 20), '--socket-timeout', '300',
        '--disable-logging', '--home', programs.parent,
        # On SIGHUP it runs itself anew, without this past the environment.
        '--binary-path', programs / 'python3',
        # Kept alive, connections fail now and then.
        '--add-header', 'Connection: close'],
        {name: str(value) for name, value in further.items()})


def worker(layout, name):
    """nova-conductor or nova-scheduler."""
    return daemon.Daemon(layout, f'nova-{name}', [
        layout.programs(f'nova-{name}') / f'nova-{name}', '--config-file',
        layout.etc / 'nova' / 'nova.conf'])


def compute(layout, host, config):
    """nova-compute of a host."""
    name = f'nova-compute-{host.name}'
    return daemon.Daemon(layout, name, host.inside([
        *host.runs(layout.programs(name), 'nova-compute'), '--config-file',
        config]))


def answers(layout, service):
    """Whether it answers, be it with a refusal."""
    try:
        urllib.request.urlopen(layout.url(service) + '/', timeout=20).close()
    except urllib.error.HTTPError as exc:
        return exc.code < 500
    except OSError:
        return False
    return True


def wait_for_web(layout, service):
    web(layout, service).wait_until(lambda: answers(layout, service), _START)


# Databases.

def _manage(layout, program, *words):
    service = program.partition('-')[0]
    name = {'glance': 'glance-api'}.get(service, service)
    daemon.run(layout, [
        layout.programs(program) / program, '--config-file',
        layout.etc / service / f'{name}.conf', *words], f'{service}-manage')


def make_keystone(layout):
    keys = layout.data / 'keystone'
    for name in ('fernet', 'credential'):
        (keys / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    user = ['--keystone-user', getpass.getuser(), '--keystone-group',
            grp.getgrgid(os.getgid()).gr_name]
    _manage(layout, 'keystone-manage', 'db_sync')
    _manage(layout, 'keystone-manage', 'fernet_setup', *user)
    _manage(layout, 'keystone-manage', 'credential_setup', *user)
    url = f'{layout.url("keystone")}/v3'
    _manage(layout, 'keystone-manage', 'bootstrap',
            '--bootstrap-password', layout.secret,
            '--bootstrap-region-id', 'RegionOne',
            *(word for face in ('admin', 'internal', 'public')
              for word in (f'--bootstrap-{face}-url', url)))


def make_placement(layout):
    daemon.run(layout, [BIN / 'placement-manage', '--config-dir',
                        layout.etc / 'placement', 'db', 'sync'],
               'placement-manage')


def make_glance(layout):
    _manage(layout, 'glance-manage', 'db_sync')


def make_neutron(layout):
    daemon.run(layout, [BIN / 'neutron-db-manage', '--config-file',
                        layout.etc / 'neutron' / 'neutron.conf', 'upgrade',
                        'heads'], 'neutron-manage')


def make_nova(layout):
    _manage(layout, 'nova-manage', 'api_db', 'sync')
    _manage(layout, 'nova-manage', 'cell_v2', 'map_cell0',
            '--database_connection', layout.database('nova_cell0'))
    _manage(layout, 'nova-manage', 'db', 'sync')
    if not stores.query(layout, 'nova_api', "SELECT id FROM cell_mappings "
                        "WHERE name = 'cell1'"):
        _manage(layout, 'nova-manage', 'cell_v2', 'create_cell', '--name',
                'cell1')


# Users, endpoints, images.

def write_clouds(layout):
    """clouds.yaml, which is for the ``openstack`` command and the SDK."""
    users = {'admin': ('admin', 'admin'),
             **{user: (user, PROJECT) for user in USERS}}
    clouds = {f'kongming-{name}': {
        'auth': {'auth_url': f'{layout.url("keystone")}/v3',
                 'username': user, 'password': layout.secret,
                 'project_name': project, 'project_domain_name': 'Default',
                 'user_domain_name': 'Default'},
        'region_name': 'RegionOne', 'identity_api_version': '3'}
        for name, (user, project) in users.items()}
    layout.clouds_yaml.write_text(yaml.safe_dump({'clouds': clouds}))
    layout.clouds_yaml.chmod(0o600)


def connect(layout, user='admin'):
    """openstacksdk's connection of a user."""
    clouds = yaml.safe_load(layout.clouds_yaml.read_text())['clouds']
    return openstack.connect(
        load_yaml_config=False, load_envvars=False,
        **clouds[f'kongming-{user}'])


def register(layout):
    """Projects, users and endpoints; what is there is left."""
    identity = connect(layout).identity
    domain = 'default'
    roles = {role.name: role.id for role in identity.roles()}
    for name in ('admin', 'service'):
        if name not in roles:
            roles[name] = identity.create_role(name=name).id
    projects = {project.name: project.id for project in identity.projects()}
    for name in ('service', PROJECT):
        if name not in projects:
            projects[name] = identity.create_project(
                name=name, domain_id=domain).id
    users = {user.name: user.id for user in identity.users()}

    def user(name, project, *its_roles):
        if name not in users:
            users[name] = identity.create_user(
                name=name, password=layout.secret, domain_id=domain,
                default_project_id=projects[project]).id
        for role in its_roles:
            identity.assign_project_role_to_user(
                projects[project], users[name], roles[role])

    for name in WEB:
        if name != 'keystone':
            user(name, 'service', 'admin', 'service')
    for name, role in USERS.items():
        user(name, PROJECT, role)
    identity.assign_project_role_to_user(
        projects[PROJECT], users['admin'], roles['admin'])

    services = {service.type: service.id for service in identity.services()}
    have = {(endpoint.service_id, endpoint.interface): endpoint
            for endpoint in identity.endpoints()}
    for name, (_module, kind, path) in WEB.items():
        if kind not in services:
            services[kind] = identity.create_service(
                name=name, type=kind).id
        url = layout.url(name) + path
        for face in ('public', 'internal', 'admin'):
            found = have.get((services[kind], face))
            if found is None:
                identity.create_endpoint(
                    service_id=services[kind], interface=face, url=url,
                    region_id='RegionOne')
            elif found.url != url:
                identity.update_endpoint(found, url=url)


def upload_images(layout, images):
    """:param images: name -> path of a raw disk"""
    image = connect(layout).image
    have = {found.name for found in image.images()}
    for name, path in images.items():
        if name not in have:
            created = image.create_image(
                name=name, filename=str(path), disk_format='raw',
                container_format='bare', visibility='public', wait=True)
            if not created:
                raise error.Problem(f'image {name} was not taken')
