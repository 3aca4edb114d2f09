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


"""nova-compute for a nested host, which is another machine than its own.

Called with the folder of that host's machine, the one that both see, and what
would be called on that host: ``nova-compute ...`` or ``python -m MODULE ...``.
KongMing reads the kernel inside by a process there.  The disks are on 9p:
libvirt before 11.0 has a list of the file systems that hosts share, and
refuses to migrate a domain whose disk is on another one, be it opened
without a cache (src/util/virfile.c, virFileIsSharedFSType); 9p is not on it.
What both nested hosts see by it is one file on this machine, so that is told
to libvirt by VIR_MIGRATE_UNSAFE, for which Nova has no option.

nova-compute runs outside, where it would ask this machine's kernel for the
memory of servers; it asks the one inside (tests.nested.kernel).  Nothing else
of nova-compute is different.
"""

import importlib
import pathlib
import runpy
import sys

import libvirt
from nova.cmd import compute
from nova.virt.libvirt import driver

_prepare = driver.LibvirtDriver._prepare_migration_flags


def _prepared(self):
    live, block = _prepare(self)
    return live | libvirt.VIR_MIGRATE_UNSAFE, block


driver.LibvirtDriver._prepare_migration_flags = _prepared


def _patch(name, function):
    owner, _dot, attribute = name.rpartition('.')
    try:
        found = importlib.import_module(owner)
    except ModuleNotFoundError:
        module, _dot, cls = owner.rpartition('.')
        found = getattr(importlib.import_module(module), cls)
    setattr(found, attribute, function)


if __name__ == '__main__':
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
    from tests.nested import host
    from tests.nested import inside
    from tests.nested import kernel
    from tests.nested import machine
    folder, share = sys.argv[1:3]
    nested = machine.Machine(folder)
    nested.share = pathlib.Path(share)
    kernel_inside = inside.Inside(host.Host(of=nested))
    kernel_inside.put(_patch)
    kernel.Numa(host.Host(of=nested)).setUp()
    # What privsep's own process would do, it would do to this machine.
    from nova_ext import privileged
    privileged.as_root_itself()
    del sys.argv[:3]
    if sys.argv[:2] == ['python', '-m']:
        kernel_inside.put_processes(_patch)
        del sys.argv[:2]
        runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
    else:
        sys.exit(compute.main())
