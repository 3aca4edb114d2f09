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

"""SQLite files of an embedded cloud, with what costs time done once."""

import fixtures
from oslo_db.sqlalchemy import engines
import sqlalchemy.event
import sqlalchemy.pool
import sqlalchemy.util

#: Statements compiled for all databases of this process.
_COMPILED = sqlalchemy.util.LRUCache(5000)
#: The dialect that all databases of this process share, once there is one.
_dialect = []


def _forget_transaction(_connection, record):
    # As a new connection has it (oslo_db/sqlalchemy/engines.py,
    # _sqlite_emit_begin).
    record.info.pop('in_transaction', None)


class Databases(fixtures.Fixture):
    """To be used before any database is made.

    oslo.db opens a SQLite file for each transaction and closes it
    afterwards, and SQLite reads the whole schema each time: that takes
    longer than most transactions.  Here a connection is used again.  Each
    test has engines of its own, for which SQLAlchemy compiles each statement
    anew; here they share what is compiled.
    """

    def _setUp(self):
        real = engines.create_engine

        def create_engine(*args, **kwargs):
            engine = real(*args, **kwargs)
            if isinstance(engine.pool, sqlalchemy.pool.NullPool):
                self._pool_connections(engine)
                self._share_statements(engine)
            return engine

        self.useFixture(fixtures.MonkeyPatch(
            'oslo_db.sqlalchemy.engines.create_engine', create_engine))

    def _pool_connections(self, engine):
        old = engine.pool
        old.dispose()
        engine.pool = sqlalchemy.pool.QueuePool(
            old._creator, pool_size=20, max_overflow=-1,
            _dispatch=old.dispatch, dialect=engine.dialect)
        sqlalchemy.event.listen(engine, 'checkin', _forget_transaction)
        self.addCleanup(engine.dispose)

    @staticmethod
    def _share_statements(engine):
        # It is a part of the key of what is compiled.  oslo.db has connected
        # once, so that it is complete.
        if not _dialect:
            _dialect.append(engine.dialect)
        engine.dialect = engine.pool._dialect = _dialect[0]
        engine._compiled_cache = _COMPILED
