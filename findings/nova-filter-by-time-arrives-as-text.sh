#!/usr/bin/env bash
# Nova 34.0.0: what nova-compute asks of instance actions "since" a time never
# gets an answer.
#
# Guess:  InstanceActionList.get_by_instance_uuid takes filters, among them
#         changes-since as a datetime, and is remotable, so nova-compute may
#         ask for the actions of the last hour.
# Seen:   in a process with the database it does. Over the bus the dictionary
#         becomes JSON and the datetime in it text; conductor's side compares
#         no text (nova/db/main/api.py, _get_query_nova_resource_by_changes_time)
#         and raises AttributeError. Tests in one process see nothing of it.
# Matters: arguments of a remotable method that are no objects of Nova's have
#         to be such that JSON gives them back. A limit and a look at the times
#         that arrive, which are of an object's field, do.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nova==34.0.0' 'SQLAlchemy==2.0.52' \
    'alembic==1.19.1' fixtures testtools ddt requests-mock oslotest stestr \
    osprofiler testresources testscenarios wsgi-intercept psycopg2-binary \
    pymysql python-barbicanclient 'openstack-placement==16.0.0'
cat >"$folder/look.py" <<'EOF'
import json
import sys

from nova import context
from nova import objects
from nova.objects import base
from nova import test
from oslo_messaging._drivers import common
from oslo_utils import timeutils
from oslo_utils.fixture import uuidsentinel


class Look(test.TestCase):

    def ask(self, filters):
        try:
            return len(objects.InstanceActionList.get_by_instance_uuid(
                self.admin, uuidsentinel.server, filters=filters))
        except Exception as exc:
            return type(exc).__name__

    def test(self):
        objects.register_all()
        self.admin = context.get_admin_context()
        objects.InstanceAction.action_start(
            self.admin, uuidsentinel.server, 'reboot', want_result=False)
        sent = {'changes-since': timeutils.utcnow().replace(year=2020)}
        serializer = base.NovaObjectSerializer()
        message = common.serialize_msg({
            'args': serializer.serialize_entity(self.admin, sent)})
        arrived = serializer.deserialize_entity(
            self.admin, common.deserialize_msg(
                json.loads(json.dumps(message)))['args'])
        found = [self.ask(sent), type(arrived['changes-since']).__name__,
                 self.ask(arrived)]
        print(found, file=sys.__stdout__)
        self.assertEqual([1, 'str', 'AttributeError'], found)
EOF
cd "$folder"
OS_NOVA_DISABLE_EVENTLET_PATCHING=false "$folder/venv/bin/python" -W ignore \
    -m testtools.run look 2>&1 | grep -E '^\[|^OK$|Error' | sort -u |
    tee "$folder/out"
grep -q '^OK$' "$folder/out"
