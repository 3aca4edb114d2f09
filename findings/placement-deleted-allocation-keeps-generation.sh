#!/usr/bin/env bash
# openstack-placement 16.0.0: an allocation that goes leaves the provider's
# generation as it was.
#
# Guess:  every change of what is allocated on a provider moves its generation,
#         so that who has read it at a generation knows what is allocated.
# Seen:   a new allocation moves it. DELETE /allocations/{consumer} does not,
#         nor does a PUT by which a consumer leaves one of two providers; that
#         moves the one that it stays on only.
#         (placement/objects/allocation.py, delete_all and _set_allocations.)
# Matters: a client that reads again only where the generation has moved goes
#         on taking for allocated what is free, and its write at that
#         generation is not refused.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'openstack-placement==16.0.0' \
    'SQLAlchemy==2.0.52' 'alembic==1.19.1'
cat >"$folder/placement.conf" <<EOF
[api]
auth_strategy = noauth2
[placement_database]
connection = sqlite:///$folder/placement.db
EOF
cat >"$folder/look.py" <<'EOF'
import json
import sys
import uuid

from oslo_config import cfg
from placement import conf
from placement.db.sqlalchemy import models
from placement import db_api
from placement import deploy
import webob

config = cfg.ConfigOpts()
conf.register_opts(config)
config(['--config-file', f'{sys.argv[1]}/placement.conf'])
db_api.configure(config)
models.BASE.metadata.create_all(db_api.get_placement_engine())
app = deploy.loadapp(config)


def ask(method, path, body=None):
    request = webob.Request.blank(path, method=method, headers={
        'x-auth-token': 'admin', 'accept': 'application/json',
        'openstack-api-version': 'placement 1.28'})
    if body is not None:
        request.content_type = 'application/json'
        request.body = json.dumps(body).encode()
    answer = request.get_response(app)
    assert answer.status_int < 300, answer.text
    return answer.json if answer.body else None


def provider(name):
    made = ask('POST', '/resource_providers', {'name': name})
    ask('PUT', f"/resource_providers/{made['uuid']}/inventories", {
        'resource_provider_generation': made['generation'],
        'inventories': {'VCPU': {'total': 8}}})
    return made['uuid']


def generations():
    return [ask('GET', f'/resource_providers/{one}')['generation']
            for one in (first, second)]


def allocate(consumer, generation, *providers):
    ask('PUT', f'/allocations/{consumer}', {
        'allocations': {one: {'resources': {'VCPU': 1}} for one in providers},
        'project_id': 'p', 'user_id': 'u', 'consumer_generation': generation})


first, second = provider('first'), provider('second')
consumer = str(uuid.uuid4())
seen = [generations()]
allocate(consumer, None, first, second)
seen.append(generations())
allocate(consumer, 1, first)
seen.append(generations())
ask('DELETE', f'/allocations/{consumer}')
seen.append(generations())
print('inventory, both allocated, one left, deleted:', seen)
start, both, one, gone = seen
assert both == [number + 1 for number in start], seen
assert one == [both[0] + 1, both[1]], seen
assert gone == one, seen
EOF
"$folder/venv/bin/python" -W ignore "$folder/look.py" "$folder"
