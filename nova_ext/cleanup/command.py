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

"""The command line of ``python -m nova_ext.cleanup``."""

import argparse
import shlex
import sys
import time

from keystoneauth1 import exceptions as ksa_exc
from kongming import exception as km_exc
from kongming.libvirt import hypervisor
from nova.conductor import rpcapi
import nova.conf
from nova import config
from nova import context as nova_context
from nova.db.main import api as db_api
from nova import exception
from nova import objects
from nova.objects import base
from nova import utils
from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_privsep import priv_context
from oslo_serialization import jsonutils
from oslo_utils import timeutils
import prettytable

from nova_ext.cleanup import host
from nova_ext import driver
from nova_ext import privileged

CONF = nova.conf.CONF
_EPILOG = """\
Stop nova-compute of this host first.  Before you start it again, set
compute_driver = libvirt.LibvirtDriver.  Afterwards the servers have the pins,
schedulers, CPU shares and quotas that Nova gives them by their flavors.  The
command can be repeated, and changes nothing the second time.

exit status:
  0  nothing of KongMing's is left (with --dry-run: nothing would be left)
  1  something is left; the table says what and why
  2  the command could not look: nova-compute is up, a service does not
     answer, or the command line has a mistake

examples:
  python -m nova_ext.cleanup --dry-run
  python -m nova_ext.cleanup --wait
  python -m nova_ext.cleanup --wait --inventories -f json
  python -m nova_ext.cleanup --config-file /etc/nova/nova-cpu.conf
  python -m nova_ext.cleanup --database --config-file /etc/nova/nova.conf
"""
#: How often the record of nova-compute is read, in seconds.
_PAUSE = 2.0
_ERRORS = (exception.NovaException, km_exc.KongmingError,
           messaging.MessagingException, db_exc.DBError,
           db_exc.CantStartEngineError, cfg.Error, ksa_exc.ClientException)


def parse(argv):
    parser = argparse.ArgumentParser(
        prog='python -m nova_ext.cleanup', epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Take away what KongMing has left on the servers of this '
                    'host.')
    for name, what in (('file', 'Configuration of nova-compute, may be given '
                                'several times (default: as nova-compute '
                                'finds it).'),
                       ('dir', 'Folder of such files, likewise.')):
        parser.add_argument(f'--config-{name}', metavar=f'<{name}>',
                            action='append', default=[], help=what)
    parser.add_argument('--database', action='store_true',
                        help='Use [database] of the configuration, as '
                             'nova-manage does, instead of nova-conductor.')
    parser.add_argument('--dry-run', action='store_true',
                        help='Show what would be done, and change nothing.')
    parser.add_argument('--inventories', action='store_true',
                        help="Also delete the providers of this host's NUMA "
                             "nodes in Placement, and take KongMing's traits "
                             "off the host's own provider. Refused while a "
                             'server has something of them allocated.')
    parser.add_argument('--wait', action='store_true',
                        help='Wait until nova-compute counts as down '
                             '([DEFAULT] service_down_time).')
    parser.add_argument('--force', action='store_true',
                        help='Do not check whether nova-compute is up. Use '
                             'it only when you know that it is stopped.')
    parser.add_argument('-f', '--format', choices=('table', 'json'),
                        default='table',
                        help='Output format (default: table).')
    return parser.parse_args(argv)


def connect(args):
    """Be set up as nova-compute is.

    :returns: an admin's context, and a driver that nobody has started
    """
    # Its name is that of a configuration file, too.
    config.parse_args(
        ['nova-compute', *(word for name in ('file', 'dir')
                           for value in getattr(args, f'config_{name}')
                           for word in (f'--config-{name}', value))],
        prog='nova-compute')
    # Sections whose names are options' values; Nova's driver reads them, and
    # nova/compute/manager.py (ComputeManager.__init__) makes them known.
    nova.conf.neutron.register_dynamic_opts(CONF)
    nova.conf.devices.register_dynamic_opts(CONF)
    logging.setup(CONF, 'nova')
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    privileged.as_root_itself()
    objects.register_all()
    hypervisor.load(CONF.libvirt.connection_uri or hypervisor.URI)
    if not args.database:
        db_api.DISABLE_DB_ACCESS = True
        base.NovaObject.indirection_api = rpcapi.ConductorAPI()
    return nova_context.get_admin_context(), driver.LibvirtDriver(None)


def wait_until_down(context, patient, forced):
    """:raises kongming.exception.CloudError: where nova-compute is up"""
    end = time.monotonic() + CONF.service_down_time + _PAUSE
    while True:
        service = objects.Service.get_by_compute_host(context, CONF.host)
        # Not 'updated_at', which an operator's 'disable' changes, too.
        age = timeutils.delta_seconds(
            timeutils.normalize_time(
                service.last_seen_up or service.created_at),
            timeutils.utcnow())
        if forced or age > CONF.service_down_time:
            return
        if not patient or time.monotonic() > end:
            raise km_exc.CloudError(
                f'nova-compute of {CONF.host} reported {max(0, round(age))} '
                f's ago that it is up. Stop it, and wait '
                f'{CONF.service_down_time} s ([DEFAULT] service_down_time), '
                f'or say --wait; if it is stopped and that is old, say '
                f'--force.')
        time.sleep(_PAUSE)


def show(rows, form):
    if form == 'json':
        print(jsonutils.dumps([row._asdict() for row in rows], indent=2))
    elif not rows:
        print(f'Nothing of KongMing is left on {CONF.host}.')
    else:
        table = prettytable.PrettyTable(host.Row._fields)
        table.align, table.max_width = 'l', 60
        table.add_rows([row._replace(
            name=km_exc.printable(row.name), found='\n'.join(row.found))
            for row in rows])
        print(table)


def main(argv=None):
    args = parse(argv)
    try:
        context, native = connect(args)
        wait_until_down(context, args.wait, args.force)
        rows = host.Cleanup(context, native, args.dry_run).run(
            args.inventories)
    except _ERRORS as exc:
        print(_words(exc), file=sys.stderr)
        return 2
    show(rows, args.format)
    return int(any(row.result == host.LEFT for row in rows))


def _words(exc):
    if isinstance(exc, messaging.MessagingTimeout):
        return ('nova-conductor does not answer; it has to run, or say '
                '--database on a host whose nova.conf has [database].')
    if isinstance(exc, db_exc.CantStartEngineError):
        return ('[database] connection is not in this configuration; leave '
                '--database out, or name the nova.conf that has it.')
    return str(exc)
