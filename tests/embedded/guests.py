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

"""Guests that need no operating system: one boot sector each."""

import os
import struct

from oslo_utils import uuidutils

_SIZE = 1024 * 1024

#: x86 real mode.  idle: cli; hlt; jmp back.  busy: jmp to itself.
_CODE = {'idle': bytes.fromhex('faf4ebfd'), 'busy': bytes.fromhex('ebfe')}


def _image(name):
    return {
        'id': uuidutils.generate_uuid(), 'name': name, 'status': 'active',
        'container_format': 'bare', 'disk_format': 'raw', 'size': _SIZE,
        'min_ram': 0, 'min_disk': 0, 'protected': False, 'deleted': False,
        'deleted_at': None, 'visibility': 'public', 'is_public': True,
        'tags': [], 'properties': {}}


#: As Nova's stand-in for Glance takes them.
IMAGES = [_image(name) for name in _CODE]


def boot_sector(name):
    """512 bytes that a BIOS boots; Nova wants a partition in it as well."""
    code = _CODE[name].ljust(446, b'\0')
    partition = struct.pack('<8B2I', 0x80, 0, 2, 0, 0x83, 0, 3, 0, 1,
                            _SIZE // 512 - 1)
    return code + partition + bytes(48) + b'\x55\xaa'


def write(folder, name):
    """Write a disk image and return its path."""
    path = os.path.join(folder, f'{name}.raw')
    with open(path, 'wb') as disk:
        disk.write(boot_sector(name).ljust(_SIZE, b'\0'))
    return path
