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

"""What a pass would do, computed and reported; nothing is touched."""

from kongming import exception as km_exc
from oslo_log import log as logging

LOG = logging.getLogger(__name__)
#: Characters of a line about what a tenant wrote.
_LONGEST = 2000


class Observed:
    """Drift of the servers of a host that observes."""

    def __init__(self):
        #: server -> what would be done, in words
        self._differences: dict[str, str] = {}

    def __len__(self):
        """How many servers would be changed."""
        return len(self._differences)

    def retain(self, servers):
        """Forget all servers but these."""
        self._differences = {uuid: words for uuid, words
                             in self._differences.items() if uuid in servers}

    def clear(self):
        self._differences = {}

    def report(self, server, words):
        """Log what would be done to a server, each thing once.

        :param server: nova.objects.Instance
        :param words: empty where nothing would be
        """
        text = km_exc.shown('; '.join(words), _LONGEST)
        if text and self._differences.get(server.uuid) != text:
            LOG.info('Observed, not changed: %s', text, instance=server)
        if text:
            self._differences[server.uuid] = text
        else:
            self._differences.pop(server.uuid, None)
