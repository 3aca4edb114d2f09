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
"""The packages for distributions with rpm."""

import pathlib
import subprocess
import tempfile

from tests.packages import contents


class RpmTest(contents.Contents, contents.FolderCase):

    _unpacked: dict[str, pathlib.Path] = {}

    @property
    def site(self):
        """Named after the Python that it was built with."""
        info, = self.unpack('library').glob('usr/lib/python3*/site-packages')
        return str(info.relative_to(self.unpack('library')))

    def pattern(self, kind):
        return f'{self.NAMES[kind]}-[0-9]*.noarch.rpm'

    def unpack(self, kind):
        if kind not in self._unpacked:
            folder = tempfile.TemporaryDirectory()
            self.addClassCleanup(folder.cleanup)
            self.addClassCleanup(self._unpacked.clear)
            archive = subprocess.run(
                ['rpm2archive', '-n'], stdin=self.package(kind).open('rb'),
                check=True, capture_output=True).stdout
            subprocess.run(['tar', '-x', '-C', folder.name], input=archive,
                           check=True)
            self._unpacked[kind] = pathlib.Path(folder.name)
        return self._unpacked[kind]

    def depends(self, kind):
        return subprocess.run(
            ['rpm', '-qp', '--requires', self.package(kind)], check=True,
            capture_output=True, text=True).stdout.splitlines()
