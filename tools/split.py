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
"""Lays out what pip has installed for two distribution packages.

``tools/split.py ROOT SITE``: ROOT is where pip has installed the wheel, with
the prefix ``/usr``; SITE is where the distribution has Python packages.

Entry points of Nova's services go into metadata of their own.  An nova-api
that finds the entry point of the validator, and not the validator, does not
start: so the package without Nova's side must not have it.
"""

import configparser
import pathlib
import re
import shutil
import sys

#: Groups of entry points that Nova's services read.
_NOVA = re.compile(r'nova\.')
_METADATA = '''\
Metadata-Version: 2.1
Name: kongming-nova
Version: {version}
Summary: What Nova loads of KongMing
License: Apache-2.0
Requires-Dist: kongming=={version}
'''


def _entry_points(groups):
    return '\n'.join(f'[{name}]\n' + ''.join(
        f'{key} = {value}\n' for key, value in entries)
        for name, entries in groups)


def main(root, site):
    root = pathlib.Path(root)
    found, = root.glob('usr/**/kongming-*.dist-info')
    target = root / site.lstrip('/')
    if found.parent != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        found.parent.rename(target)
    info, = target.glob('kongming-*.dist-info')
    version = info.name.removeprefix('kongming-').removesuffix('.dist-info')

    parser = configparser.ConfigParser(delimiters=('=',))
    parser.optionxform = str
    parser.read(info / 'entry_points.txt')
    groups = [(name, parser.items(name)) for name in parser.sections()]
    nova = target / f'kongming_nova-{version}.dist-info'
    nova.mkdir()
    (nova / 'METADATA').write_text(_METADATA.format(version=version))
    (nova / 'entry_points.txt').write_text(_entry_points(
        group for group in groups if _NOVA.match(group[0])))
    (info / 'entry_points.txt').write_text(_entry_points(
        group for group in groups if not _NOVA.match(group[0])))
    # The distribution's own records say what is installed.
    for name in ('RECORD', 'direct_url.json', 'REQUESTED', 'INSTALLER'):
        (info / name).unlink(missing_ok=True)

    # Some distributions have pip install below /usr/local.
    for name in ('bin/kongming', 'share/kongming'):
        there, = root.glob(f'usr/**/{name}')
        if there != root / 'usr' / name:
            (root / 'usr' / name).parent.mkdir(parents=True, exist_ok=True)
            there.rename(root / 'usr' / name)
    script = root / 'usr/bin/kongming'
    lines = script.read_text().splitlines(keepends=True)
    script.write_text(''.join(['#!/usr/bin/python3\n', *lines[1:]]))
    # A sample that nothing reads.
    sample, = root.rglob('kongming.conf.sample')
    shutil.move(sample, root / 'usr/share/kongming')
    for empty in sorted(root.rglob('*'), reverse=True):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


if __name__ == '__main__':
    main(*sys.argv[1:])
