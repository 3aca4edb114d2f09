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
"""A stand-in for the kernel's resctrl file system.

Refuses what the kernel refuses, with its errno and its last_cmd_status
(fs/resctrl/rdtgroup.c and ctrlmondata.c of Linux 6.18): masks and bandwidth
that are out of range, unknown resources and domains, groups beyond the number
of CLOSIDs, a group when no way is left to it, threads that don't exist.  What
it can't show is what hardware makes of all that.
"""

import contextlib
import errno
import os
import pathlib

#: Name of a resource -> the same for code and for data.
_BANDWIDTH = 'MB'


class Group:

    def __init__(self, schemata):
        self.schemata = schemata
        self.mode = 'shareable'
        self.cpus = ''


class Kernel:
    """What :class:`kongming.kernel.resctrlfs.Files` is to the real one.

    :param domains: ids of the L3 caches
    :param ways: of each; 0: no control of caches
    :param shareable: mask of the ways that devices use
    :param closids: of the cache; with ``cdp`` there are half as many
    :param mb: how bandwidth is counted: 'percent', 'software' (MiB/s),
        'amd' (1/8 GB/s), or None
    """

    root = pathlib.Path('/sys/fs/resctrl')

    def __init__(self, domains=(0, 1), ways=11, shareable=0x600, least=1,
                 closids=16, cdp=False, mb='percent', mb_closids=8,
                 mb_least=10, mb_step=10, sparse=False):
        self.domains, self.ways, self.least = domains, ways, least
        self.shareable, self.sparse = shareable, sparse
        self.mb, self.mb_least, self.mb_step = mb, mb_least, mb_step
        self.mb_most = {None: 0, 'percent': 100, 'software': 2 ** 32 - 1,
                        'amd': 2048}[mb]
        self.caches = []
        if ways:
            self.caches = ['L3CODE', 'L3DATA'] if cdp else ['L3']
        self.cdp = cdp
        self.num_closids = {name: closids // (1 + cdp)
                            for name in self.caches}
        if mb:
            self.num_closids[_BANDWIDTH] = mb_closids
        self.groups = {'': Group({
            **{name: dict.fromkeys(domains, self.full)
               for name in self.caches},
            **({_BANDWIDTH: dict.fromkeys(domains, self.mb_most)}
               if mb else {})})}
        #: thread -> its group
        self.threads = {}
        self.status = 'ok'
        #: (call, path, text) of what was written
        self.written = []
        self.lock_count = None

    @property
    def full(self):
        return (1 << self.ways) - 1

    # What kongming.kernel.resctrlfs calls.

    def names(self, folder=''):
        if folder == 'info':
            return sorted([*self.num_closids, 'L3_MON'])
        assert not folder, folder
        return sorted(['info', 'mon_groups', 'mon_data',
                       *filter(None, self.groups)])

    def read(self, path):
        folder, _slash, name = path.rpartition('/')
        if path == 'info/last_cmd_status':
            return self.status + '\n'
        if folder.startswith('info/'):
            return self._info(folder.removeprefix('info/'), name)
        group = self._group(folder, path)
        if name == 'schemata':
            return self._show(group)
        if name == 'tasks':
            return ''.join(f'{thread}\n' for thread, where in sorted(
                self.threads.items()) if where == folder)
        if name == 'mode':
            return group.mode + '\n'
        raise _error(errno.ENOENT, path)

    def write(self, path, text):
        self.written.append(('write', path, text))
        folder, _slash, name = path.rpartition('/')
        group = self._group(folder, path)
        if not text.endswith('\n') and name != 'tasks':
            raise _error(errno.EINVAL, path)
        self.status = 'ok'
        {'schemata': self._set, 'tasks': self._move,
         'mode': self._set_mode}[name](folder, group, text)

    def make(self, name):
        self.written.append(('make', name, ''))
        if name in self.groups:
            raise _error(errno.EEXIST, name)
        if '\n' in name or '/' in name:
            raise _error(errno.EINVAL, name)
        self.status = 'ok'
        if len(self.groups) >= min(self.num_closids.values()):
            self._fail(errno.ENOSPC, 'Out of CLOSIDs')
        schemata = {}
        for resource in self.caches:
            # rdtgroup_init_cat: all but what is somebody's alone.
            schemata[resource] = {}
            for domain in self.domains:
                mask = self.full
                for other in self.groups.values():
                    if other.mode == 'exclusive':
                        mask &= ~self._mask(other, domain)
                mask = _first_row(mask)
                if mask.bit_count() < max(1, self.least):
                    self._fail(errno.ENOSPC,
                               f'No space on {resource}:{domain}')
                schemata[resource][domain] = mask
        if self.mb:
            schemata[_BANDWIDTH] = dict.fromkeys(self.domains, self.mb_most)
        self.groups[name] = Group(schemata)

    def remove(self, name):
        self.written.append(('remove', name, ''))
        if name not in self.groups or not name:
            raise _error(errno.ENOENT, name)
        del self.groups[name]
        for thread, where in self.threads.items():
            if where == name:
                self.threads[thread] = ''

    def is_here(self):
        return True

    def options(self):
        return 'rw' + (',cdp' if self.cdp else '') + (
            ',mba_MBps' if self.mb == 'software' else '')

    @contextlib.contextmanager
    def locked(self, to_write):
        assert self.lock_count is None
        self.lock_count = 'write' if to_write else 'read'
        try:
            yield
        finally:
            self.lock_count = None

    # What tests want of it.

    def others(self, name, threads=(), **schemata):
        """A group of somebody else, with these lines."""
        self.make(name)
        for resource, values in schemata.items():
            self.groups[name].schemata[resource].update(values)
        for thread in threads:
            self.threads[thread] = name

    def set_aside(self, ways):
        """The operator leaves so many of the lowest ways to servers."""
        for resource in self.caches:
            self.groups[''].schemata[resource] = dict.fromkeys(
                self.domains, self.full & ~((1 << ways) - 1))

    def tasks_of(self, name):
        return {thread for thread, where in self.threads.items()
                if where == name}

    # The kernel's.

    def _fail(self, number, status):
        self.status = status
        raise _error(number, status)

    def _group(self, name, path):
        if name not in self.groups:
            raise _error(errno.ENOENT, path)
        return self.groups[name]

    def _mask(self, group, domain):
        mask = 0
        for resource in self.caches:
            mask |= group.schemata[resource][domain]
        return mask

    def _info(self, resource, name):
        texts = {}
        if resource in self.caches:
            texts = {'cbm_mask': f'{self.full:x}',
                     'min_cbm_bits': f'{self.least}',
                     'shareable_bits': f'{self.shareable:x}',
                     'sparse_masks': f'{self.sparse:d}'}
        elif resource == _BANDWIDTH:
            texts = {'min_bandwidth': f'{self.mb_least}',
                     'bandwidth_gran': f'{self.mb_step}',
                     'delay_linear': '0' if self.mb == 'amd' else '1'}
        if resource in self.num_closids:
            texts['num_closids'] = f'{self.num_closids[resource]}'
        if name not in texts:
            raise _error(errno.ENOENT, f'info/{resource}/{name}')
        return texts[name] + '\n'

    def _show(self, group):
        """With the blanks that the kernel pads with."""
        wide = max(map(len, group.schemata))
        lines = []
        for resource, values in group.schemata.items():
            form = '4d' if resource == _BANDWIDTH else 'x'
            lines.append(f'{resource:>{wide}}:' + ';'.join(
                f'{domain}={value:{form}}'
                for domain, value in values.items()))
        return '\n'.join(lines) + '\n'

    def _set(self, name, group, text):
        staged = {}
        for line in text[:-1].split('\n'):
            resource, colon, rest = line.partition(':')
            resource = resource.strip()
            if not colon:
                self._fail(errno.EINVAL, "Missing ':'")
            if not rest:
                self._fail(errno.EINVAL, f"Missing '{resource}' value")
            if resource not in group.schemata:
                self._fail(errno.EINVAL, f'Unknown or unsupported resource '
                                         f"name '{resource}'")
            for part in filter(None, rest.split(';')):
                domain, equals, value = part.partition('=')
                if not equals or not domain.isdecimal():
                    self._fail(errno.EINVAL,
                               "Missing '=' or non-numeric domain")
                if int(domain) not in group.schemata[resource]:
                    raise _error(errno.EINVAL, part)
                key = resource, int(domain)
                if key in staged:
                    self._fail(errno.EINVAL, f'Duplicate domain {domain}')
                staged[key] = (self._bandwidth(value.strip())
                               if resource == _BANDWIDTH else
                               self._cbm(name, int(domain), value.strip()))
        for (resource, domain), value in staged.items():
            group.schemata[resource][domain] = value

    def _bandwidth(self, text):
        if not text.isdecimal():
            self._fail(errno.EINVAL, f'Invalid MB value {text}')
        value = int(text)
        if self.mb == 'software':
            return value
        if not self.mb_least <= value <= self.mb_most:
            self._fail(errno.EINVAL, f'MB value {value} out of range '
                                     f'[{self.mb_least},{self.mb_most}]')
        return -(-value // self.mb_step) * self.mb_step

    def _cbm(self, name, domain, text):
        try:
            mask = int(text, 16)
        except ValueError:
            self._fail(errno.EINVAL, f'Non-hex character in the mask {text}')
        if not mask and self.least or mask > self.full:
            self._fail(errno.EINVAL, 'Mask out of range')
        if not self.sparse and mask != _first_row(mask):
            self._fail(errno.EINVAL,
                       f'The mask {mask:x} has non-consecutive 1-bits')
        if _first_row(mask).bit_count() < self.least:
            self._fail(errno.EINVAL,
                       f'Need at least {self.least} bits in the mask')
        for other, group in self.groups.items():
            if other != name and self._mask(group, domain) & mask and (
                    'exclusive' in (group.mode, self.groups[name].mode)):
                self._fail(errno.EINVAL, 'Overlaps with exclusive group')
        return mask

    def _set_mode(self, name, group, text):
        assert text == 'exclusive\n', text
        for other, its in self.groups.items():
            if other != name and any(
                    self._mask(its, domain) & self._mask(group, domain)
                    for domain in self.domains):
                self._fail(errno.EINVAL, 'Schemata overlaps')
        group.mode = 'exclusive'

    def _move(self, name, _group, text):
        thread = text.strip()
        if not thread.isdecimal():
            self._fail(errno.EINVAL, f'Task list parsing error pid {thread}')
        if int(thread) not in self.threads:
            self._fail(errno.ESRCH, f'No task {thread}')
        self.threads[int(thread)] = name


def _first_row(mask):
    low = mask & -mask
    return mask & ~(mask + low) if mask else 0


def _error(number, what):
    return OSError(number, os.strerror(number), what)
