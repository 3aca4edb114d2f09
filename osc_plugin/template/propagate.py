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

"""A flavor's new template carried to the servers that it was booted with."""

from osc_lib import exceptions

from kongming.compute import servers
from kongming import exception as km_exc
from kongming.template import metadata as metadata_mod
from osc_plugin.server import running


class Propagation:
    """Brings a template to running servers of a flavor, one by one.

    A server keeps the flavor that it was booted with; what is to be another
    way now is said in its metadata, as far as that flavor grants it.

    :param desired: the flavor's new template
    """

    def __init__(self, conn, flavor_name, desired):
        self._desired = desired
        self._servers = [
            running.Server(conn, found)
            for found in servers.listing(
                conn, all_projects=True).complete()
            if found['flavor']['original_name'] == flavor_name]

    def plan(self):
        """What is to be written.

        :returns: (server, metadata_mod.Changes) of each that is not as it is
            meant
        :raises CommandError: with every server that can't be changed
        """
        found, problems = [], []
        for server in self._servers:
            try:
                changes = metadata_mod.follow(server.specs, server.metadata,
                                              self._desired)
                server.check(changes.applied(server.metadata))
            except km_exc.InvalidTemplate as exc:
                problems += [f"server '{server.name}': {problem}"
                             for problem in exc.problems]
            except (km_exc.CannotFollow, exceptions.CommandError) as exc:
                problems += [f"server '{server.name}': {line}"
                             for line in str(exc).splitlines()]
            else:
                if changes.put or changes.remove:
                    found.append((server, changes))
        if problems:
            raise exceptions.CommandError(
                'Not all running servers can follow, so nothing was '
                'written:\n' + '\n'.join(problems))
        return found

    @staticmethod
    def run(planned, timeout, progress):
        """Carry it out; the first that fails ends it.

        :param progress: called with a line before each server
        :raises CommandError: naming the server, and how many are left
        """
        for number, (server, changes) in enumerate(planned, 1):
            progress(f'[{number}/{len(planned)}] change server {server.name}')
            before = frozenset(server.changes())
            same = (server.intent(changes.applied(server.metadata))
                    == server.intent())
            try:
                running.write(server, changes)
                running.Wait(server.after(changes), before, same,
                             timeout).run()
            except exceptions.CommandError as exc:
                raise exceptions.CommandError(
                    f'{number - 1} of {len(planned)} servers were changed, '
                    f'then: {exc} The same command goes on from there.'
                ) from exc
