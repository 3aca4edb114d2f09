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


"""The services' configuration, as the installation guide says it."""

import configparser
import shutil
import sys

from kongming.host import topology

_REGION = 'RegionOne'


def write(path, sections):
    """Write a configuration file.

    :param sections: section -> option -> value or list of values
    """
    lines = []
    for section, options in sections.items():
        lines.append(f'[{section}]')
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            lines += [f'{name} = {value}' for value in values]
        lines.append('')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines))
    path.chmod(0o600)


class Config:
    """:param layout: tests.cloud.layout.Layout"""

    def __init__(self, layout):
        self.layout = layout

    @property
    def _transport(self):
        return (f'rabbit://openstack:{self.layout.secret}@127.0.0.1:'
                f'{self.layout.port("rabbitmq")}/')

    def _user(self, name):
        """How a service shows itself to Keystone."""
        return {'auth_url': f'{self.layout.url("keystone")}/v3',
                'auth_type': 'password', 'username': name,
                'password': self.layout.secret, 'project_name': 'service',
                'project_domain_name': 'Default',
                'user_domain_name': 'Default', 'region_name': _REGION}

    def _token(self, name):
        return {**self._user(name),
                'www_authenticate_uri': self.layout.url('keystone'),
                'service_token_roles_required': 'true',
                'service_token_roles': 'service'}

    def _own(self, service, connection=None):
        """Options that all have."""
        data = self.layout.data / service
        data.mkdir(parents=True, exist_ok=True)
        return {
            'DEFAULT': {'debug': 'false', 'use_stderr': 'true',
                        'transport_url': self._transport},
            'database': {'connection': self.layout.database(
                connection or service), 'max_pool_size': '10'},
            'oslo_concurrency': {'lock_path': data / 'locks'},
            'keystone_authtoken': self._token(service)}

    def write(self):
        """The files of all services but nova-compute."""
        etc, share = self.layout.etc, f'{sys.prefix}/etc'
        keystone = self._own('keystone')
        del keystone['keystone_authtoken'], keystone['DEFAULT'][
            'transport_url']
        keys = self.layout.data / 'keystone'
        keystone['fernet_tokens'] = {'key_repository': keys / 'fernet'}
        keystone['credential'] = {'key_repository': keys / 'credential'}
        # Each command logs in anew; the password is a random one.
        keystone['identity'] = {'password_hash_rounds': '4'}
        # It is one process: what it remembers is what there is.  dogpile's
        # own memory hands out what Keystone then changes: other users' roles.
        keystone['cache'] = {'enabled': 'true', 'backend': 'oslo_cache.dict'}
        keystone['token'] = {'provider': 'fernet', 'expiration': '86400'}
        write(etc / 'keystone' / 'keystone.conf', keystone)

        placement = self._own('placement')
        placement['placement_database'] = placement.pop('database')
        del placement['DEFAULT']['transport_url']
        # As doc/source/admin.rst has it for MariaDB.
        placement['placement'] = {'allocation_conflict_retry_count': '1'}
        write(etc / 'placement' / 'placement.conf', placement)

        glance = self._own('glance')
        glance['DEFAULT'] |= {'enabled_backends': 'disk:file'}
        glance['glance_store'] = {'default_backend': 'disk'}
        glance['disk'] = {
            'filesystem_store_datadir': self.layout.data / 'glance'}
        glance['paste_deploy'] = {
            'flavor': 'keystone',
            'config_file': f'{share}/glance/glance-api-paste.ini'}
        glance['oslo_policy'] = {'enforce_scope': 'true'}
        write(etc / 'glance' / 'glance-api.conf', glance)

        neutron = self._own('neutron')
        neutron['DEFAULT'] |= {
            'core_plugin': 'ml2', 'service_plugins': '',
            'api_paste_config': f'{share}/neutron/api-paste.ini',
            'notify_nova_on_port_status_changes': 'false',
            'notify_nova_on_port_data_changes': 'false',
            'state_path': self.layout.data / 'neutron'}
        # An endpoint for Nova, which asks even for servers without a network.
        neutron['ml2'] = {'type_drivers': 'local',
                          'tenant_network_types': 'local',
                          'mechanism_drivers': ''}
        write(etc / 'neutron' / 'neutron.conf', neutron)
        # The WSGI module reads both of these.
        write(etc / 'neutron' / 'plugins' / 'ml2' / 'ml2_conf.ini', {})

        self.write_nova()

    def write_nova(self):
        """The file of Nova's services but nova-compute."""
        etc = self.layout.etc / 'nova'
        write(etc / 'nova.conf', self._set('nova', self._nova()))
        # nova-api looks for it beside nova.conf.
        shutil.copy(self.layout.programs('nova').parent
                    / 'etc' / 'nova' / 'api-paste.ini', etc)

    def _set(self, name, sections):
        """Sections with what an upgrade has set in them since.

        :param name: ``nova``, or a host's
        """
        changed = self.layout.facts().get('settings', {}).get(name, {})
        for section, options in changed.items():
            sections.setdefault(section, {}).update(options)
        return sections

    def _nova(self):
        url = self.layout.url
        nova = self._own('nova')
        nova['DEFAULT'] |= {
            'my_ip': '127.0.0.1', 'state_path': self.layout.data / 'nova',
            'instances_path': self.layout.instances,
            # The system's libvirtd may have domains of the usual names.
            'instance_name_template': 'cloud-%08x',
            'report_interval': '5', 'service_down_time': '60',
            # Emulated hosts start a domain in a minute where much runs.
            'rpc_response_timeout': '300', 'long_rpc_timeout': '1800',
            'manager_shutdown_timeout': '3',
            'graceful_shutdown_timeout': '15',
            'allow_resize_to_same_host': 'false'}
        nova['api_database'] = {
            'connection': self.layout.database('nova_api'),
            'max_pool_size': '10'}
        nova['api'] = {'auth_strategy': 'keystone'}
        nova['placement'] = self._user('placement')
        nova['service_user'] = {**self._user('nova'),
                                'send_service_user_token': 'true'}
        nova['keystone'] = self._user('nova')
        nova['glance'] = {'api_servers': url('glance')}
        nova['neutron'] = self._user('neutron')
        nova['conductor'] = {'workers': '1'}
        nova['scheduler'] = {'workers': '1',
                             'discover_hosts_in_cells_interval': '5'}
        nova['filter_scheduler'] = {
            'available_filters': ['nova.scheduler.filters.all_filters',
                                  'nova_ext.filters.KongmingFilter'],
            'enabled_filters': ','.join([
                'ComputeFilter', 'ComputeCapabilitiesFilter',
                'ImagePropertiesFilter', 'AggregateInstanceExtraSpecsFilter',
                'KongmingFilter', 'NUMATopologyFilter']),
            'weight_classes': ['nova.scheduler.weights.all_weighers',
                               'nova_ext.weights.KongmingWeigher']}
        nova['notifications'] = {'notification_format': 'versioned'}
        nova['vnc'] = nova['spice'] = {'enabled': 'false'}
        nova['oslo_messaging_rabbit'] = {'heartbeat_timeout_threshold': '30'}
        return nova

    def write_compute(self, host):
        """nova-compute's file; it has no database.

        :param host: tests.cloud.hosts.Local or Nested
        :returns: its path
        """
        nova = self._nova()
        # A compute node reaches no database.
        for section in ('database', 'api_database', 'filter_scheduler',
                        'scheduler', 'conductor', 'api'):
            del nova[section]
        state = self.layout.data / host.name
        state.mkdir(exist_ok=True)
        programs = self.layout.programs(f'nova-compute-{host.name}')
        shared, dedicated = map(topology.format_cpu_list, host.cpu_sets())
        nova['DEFAULT'] |= {
            'host': host.name, 'state_path': state,
            'compute_driver': 'kongming.LibvirtDriver',
            'vif_plugging_is_fatal': 'false', 'vif_plugging_timeout': '0',
            'force_config_drive': 'false',
            # No guest here knows how to shut down; Nova would wait for it.
            'shutdown_timeout': '3',
            'running_deleted_instance_action': 'reap',
            # What waits for a message is told soon that RabbitMQ is back.
            'update_resources_interval': '30',
            'sync_power_state_interval': '60'}
        nova['oslo_concurrency'] = {'lock_path': state / 'locks'}
        nova['compute'] = {'cpu_dedicated_set': dedicated,
                           'resource_provider_association_refresh': '30'}
        if shared:
            nova['compute']['cpu_shared_set'] = shared
        nova['libvirt'] = {
            'connection_uri': host.compute_uri, 'virt_type': host.virt_type,
            'cpu_mode': 'none', 'images_type': 'raw',
            'inject_partition': '-2', 'live_migration_timeout_action':
            'force_complete', 'wait_soft_reboot_seconds': '5',
            **host.settings}
        nova['kongming'] = {'reconcile_interval': '20'}
        helper = (f'{programs}/privsep-helper --config-file '
                  f'{state}/nova.conf')
        for section in ('nova_sys_admin', 'privsep_osbrick',
                        'vif_plug_ovs_privileged', 'kongming_privileged'):
            nova[section] = {'helper_command': helper}
        path = state / 'nova.conf'
        write(path, self._set(host.name, nova))
        return path


def read(path):
    """A file that :func:`write` has written, for a look at it."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read(path)
    return parser
