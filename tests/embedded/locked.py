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

"""What is asked of others while Nova's resource lock is held."""

import collections
import contextlib
import functools
import threading

import fixtures
from nova.compute import resource_tracker
from nova.objects import base
from nova.tests.fixtures import libvirt as fakelibvirt
from oslo_concurrency import lockutils
import sqlalchemy
from sqlalchemy import event

_ADAPTER = 'nova.scheduler.client.report.SchedulerReportClient'
#: Whom: conductor (methods of objects that nova-compute has it do, and calls
#: over the bus), the database (statements), libvirt, Placement (requests).
CONDUCTOR, DATABASE, LIBVIRT, PLACEMENT = KINDS = (
    'conductor', 'database', 'libvirt', 'Placement')


def remotable_methods():
    """(class, name) of all that nova-compute has conductor do."""
    return [(owner, name)
            for versions in base.NovaObjectRegistry.obj_classes().values()
            for owner in versions for name, value in vars(owner).items()
            if getattr(getattr(value, '__func__', value), 'remotable', False)]


def wrap(fixture, owner, name, around):
    """Have calls of a method go by way of ``around``.

    :param fixture: that it lasts for
    :param around: called with the method and with its arguments
    """
    value = vars(owner)[name]
    real = getattr(value, '__func__', value)

    @functools.wraps(real)
    def call(*args, **kwargs):
        return around(real, *args, **kwargs)

    fixture.useFixture(fixtures.MockPatchObject(
        owner, name, classmethod(call) if isinstance(value, classmethod)
        else call))


def libvirt_methods():
    """The same of simulated domains and their connection."""
    return [(owner, name)
            for owner in (fakelibvirt.Connection, fakelibvirt.Domain)
            for name, value in vars(owner).items()
            if callable(value) and not name.startswith('_')]


class Asked(fixtures.Fixture):
    """Counts what nova-compute has conductor do.

    nova-api asks alike, as often as a test looks whether a server is there
    yet; its requests are carried out by the test's own thread.

    :ivar calls: name -> how often; what one makes within it counts, too
    """

    def __init__(self):
        super().__init__()
        self.calls = collections.Counter()
        self._own = threading.get_ident()

    def _setUp(self):
        for owner, name in remotable_methods():
            self._count(owner, name)

    def _count(self, owner, name):
        def count(real, *args, **kwargs):
            if threading.get_ident() != self._own:
                self.calls[f'{owner.__name__}.{name}'] += 1
            return real(*args, **kwargs)

        wrap(self, owner, name, count)


class Locked(fixtures.Fixture):
    """Counts the calls of each thread that has the lock.

    Of a call that makes others of its kind only the outer one counts.

    :ivar calls: kind -> name -> how often
    """

    def __init__(self):
        super().__init__()
        self.calls = {kind: collections.Counter() for kind in KINDS}
        self._mine = threading.local()

    def clear(self):
        for counter in self.calls.values():
            counter.clear()

    def numbers(self):
        """kind -> how many."""
        return {kind: sum(counter.values())
                for kind, counter in self.calls.items()}

    def table(self):
        """All of them by name, for people."""
        return '\n'.join(
            f'{kind:10} {number:3}  {name}'
            for kind, counter in self.calls.items()
            for name, number in counter.most_common())

    def _setUp(self):
        lock = lockutils.lock

        @contextlib.contextmanager
        def locked(name, *args, **kwargs):
            with lock(name, *args, **kwargs) as found, contextlib.ExitStack(
                    ) as stack:
                if name == resource_tracker.COMPUTE_RESOURCE_SEMAPHORE:
                    stack.enter_context(self._within('lock'))
                yield found

        self.useFixture(fixtures.MonkeyPatch(
            'oslo_concurrency.lockutils.lock', locked))
        for owner, name in remotable_methods():
            self._count(CONDUCTOR, owner, name)
        for name in ('call', 'cast'):
            self._count_path(
                CONDUCTOR,
                f'oslo_messaging.rpc.client._BaseCallContext.{name}')
        for name in ('get', 'post', 'put', 'delete'):
            self._count_path(PLACEMENT, f'{_ADAPTER}.{name}')
        for owner, name in libvirt_methods():
            self._count(LIBVIRT, owner, name)
        event.listen(sqlalchemy.Engine, 'before_cursor_execute',
                     self._statement)
        self.addCleanup(event.remove, sqlalchemy.Engine,
                        'before_cursor_execute', self._statement)

    @contextlib.contextmanager
    def _within(self, what):
        """Whether this thread is within that; it may be so twice."""
        depth = getattr(self._mine, what, 0)
        setattr(self._mine, what, depth + 1)
        try:
            yield
        finally:
            setattr(self._mine, what, depth)

    def _is_within(self, what):
        return bool(getattr(self._mine, what, 0))

    def _count_path(self, kind, path):
        module, _dot, owner = path.rpartition('.')[0].rpartition('.')
        self._count(kind, getattr(__import__(
            module, fromlist=[owner]), owner), path.rpartition('.')[2])

    def _count(self, kind, owner, name):
        def count(real, *args, **kwargs):
            if not self._is_within('lock'):
                return real(*args, **kwargs)
            if not self._is_within(kind):
                self.calls[kind][f'{owner.__name__}.{name}'] += 1
            with self._within(kind):
                return real(*args, **kwargs)

        wrap(self, owner, name, count)

    def _statement(self, _connection, _cursor, statement, *_args):
        # Placement is in this process, and so is its database.
        if self._is_within('lock') and not self._is_within(PLACEMENT):
            words = statement.split()
            if words == ['BEGIN']:
                return
            # INSERT INTO table, UPDATE table, SELECT ... FROM table
            table = words[{'INSERT': 2, 'UPDATE': 1}.get(words[0], next(
                (number + 1 for number, word in enumerate(words)
                 if word == 'FROM'), 0))]
            self.calls[DATABASE][f'{words[0]} {table}'] += 1
