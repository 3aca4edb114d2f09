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
"""Make the two host maps of README anew: ``python -m doc.moved``.

From the top of the tree, with the python of ``.venv``.  A server is booted on
an embedded cloud and moved while it runs; before and after that ``openstack
kongming host map --format svg`` draws its host.
"""

import os
import pathlib
import subprocess
import sys

from tests.functional import test_cli

IMAGES = pathlib.Path(__file__).parent / 'source' / 'moved'
HOST = 'compute1'
#: A server's colour is that of its place among those that are drawn before
#: it, so it stays the first one.
SERVERS = {'du-1': (0, '0:2 1:3'), 'cu-1': (1, '0:12 1:13'),
           'web-1': (1, '0:14 1:15')}


def main():
    cloud = test_cli.ServedCloud.get()

    def openstack(*words):
        return subprocess.run(
            [pathlib.Path(sys.executable).parent / 'openstack', *words],
            env={**os.environ, 'OS_CLOUD': 'kongming-admin',
                 'OS_CLIENT_CONFIG_FILE': str(cloud.folder / 'clouds.yaml')},
            check=True, stdout=subprocess.PIPE, text=True).stdout

    def draw(name):
        (IMAGES / f'{name}.svg').write_text(
            openstack('kongming', 'host', 'map', HOST, '--format', 'svg'),
            encoding='utf-8')

    try:
        for server, (node, pins) in SERVERS.items():
            openstack('flavor', 'create', server, '--vcpus', '2', '--ram',
                      '64', '--disk', '1', '--property',
                      'hw:cpu_policy=dedicated')
            openstack('kongming', 'template', 'set', '--flavor', server,
                      '--node', f'0={node}', '--pin', f'0={pins}')
            openstack('flavor', 'set', server, '--property',
                      'kongming:grant=template')
            openstack('server', 'create', '--flavor', server, '--image',
                      'idle', '--nic', 'none', '--wait', server)
        draw('before')
        openstack('kongming', 'server', 'set', '--node', '0=1', '--pin',
                  '0=0:10 1:11', '--wait', 'du-1')
        draw('after')
    finally:
        cloud.process.terminate()


if __name__ == '__main__':
    main()
