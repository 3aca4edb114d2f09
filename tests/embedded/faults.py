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

"""Calls of the hook that fail, or that are made and not answered."""

import functools
import os
import sys
import threading

import fixtures
from nova.compute import manager
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import driver
from oslo_db import exception as db_exc
import oslo_messaging as messaging
import sqlalchemy
from sqlalchemy import event

import nova_ext
from tests.embedded import locked

RPC, DATABASE, LIBVIRT = KINDS = 'rpc', 'database', 'libvirt'
_HOOK = os.path.dirname(nova_ext.__file__) + os.sep
_NOVA = manager.__file__, driver.__file__


def in_hook(frame):
    """Whether a call is the hook's own, not that of Nova above or below."""
    while frame is not None:
        where = frame.f_code.co_filename
        if where.startswith(_HOOK):
            return True
        if where in _NOVA:
            return False
        frame = frame.f_back
    return False


class Faults(fixtures.Fixture):
    """Has one call fail after it is armed: the n-th of a kind.

    A call to conductor is a method of an object.  The database fails at a
    statement of such a method, so that a part of it may have been written.

    """

    def __init__(self):
        super().__init__()
        self._happened = None
        self._armed = None
        self._lock = threading.Lock()
        self._mine = threading.local()

    def arm(self, kind, done, number, statement=0):
        """:param done: whether the call is made, and only its answer lost

        :param number: how many of its kind are well before
        :param statement: of the method, where the database is to fail
        """
        self._armed = [kind, done, number, statement]

    def disarm(self):
        """Nothing fails any more.

        :returns: which call has failed, in words; None if none has
        """
        happened, self._happened, self._armed = self._happened, None, None
        return happened

    def _setUp(self):
        self.addCleanup(self.disarm)
        for owner, name in locked.remotable_methods():
            self._wrap(owner, name, self._remotable)
        for owner, name in locked.libvirt_methods():
            self._wrap(owner, name, self._libvirt)
        event.listen(sqlalchemy.Engine, 'before_cursor_execute',
                     self._statement)
        self.addCleanup(event.remove, sqlalchemy.Engine,
                        'before_cursor_execute', self._statement)

    def _wrap(self, owner, name, way):
        value = vars(owner)[name]
        real = getattr(value, '__func__', value)

        @functools.wraps(real)
        def call(*args, **kwargs):
            return way(f'{owner.__name__}.{name}',
                       functools.partial(real, *args, **kwargs))

        self.useFixture(fixtures.MockPatchObject(
            owner, name, classmethod(call) if isinstance(value, classmethod)
            else call))

    def _due(self, name, *kinds):
        """The fault of this call, or None."""
        if (self._armed is None or getattr(self._mine, 'inside', False)
                or not in_hook(sys._getframe(3))):
            return None
        with self._lock:
            armed = self._armed
            if armed is None or armed[0] not in kinds:
                return None
            armed[2] -= 1
            if armed[2] >= 0:
                return None
            self._armed = None
        self._happened = f'{armed[0]} {name} {"lost" if armed[1] else "fails"}'
        return armed

    def _remotable(self, name, call):
        fault = self._due(name, RPC, DATABASE)
        inside = getattr(self._mine, 'inside', False)
        self._mine.inside = True
        try:
            if fault is None:
                return call()
            kind, done, _number, statement = fault
            if kind == DATABASE and not done:
                self._mine.statement = statement
                return call()
            if done:
                call()
            raise (messaging.MessagingTimeout('nobody answers')
                   if kind == RPC else db_exc.DBConnectionError())
        finally:
            self._mine.inside = inside
            if not inside:
                self._mine.statement = None

    def _statement(self, _connection, _cursor, statement, *_args):
        left = getattr(self._mine, 'statement', None)
        if left is None or statement.startswith('BEGIN'):
            return
        self._mine.statement = left - 1
        if not left:
            self._mine.statement = None
            raise db_exc.DBConnectionError()

    def _libvirt(self, name, call):
        fault = self._due(name, LIBVIRT)
        if fault is None:
            return call()
        if fault[1]:
            call()
        raise fakelibvirt.make_libvirtError(fakelibvirt.libvirtError,
                                            'libvirt is away')
