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

"""A Python for the nested host, which has none: that of this process."""

import json
import pathlib
import shutil
import subprocess
import sys
import sysconfig

_TOP = pathlib.Path(__file__).parents[2]
#: Of the standard library, what nothing here imports and is large.
_LEFT_OUT = ('test', 'site-packages', 'idlelib', 'lib2to3', 'ensurepip',
             'tkinter', 'turtledemo', 'distutils', 'config-*')


#: Folders that this process has seen to.
_installed: set[str] = set()


def _compile(folder):
    """Its own files say why some can not be."""
    subprocess.run([sys.executable, '-m', 'compileall', '-q', str(folder)],
                   stdout=subprocess.DEVNULL)


class Python:
    """:param host: tests.nested.host.Host"""

    def __init__(self, host):
        self._host = host
        self._folder = host.share / 'python'
        self._program = (self._folder / 'bin'
                         / f'python{sysconfig.get_python_version()}')
        if str(self._folder) not in _installed:
            self._install()
            _installed.add(str(self._folder))

    def _install(self):
        version = f'python{sysconfig.get_python_version()}'
        library = self._folder / 'lib' / version
        if not library.exists():
            for name in 'bin', 'lib':
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            base = pathlib.Path(sys.base_prefix)
            shutil.copy(base / 'bin' / version, self._folder / 'bin')
            for path in (base / 'lib').glob('libpython3.*.so.*'):
                shutil.copy(path, self._folder / 'lib')
            shutil.copytree(sysconfig.get_path('stdlib'), library,
                            ignore=shutil.ignore_patterns(*_LEFT_OUT))
            _compile(library)
        ours = self._folder / 'ours'
        shutil.rmtree(ours, ignore_errors=True)
        shutil.copytree(_TOP / 'kongming', ours / 'kongming')
        shutil.copy(_TOP / 'tests' / 'nested' / 'accounts.py', ours)
        _compile(ours)

    def __call__(self, verb, **arguments):
        """What :mod:`tests.nested.accounts` answers."""
        words = json.dumps(arguments)
        assert "'" not in words
        return json.loads(self._host.shell(
            f'cd {self._folder} && PYTHONHOME=$PWD PYTHONPATH=$PWD/ours '
            f'LD_LIBRARY_PATH=$PWD/lib {self._program} -S ours/accounts.py '
            f"{verb} '{words}'"))
