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


"""The disk of the nested host: a small Debian with libvirt and QEMU.

No init system and no initramfs of the distribution: busybox starts what is
needed, which takes seconds where systemd takes a minute under emulation.
"""

import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess

from tests.nested import error

SUITE = 'bookworm'
MIRROR = os.environ.get('KONGMING_MIRROR', 'http://deb.debian.org/debian')
#: The cloud kernel has no 9p, by which the host sees a folder of ours.
KERNEL = 'linux-image-amd64'
PACKAGES = (KERNEL, 'busybox-static', 'iproute2', 'kmod', 'libvirt-daemon',
            'libvirt-daemon-driver-qemu', 'mount', 'numactl',
            'openssh-server', 'python3', 'qemu-system-x86', 'qemu-utils')
#: Kernel modules that are worth their place.
_DRIVERS = ('virtio', 'net/virtio_net.ko', 'net/net_failover.ko',
            'block/virtio_blk.ko', 'char/hw_random', 'char/virtio_console.ko')
_SOURCES = pathlib.Path(__file__).parent / 'rootfs'
_SIZE = '3G'
#: What a build needs for a while, in bytes; the result is smaller.
_FREE_SPACE = 3 * 1024 ** 3


class Image:
    """Kernel, initrd and disk in a folder, made where they aren't."""

    def __init__(self, folder):
        self.folder = folder
        self.disk = folder / 'root.img'
        self.kernel = folder / 'vmlinuz'
        self.initrd = folder / 'initrd'
        self.key = folder / 'key'
        self._made_of = folder / 'made-of'

    @staticmethod
    def made_of():
        """What the image is made of, in one word."""
        digest = hashlib.sha256(repr((SUITE, PACKAGES, _DRIVERS)).encode())
        for path in sorted(_SOURCES.iterdir()):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def is_made(self):
        return (self._made_of.exists()
                and self._made_of.read_text() == self.made_of())

    def make(self, say):
        """Build it.

        :param say: called with a line of text at each step
        """
        for program, package in (('mmdebstrap', 'mmdebstrap'),
                                 ('mke2fs', 'e2fsprogs'),
                                 ('ssh-keygen', 'openssh-client')):
            error.need(program, package)
        if os.geteuid() != 0:
            # mmdebstrap needs a range of users then.
            error.need('newuidmap', 'uidmap')
        free = shutil.disk_usage(self.folder).free
        if free < _FREE_SPACE:
            raise error.Problem(
                f'{self.folder} has {free / 1024 ** 3:.1f} GiB of disk space '
                f'left, the image needs {_FREE_SPACE / 1024 ** 3:.0f} GiB for '
                f'a while; KONGMING_NESTED=DIR puts it elsewhere')
        for path in (self._made_of, *self.folder.glob('state-*')):
            path.unlink(missing_ok=True)
        self._keys()
        say(f'building the image from {MIRROR} ({SUITE}); minutes, once')
        tar = self.folder / 'root.tar'
        log = self.folder / 'build.log'
        try:
            with open(log, 'w') as out:
                self._bootstrap(tar, out)
                say('writing the disk')
                self._pack(tar, out)
        except subprocess.CalledProcessError as exc:
            tail = ''.join(log.read_text(errors='replace').splitlines(
                keepends=True)[-15:])
            raise error.Problem(
                f'{exc.cmd[0]} failed; the end of {log}:\n{tail}') from None
        finally:
            tar.unlink(missing_ok=True)
        self._made_of.write_text(self.made_of())

    def _keys(self):
        for name in ('key', 'host_key'):
            for path in (self.folder / name, self.folder / f'{name}.pub'):
                path.unlink(missing_ok=True)
            subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '',
                            '-C', 'kongming', '-f', self.folder / name],
                           check=True, stdin=subprocess.DEVNULL)
        public = (self.folder / 'host_key.pub').read_text()
        (self.folder / 'known_hosts').write_text(f'nested {public}')

    def _bootstrap(self, tar, out):
        inside = '/etc/kongming'
        uploads = {name: _SOURCES / name for name in ('init', 'rc', 'setup')}
        uploads |= {'host_key': self.folder / 'host_key',
                    'key.pub': self.folder / 'key.pub'}
        hooks = [f'mkdir -p "$1{inside}"']
        hooks += [f'upload {shlex.quote(str(path))} {inside}/{name}'
                  for name, path in uploads.items()]
        hooks += [f'chmod 755 "$1{inside}"/init "$1{inside}"/rc',
                  f'chroot "$1" sh {inside}/setup',
                  f'download /boot/vmlinuz {shlex.quote(str(self.kernel))}',
                  f'download /boot/initrd {shlex.quote(str(self.initrd))}']
        modules = 'path-{}clude=/lib/modules/*/kernel/{}'
        options = [modules.format('ex', name) for name in
                   ('drivers/*', 'sound/*')]
        options += [modules.format('in', f'drivers/{name}*')
                    for name in _DRIVERS]
        options += [f'path-exclude=/usr/share/{name}/*'
                    for name in ('doc', 'man', 'locale')]
        subprocess.run(
            ['mmdebstrap', '--variant=apt', '--format=tar',
             f'--include={",".join(PACKAGES)}',
             *(f'--dpkgopt={option}' for option in options),
             *(f'--customize-hook={hook}' for hook in hooks),
             SUITE, tar, MIRROR],
            # initramfs-tools comes with the kernel; we make our own.
            env={**os.environ, 'INITRD': 'No'},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True)

    def _pack(self, tar, out):
        """A file system of the archive, whose owners are not all ours."""
        tree = self.folder / 'root.tree'
        script = (
            'set -eu; rm -rf "$0"; mkdir "$0"; '
            'tar -C "$0" --numeric-owner --exclude="./dev/*" -xf "$1"; '
            'rm -f "$2"; '
            f'mke2fs -q -t ext4 -O ^has_journal -d "$0" "$2" {_SIZE}; '
            'rm -rf "$0"')
        helper = [] if os.geteuid() == 0 else [
            'unshare', '--map-root-user', '--map-auto']
        subprocess.run([*helper, 'sh', '-c', script, tree, tar, self.disk],
                       stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                       check=True)
