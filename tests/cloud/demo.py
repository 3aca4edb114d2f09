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


"""The demo of the embedded cloud, shown on the real one.

Its servers run on ``local1``, the first of the hosts.
"""

import json
import os
import sys
import time

from tests.cloud import daemon
from tests.cloud import layout as layout_mod
from tests.cloud import look
from tests.cloud import services
from tests.embedded import demo


class _Cloud(demo.Cloud):
    """A cloud that is up, as the demo takes it."""

    def __init__(self, cloud):
        self.folder = cloud.layout.data
        self._cloud = cloud
        self._look = look.Look(cloud, None)

    def environment(self):
        return {**daemon.environment(self._cloud.layout),
                layout_mod.MARK: '', 'OS_CLOUD': 'kongming-admin',
                'OS_CLIENT_CONFIG_FILE': str(self._cloud.layout.clouds_yaml)}

    def hypervisor(self, server_id=''):
        if not server_id:
            return json.dumps({'hypervisor': ', '.join(
                f'{host.name} ({host.uri})'
                for host in self._cloud.hosts.values())})
        return self._look.xml(server_id)

    def tidy(self):
        """Take away what an earlier demo has left."""
        compute = services.connect(self._cloud.layout).compute
        for server in compute.servers():
            if server.name in ('du-1', 'du-2', 'live-1', 'web-1'):
                compute.delete_server(server)
                compute.wait_for_delete(server, wait=300)
        for flavor in compute.flavors():
            if flavor.name in ('nfv.du', 'nfv.live', 'web', 'batch'):
                compute.delete_flavor(flavor)


def show(cloud):
    """Show it.

    :returns: the exit status
    """
    begin = time.monotonic()
    shown = _Cloud(cloud)
    shown.tidy()
    try:
        demo.story(shown, 'a real cloud')
    except demo.Wrong as exc:
        print(f'\n{demo.RED}{exc}{demo.RESET}\nlogs: {cloud.layout.logs}',
              file=sys.stderr)
        return 1
    finally:
        shown.tidy()
    print(f'\n{demo.GREEN}All as it should be{demo.RESET} '
          f'({time.monotonic() - begin:.0f} s){os.linesep}')
    return 0
