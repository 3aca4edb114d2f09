#!/usr/bin/env bash
# Nova 34.0.0: while one CPU of [compute] cpu_dedicated_set is offline, no
# server of that host can be deleted.
#
# Guess:  a delete asks nothing of the host's CPUs; at most the next audit
#         complains.
# Seen:   the server is in ERROR, though its domain is gone: what it used is
#         given back by a report to Placement, which counts the dedicated CPUs,
#         and that raises unless all of them are online. With
#         [libvirt] cpu_power_management the count is of those that exist.
#         Once the CPU is online again the delete can be repeated.
#         (nova/virt/libvirt/driver.py, _get_pcpu_available, called by
#         update_provider_tree.)
# Matters: a CPU that the kernel took offline, for a hardware error say, stops
#         the audit and deletes of servers that never ran there.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nova==34.0.0' 'SQLAlchemy==2.0.52' \
    'alembic==1.19.1' fixtures testtools ddt requests-mock oslotest stestr \
    osprofiler testresources testscenarios wsgi-intercept psycopg2-binary \
    pymysql python-barbicanclient 'openstack-placement==16.0.0'
cat >"$folder/look.py" <<'EOF'
import sys
import time
from unittest import mock

from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base


class Look(base.ServersTestBase):

    ADMIN_API = True
    microversion = 'latest'
    CAST_AS_CALL = False

    def test(self):
        self.flags(cpu_dedicated_set='2-3', cpu_shared_set='0-1',
                   group='compute')
        online = {0, 1, 2, 3}
        patch = mock.patch('nova.virt.libvirt.host.Host.get_online_cpus',
                           lambda host: set(online))
        patch.start()
        self.addCleanup(patch.stop)
        self.start_compute(host_info=fakelibvirt.HostInfo(
            cpu_nodes=1, cpu_sockets=1, cpu_cores=4, cpu_threads=1))
        # It floats over CPUs 0 and 1.
        server = self._create_server(
            flavor_id=self._create_flavor(vcpu=1), networks='none')
        online.discard(3)
        self.api.delete_server(server['id'])
        found = self._wait_for_state_change(server, 'ERROR')
        found = [found['status'],
                 'cpu_dedicated_set' in found['fault']['message']]
        online.add(3)
        self.api.delete_server(server['id'])
        for _ in range(100):
            if not self.api.get_servers():
                found.append('deleted')
                break
            time.sleep(0.1)
        print(found, file=sys.__stdout__)
        self.assertEqual(['ERROR', True, 'deleted'], found)
EOF
cd "$folder"
mkdir -p "$("$folder/venv/bin/python" -c 'import site
print(site.getsitepackages()[0])')/etc"
cp -r "$folder/venv/etc/nova" "$("$folder/venv/bin/python" -c 'import site
print(site.getsitepackages()[0])')/etc/"
OS_NOVA_DISABLE_EVENTLET_PATCHING=false "$folder/venv/bin/python" -W ignore \
    -m testtools.run look 2>&1 | grep -E '^\[|^OK$|Error' | sort -u |
    tee "$folder/out"
grep -q '^OK$' "$folder/out"
