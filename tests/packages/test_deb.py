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
"""The packages for Debian."""

import pathlib
import subprocess
import tempfile

from tests.packages import contents


class DebTest(contents.Contents, contents.FolderCase):

    site = 'usr/lib/python3/dist-packages'
    _unpacked: dict[str, pathlib.Path] = {}

    def pattern(self, kind):
        return f'{self.NAMES[kind]}_*.deb'

    def unpack(self, kind):
        if kind not in self._unpacked:
            folder = tempfile.TemporaryDirectory()
            self.addClassCleanup(folder.cleanup)
            self.addClassCleanup(self._unpacked.clear)
            subprocess.run(['dpkg-deb', '-x', self.package(kind),
                            folder.name], check=True)
            self._unpacked[kind] = pathlib.Path(folder.name)
        return self._unpacked[kind]

    def depends(self, kind):
        return [subprocess.run(
            ['dpkg-deb', '-f', self.package(kind), 'Depends'], check=True,
            capture_output=True, text=True).stdout]
