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
"""What sdist and wheel have to contain: ``tests/contents.py FILE ...``.

Run by ``tools/package``, with the standard library alone.
"""

import pathlib
import re
import sys
import tarfile
import zipfile

TOP = pathlib.Path(__file__).parents[1]
PACKAGES = ('kongming', 'nova_ext', 'osc_plugin')
#: Where it is in the tree -> where it is installed.
DATA = {
    'etc/kongming/kongming.conf.sample': 'etc/kongming',
    'etc/prometheus/kongming.rules.yml': 'share/kongming/prometheus',
    'etc/prometheus/kongming.test.yml': 'share/kongming/prometheus',
    'etc/grafana/kongming.json': 'share/kongming/grafana',
    'etc/ceilometer/kongming_events.yaml': 'share/kongming/ceilometer',
    'etc/ceilometer/kongming_meters.yaml': 'share/kongming/ceilometer'}


def wheel(path):
    """What is wrong with a wheel."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        meta, = (name for name in names
                 if name.endswith('.dist-info/METADATA'))
        metadata = archive.read(meta).decode()
        entries = archive.read(
            meta.replace('METADATA', 'entry_points.txt')).decode()
        shim = archive.read('nova/virt/kongming.py').decode()
    folder = meta.split('/')[0]
    wanted = {str(file.relative_to(TOP)) for package in PACKAGES
              for kind in ('*.py', '*.json', 'page-assets/*')
              for file in (TOP / package).rglob(kind)}
    wanted |= {folder.replace('.dist-info', f'.data/data/{place}/') + (
        pathlib.PurePath(name).name) for name, place in DATA.items()}
    wanted |= {'nova/virt/kongming.py', f'{folder}/licenses/LICENSE'}
    yield from (f'{name} is missing' for name in sorted(wanted - names))
    # Anything else that is in nova/ would overwrite Nova's own.
    yield from (f'{name} is not ours to install' for name in sorted(names)
                if name.split('/')[0] not in (
                    *PACKAGES, folder, folder.replace('.dist-info', '.data'))
                and name != 'nova/virt/kongming.py')
    yield from (f'the metadata lack {line}' for line in (
        'License-Expression: Apache-2.0', 'License-File: LICENSE',
        'Requires-Python: >=3.11') if line not in metadata.splitlines())
    if 'from nova_ext import load' not in shim:
        yield 'nova/virt/kongming.py is not the shim'
    declared = (TOP / 'setup.cfg').read_text().partition('[entry_points]')[2]
    yield from (f'the entry point {name} is missing' for name in re.findall(
        r'^    (\S+ = \S+)$', declared, re.MULTILINE) if name not in entries)


def sdist(path):
    """What is wrong with an sdist."""
    with tarfile.open(path) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    wanted = {'README.rst', 'README.zh_CN.rst', 'LICENSE', 'setup.cfg',
              'setup.py', 'tox.ini', 'requirements.txt', 'bindep.txt',
              'shim/kongming.py', 'devstack/plugin.sh', 'devstack/settings',
              'doc/source/index.rst', 'tests/base.py', 'tools/test',
              'constraints/nova-33.txt', 'constraints/nova-34.txt',
              'kongming/template/template-v1.json', 'PKG-INFO', 'ChangeLog',
              *DATA}
    yield from (f'{name} is missing' for name in sorted(wanted - names))
    yield from (f'{name} should not be in it' for name in sorted(names)
                if name.endswith('.pyc') or name.split('/')[0] in (
                    '.venv', '.package', '.nested', 'build', 'dist'))


def main(paths):
    wrong = [f'{path}: {problem}' for path in paths for problem in (
        wheel if path.endswith('.whl') else sdist)(path)]
    print('\n'.join(wrong) or f'{len(paths)} file(s) have what they should')
    return 1 if wrong or len(paths) != 2 else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
