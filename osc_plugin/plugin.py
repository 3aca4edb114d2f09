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

"""What ``openstack`` asks of a plugin: ``openstack kongming ...``."""

from openstack import connection

API_NAME = 'kongming'
API_VERSION_OPTION = 'os_kongming_api_version'
DEFAULT_API_VERSION = '1'
#: There is no KongMing service; the version is that of these commands.
API_VERSIONS = {'1': 'osc_plugin.plugin'}


def make_client(instance):
    """The commands talk to Nova and Placement by openstacksdk.

    The connection is our own, of the same session: what
    ``--os-compute-api-version`` says is for Nova's commands, and a server
    that is to be on a host (2.74) could not be made with 2.1.
    """
    conn = connection.Connection(config=instance.sdk_connection.config)
    conn.compute.default_microversion = None
    return conn


def build_option_parser(parser):
    """No global options of our own."""
    return parser
