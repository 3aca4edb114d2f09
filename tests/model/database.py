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

"""Nova's database as dicts, and a bus that loses messages.

The dicts are beneath ``nova.db.main.api``, so what an object did not save is
not there.  The bus is where a remotable method leaves nova-compute.
"""

import contextlib
import copy
import datetime
import functools
import itertools
from unittest import mock

from nova import exception
from nova import objects
from nova.objects import base as objects_base
import oslo_messaging as messaging
from oslo_serialization import jsonutils

#: Migrations that the audit doesn't ask for.
_OVER = ('confirmed', 'reverted', 'failed', 'completed', 'cancelled', 'done')
_BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_DEFAULTS = {
    'deleted': 0, 'cleaned': 0, 'hidden': False, 'locked': False,
    'disable_terminate': False, 'shutdown_terminate': False,
    'auto_disk_config': False, 'memory_mb': 0, 'vcpus': 0, 'root_gb': 0,
    'ephemeral_gb': 0, 'metadata': {}, 'system_metadata': {},
    'project_id': 'project', 'user_id': 'user', 'pci_devices': [],
    'progress': 0, 'launch_index': 0}


class Database:
    """The tables; its methods are those of ``nova.db.main.api``."""

    def __init__(self):
        self.instances, self.extra = {}, {}
        self.computes, self.migrations = {}, {}
        self._ids = itertools.count(1)

    def add(self, uuid, flavor, topology, **values):
        """What nova-api does: a server that is on no host."""
        self.instances[uuid] = {
            **dict.fromkeys(objects.Instance.fields), **_DEFAULTS,
            'id': next(self._ids), 'uuid': uuid, 'display_name': uuid,
            'instance_type_id': flavor.id, **values}
        self.extra[uuid] = {
            'numa_topology': topology and topology._to_json(),
            'flavor': jsonutils.dumps({
                'cur': flavor.obj_to_primitive(), 'old': None, 'new': None}),
            'pci_requests': '[]', 'migration_context': None,
            'device_metadata': None, 'vcpu_model': None, 'keypairs': None,
            'trusted_certs': None, 'resources': None}

    def topology(self, uuid):
        """What a server owns, whatever objects say."""
        return _topology(self.extra[uuid]['numa_topology'])

    def context_of(self, uuid):
        """A server's migration context, or None."""
        return _move(self.extra[uuid]['migration_context'])

    def _row(self, uuid):
        # The columns of one moment.
        return {**copy.copy(self.instances[uuid]),
                'extra': dict(self.extra[uuid])}

    def instance_get_by_uuid(self, context, uuid, columns_to_join=None):
        row = self.instances.get(uuid)
        if row is None or row['deleted'] and context.read_deleted == 'no':
            raise exception.InstanceNotFound(instance_id=uuid)
        return self._row(uuid)

    def instance_get_all_by_host_and_node(self, context, host, node,
                                          columns_to_join=None):
        return [self._row(uuid) for uuid, row in self.instances.items()
                if not row['deleted']
                and (row['host'], row['node']) == (host, node)]

    def instance_extra_update_by_uuid(self, context, uuid, updates):
        self.extra[uuid].update(updates)

    def instance_extra_get_by_instance_uuid(self, context, uuid,
                                            columns=None):
        return self.extra.get(uuid)

    def instance_update_and_get_original(self, context, uuid, values,
                                         columns_to_join=None,
                                         expected=None):
        old = self.instance_get_by_uuid(context, uuid)
        expected = values.pop('expected_task_state', ())
        if expected != () and old['task_state'] not in (
                expected if isinstance(expected, (list, tuple))
                else [expected]):
            raise exception.UnexpectedTaskStateError(
                instance_uuid=uuid, expected=expected,
                actual=old['task_state'])
        self.instances[uuid].update(values)
        return old, self._row(uuid)

    def instance_destroy(self, context, uuid, **kwargs):
        row = self.instances[uuid]
        row['deleted'] = row['id']
        return self._row(uuid)

    def compute_node_create(self, context, values):
        values = {**dict.fromkeys(objects.ComputeNode.fields),
                  'deleted': False, 'mapped': 0, **values,
                  'id': next(self._ids)}
        self.computes[values['uuid']] = values
        return dict(values)

    def compute_node_update(self, context, compute_id, values):
        for row in self.computes.values():
            if row['id'] == compute_id:
                row.update(values)
                return dict(row)
        raise exception.ComputeHostNotFound(host=compute_id)

    def compute_node(self, context, uuid):
        if uuid not in self.computes:
            raise exception.ComputeHostNotFound(host=uuid)
        return objects.ComputeNode._from_db_object(
            context, objects.ComputeNode(), dict(self.computes[uuid]))

    def migration_create(self, context, values):
        values = {**dict.fromkeys(objects.Migration.fields),
                  'hidden': False, 'cross_cell_move': False, **values,
                  'id': next(self._ids)}
        # The audit takes the one that was written last.
        values['created_at'] = _BEGIN + datetime.timedelta(
            seconds=values['id'])
        self.migrations[values['id']] = values
        return dict(values)

    def migration_update(self, context, migration_id, values):
        self.migrations[migration_id].update(values)
        return dict(self.migrations[migration_id])

    def migration_get(self, context, migration_id):
        if migration_id not in self.migrations:
            raise exception.MigrationNotFound(migration_id=migration_id)
        return dict(self.migrations[migration_id])

    def migration_get_in_progress_and_error_by_host_and_node(
            self, context, host, node):
        return [dict(row) for row in self.migrations.values()
                if row['status'] not in _OVER and (host, node) in (
                    (row['source_compute'], row['source_node']),
                    (row['dest_compute'], row['dest_node']))]

    def pci_device_get_all_by_node(self, context, node_id):
        return []

    def pci_device_get_all_by_instance_uuid(self, context, uuid):
        return []


# The test asks for these after each step.

@functools.lru_cache(maxsize=10000)
def _topology(found):
    return found and objects.InstanceNUMATopology.obj_from_db_obj(
        None, None, found)


@functools.lru_cache(maxsize=10000)
def _move(found):
    return found and objects.MigrationContext.obj_from_db_obj(found)


#: What becomes of a message: never carried out; carried out, but nobody
#: hears of it; carried out some time after nobody waits for it any more;
#: not even sent, which is no secret.
NOT_DONE, LOST, LATE, NOT_SENT = FAULTS = (
    'not done', 'answer lost', 'done late', 'not sent')


class Late:
    """A write that a conductor will get to.

    :ivar obj: what was sent
    :ivar until: when it will have been carried out
    """

    def __init__(self, obj, method, until):
        self.obj, self._method, self.until = obj, method, until

    @property
    def topology(self):
        """What its server will own then, if it says anything of that."""
        if isinstance(self.obj, objects.Instance) and (
                'numa_topology' in self.obj.obj_what_changed()):
            return self.obj.numa_topology
        return None

    def carry_out(self):
        try:
            self._method(self.obj)
        except exception.NotFound:
            pass  # the server is gone


class Bus:
    """Loses one message of those that are sent while it is told to.

    :ivar late: writes that will be carried out
    :ivar longest: for how long a write can be late, in seconds
    :ivar lost: how many messages were, or their answers
    """

    #: Class, its remotable methods, and whether they write.
    METHODS = ((objects.Instance, 'save', True),
               (objects.Instance, 'drop_migration_context', True),
               (objects.ComputeNode, 'save', True),
               (objects.Instance, 'get_by_uuid', False),
               (objects.InstanceNUMATopology, 'get_by_instance_uuid', False),
               (objects.InstanceList, 'get_by_host_and_node', False),
               (objects.Migration, 'get_by_id', False))

    def __init__(self, clock, longest):
        self._clock, self.longest = clock, longest
        self.late, self.lost = [], 0
        self._fault, self._countdown = None, 0

    @contextlib.contextmanager
    def losing(self, fault, number):
        """Have the n-th message from here on be lost.

        :param fault: one of FAULTS, or None
        """
        self._fault, self._countdown = fault, number
        try:
            yield
        finally:
            self._fault = None

    @contextlib.contextmanager
    def well(self):
        """Nothing is lost: what Nova itself sends."""
        fault, self._fault = self._fault, None
        try:
            yield
        finally:
            self._fault = fault

    def _is_lost(self):
        if self._fault is None:
            return False
        self._countdown -= 1
        return self._countdown < 0

    def write(self, method, obj, *args, **kwargs):
        if not self._is_lost():
            return method(obj, *args, **kwargs)
        fault, self._fault = self._fault, None
        if fault == NOT_SENT:
            self.lost += not isinstance(obj, objects.Instance)
            raise exception.OrphanedObjectError(
                method=method.__name__, objtype=obj.obj_name())
        self.lost += 1
        # What is sent is a copy: the caller's object learns nothing.
        if fault == LOST:
            with self.well():
                method(_sent(obj), *args, **kwargs)
        elif fault == LATE and not isinstance(obj, objects.ComputeNode):
            # A record that is late misleads the scheduler, and no more.
            self.late.append(Late(_sent(obj), method,
                                  self._clock.now + self.longest))
        raise messaging.MessagingTimeout('nobody answers')

    def read(self, method, *args, **kwargs):
        if not self._is_lost():
            return method(*args, **kwargs)
        self._fault = None
        self.lost += 1
        raise messaging.MessagingTimeout('nobody answers')

    def patches(self):
        for owner, name, writes in self.METHODS:
            real = getattr(owner, name)

            def call(*args, _real=real, _way=(
                    self.write if writes else self.read), **kwargs):
                return _way(_real, *args, **kwargs)

            yield mock.patch.object(
                owner, name, call if writes else staticmethod(call))


def _sent(obj):
    return objects_base.NovaObject.obj_from_primitive(
        obj.obj_to_primitive(), context=obj._context)


def patches(database, bus):
    """What has Nova's objects use these."""
    for name in dir(Database):
        if name.startswith(('instance_', 'compute_node_', 'migration_',
                            'pci_')):
            yield mock.patch(f'nova.db.main.api.{name}',
                             getattr(database, name))
    yield mock.patch.object(objects.ComputeNode, 'get_by_uuid',
                            staticmethod(database.compute_node))
    # Nova opens a session around this one.
    yield mock.patch.object(
        objects.Instance, '_db_instance_get_by_uuid', staticmethod(
            lambda context, uuid, columns, use_slave=False:
            database.instance_get_by_uuid(context, uuid, columns)))
    yield mock.patch('nova.notifications.send_update')
    yield from bus.patches()
