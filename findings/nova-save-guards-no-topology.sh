#!/usr/bin/env bash
# Nova 34.0.0: Instance.save(expected_task_state=...) guards columns of the
# table instances only.
#
# Guess:  a save that is refused since the task state is another one by now
#         changes nothing.
# Seen:   UnexpectedTaskStateError is raised, and numa_topology is in the
#         database all the same: what lies in the table instance_extra is
#         written before the check, in a transaction of its own.  Where nothing
#         but numa_topology has changed there is no check at all, and no error.
#         (nova/objects/instance.py, Instance.save.)
# Matters: it is no compare-and-swap for the pCPUs that a server owns, and an
#         error does not say that nothing was written.
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

from nova import context
from nova import exception
from nova import objects
from nova import test
from nova.tests import fixtures as nova_fixtures  # noqa: F401


class Look(test.TestCase):

    def topology(self, pcpu):
        return objects.InstanceNUMATopology(cells=[
            objects.InstanceNUMACell(
                id=0, cpuset=set(), pcpuset={0}, memory=64,
                cpu_policy='dedicated', cpu_pinning={0: pcpu})])

    def in_database(self, instance):
        return objects.InstanceNUMATopology.get_by_instance_uuid(
            self.ctxt, instance.uuid).cells[0].cpu_pinning[0]

    def test(self):
        self.ctxt = context.get_admin_context()
        flavor = objects.Flavor.get_by_name(self.ctxt, 'm1.small')
        instance = objects.Instance(
            self.ctxt, project_id='p', user_id='u', flavor=flavor,
            system_metadata={}, numa_topology=self.topology(1))
        instance.create()
        other = objects.Instance.get_by_uuid(self.ctxt, instance.uuid)
        other.task_state = 'deleting'
        other.save()
        found = []
        for pcpu, name in ((2, None), (3, 'another')):
            instance.numa_topology = self.topology(pcpu)
            if name:
                instance.display_name = name
            try:
                instance.save(expected_task_state=[None])
                found.append('saved')
            except exception.UnexpectedTaskStateError as exc:
                found.append(type(exc).__name__)
            found.append(self.in_database(instance))
        print(found, file=sys.__stdout__)
        self.assertEqual(
            ['saved', 2, 'UnexpectedDeletingTaskStateError', 3], found)
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
