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

#: What the guest that has memory writes to: one word a page, 1 MiB on.
DIRTY_MIB = 32

#: Runs at 0x7c00: into 32-bit mode, since real mode reaches one MiB only.
_TO_32_BITS = bytes.fromhex(
    'fa 31c0 8ed8'           # cli; ds = 0
    '0f0116 987c'            # lgdt [0x7c98]
    '0f20c0 0c01 0f22c0'     # cr0 |= 1
    'ea 177c 0800'           # jmp 8:0x7c17
    '66b81000 8ed8')         # ds = 16
#: No segment; 4 GiB of code, 4 GiB of data; and where that is.
_TABLE = bytes.fromhex('0000000000000000 ffff0000009acf00 ffff00000092cf00'
                       '1700 807c0000')


def in_32_bits(code):
    """What a boot sector has to do for flat 32-bit code to run.

    :param code: bytes, 99 at most; no interrupts, no stack
    """
    return (_TO_32_BITS + code).ljust(0x80, b'\0') + _TABLE


_DIRTY = bytes.fromhex(
    'bf 00001000'            # edi = 1 MiB
    '893f 81c700100000'      # [edi] = edi; edi += 4096
    '81ff') + struct.pack('<I', (1 + DIRTY_MIB) << 20) + bytes.fromhex(
    '72f0'                   # while edi < end
    'f4 ebfd')               # hlt; jmp back

#: The other CPUs wait for an interrupt that starts them: INIT and start-up
#: to all but the one that sends it, by its local APIC.
_SPINNING = bytes.fromhex(
    '66c705 00700000 ebfe'       # [0x7000] = jmp to itself
    'c705 0003e0fe 00450c00'     # [0xfee00300] = INIT
    'b9 00001000 e2fe'           # a moment
    'c705 0003e0fe 07460c00'     # start-up at 0x7000
    'ebfe')                      # jmp to itself

#: The power button, and what it does in QEMU's pc machine, by the ACPI ports
#: that its BIOS has chosen (SeaBIOS, src/config.h, PORT_ACPI_PM_BASE).
_ACPI = bytes.fromhex(
    'fb'                     # sti: the clock wakes it up
    'ba0206 b80001 ef'       # [0x602] = power button enabled
    'f4'                     # hlt
    'ba0006 ed f6c401 74f6'  # until it is pressed, by [0x600]
    'ba0406 b80020 ef'       # [0x604] = off
    'ebed')                  # jmp back to hlt

#: idle: cli; hlt; jmp back, in real mode.  busy: no vCPU ever sleeps.  acpi:
#: shuts down when it is asked to.
_CODE = {'idle': bytes.fromhex('faf4ebfd'), 'busy': in_32_bits(_SPINNING),
         'dirty': in_32_bits(_DIRTY), 'acpi': _ACPI}
#: Of all guests.
NAMES = tuple(_CODE)


def _image(name):
    return {
        'id': uuidutils.generate_uuid(), 'name': name, 'status': 'active',
        'container_format': 'bare', 'disk_format': 'raw', 'size': _SIZE,
        'min_ram': 0, 'min_disk': 0, 'protected': False, 'deleted': False,
        'deleted_at': None, 'visibility': 'public', 'is_public': True,
        'tags': [], 'properties': {}}


#: As Nova's stand-in for Glance takes them.
IMAGES = [_image(name) for name in _CODE]
IDS = {image['name']: image['id'] for image in IMAGES}


def boot_sector(code):
    """512 bytes that a BIOS boots; Nova wants a partition in it as well."""
    partition = struct.pack('<8B2I', 0x80, 0, 2, 0, 0x83, 0, 3, 0, 1,
                            _SIZE // 512 - 1)
    return code.ljust(446, b'\0') + partition + bytes(48) + b'\x55\xaa'


def write(folder, name, code=None):
    """Write a disk image and return its path.

    :param name: of the image
    :param code: of its boot sector, where that is none of these guests
    """
    path = os.path.join(folder, f'{name}.raw')
    with open(path, 'wb') as disk:
        disk.write(boot_sector(code or _CODE[name]).ljust(_SIZE, b'\0'))
    return path
