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

"""A cell whose database can't be reached, beside the cloud's own."""

import fixtures
from nova import context as nova_context
from nova.db.main import api as main_db
from nova import objects
from oslo_db.sqlalchemy import enginefacade

#: The server that Nova knows to be there, and no more of it.
SERVER = '1057ce11-0000-4000-8000-000000000001'
#: Its nova-compute.
HOST = 'lost1'
_CELL = '1057ce11-0000-4000-8000-000000000000'
#: Nobody listens there.
_DATABASE = 'mysql+pymysql://nova:nova@127.0.0.1:1/nova_lost'


class LostCell(fixtures.Fixture):
    """The API database knows the cell, a host and a server of it.

    :param project: of the server
    """

    def __init__(self, project):
        super().__init__()
        self._project = project

    def _setUp(self):
        # Nova's fixture gives out databases by these addresses.
        known = main_db.create_context_manager.__self__._ctxt_mgrs
        manager = enginefacade.transaction_context()
        # Nova's default is to try for more than a minute.
        manager.configure(connection=_DATABASE, max_retries=0)
        known[_DATABASE] = manager
        self.addCleanup(known.pop, _DATABASE)
        context = nova_context.get_admin_context()
        cell = objects.CellMapping(
            context, uuid=_CELL, name='lost',
            transport_url='fake:///', database_connection=_DATABASE)
        cell.create()
        objects.HostMapping(context, host=HOST, cell_mapping=cell).create()
        objects.InstanceMapping(
            context, instance_uuid=SERVER, project_id=self._project,
            user_id=self._project, cell_mapping=cell,
            queued_for_delete=False).create()
        objects.RequestSpec(
            context, instance_uuid=SERVER, project_id=self._project,
            user_id=self._project, availability_zone='nova', num_instances=1,
            flavor=objects.Flavor(
                context, id=1, name='f', flavorid='f', vcpus=1, memory_mb=64,
                root_gb=1, ephemeral_gb=0, swap=0, rxtx_factor=1.0,
                vcpu_weight=0, disabled=False, is_public=True,
                extra_specs={}),
            image=objects.ImageMeta(properties=objects.ImageMetaProps()),
            pci_requests=None, numa_topology=None, ignore_hosts=None,
            force_hosts=None, force_nodes=None, retry=None, limits=None,
            instance_group=None, scheduler_hints={},
            requested_destination=None, is_bfv=False).create()
        # Cells are remembered where they are first asked for.
        nova_context.CELLS = []
        nova_context.CELL_CACHE = {}
