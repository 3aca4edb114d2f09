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

"""kongming publish on this machine, beside the hook."""

import contextlib
import io
import json
import os
import pathlib

import fixtures
import yaml

from kongming.cli import app
from tests.embedded import __main__ as embedded
from tests.embedded import cloud
from tests.embedded import front


class PublishTest(cloud.LibvirtCloud):

    def test_says_what_the_hook_says(self):
        self.start_host()
        server, url = front.serve(self)
        self.addCleanup(server.shutdown)
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (folder / 'clouds.yaml').write_text(
            yaml.safe_dump(embedded.clouds_yaml(url)))
        self.useFixture(fixtures.EnvironmentVariable(
            'OS_CLIENT_CONFIG_FILE', str(folder / 'clouds.yaml')))
        pcpus = sorted(os.sched_getaffinity(0))
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = app.main([
                '--os-cloud', 'kongming-admin', 'publish', '--name',
                self.compute_node().hypervisor_hostname, '--shared',
                str(pcpus[0]), '--dedicated', ','.join(map(str, pcpus[1:])),
                '-f', 'json'])
        self.assertEqual(0, code)
        self.assertEqual([], json.loads(out.getvalue())['written'])
