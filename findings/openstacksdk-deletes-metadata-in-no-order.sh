#!/usr/bin/env bash
# openstacksdk 4.22.0: delete_server_metadata(server, keys) keeps no order of
# the keys, and ends at one that is gone.
#
# Guess:  keys are deleted in the order of the list, as each is a request of
#         its own; one that is not there any more is no error, as it is what was
#         asked for.
# Seen:   the order is that of a set, so it is another one in each process. At a
#         key that Nova does not know (404) NotFoundException is raised, and
#         those that would have followed stay.
#         (openstack/compute/v2/_proxy.py, delete_server_metadata.)
# Matters: a map that is longer than one value goes on in further keys. Removed
#         in any order it has a gap meanwhile, and a host that looks then
#         refuses it. KongMing removes key by key, the last part of a map first.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'openstacksdk==4.22.0'
cat >"$folder/ask.py" <<'EOF'
"""What is asked of a compute API that knows some keys, with these to delete."""

import http.server
import json
import sys
import threading

from openstack import connection
from openstack import exceptions

known, keys = (words.split(',') for words in sys.argv[1:])
asked = []


class Compute(http.server.BaseHTTPRequestHandler):

    def log_message(self, *args):
        pass

    def answer(self, status, body):
        raw = json.dumps(body).encode() if body else b''
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self):
        self.answer(200, {'versions': [{
            'id': 'v2.1', 'status': 'CURRENT', 'version': '2.96',
            'min_version': '2.1', 'links': [{'rel': 'self', 'href': url}]}]})

    def do_DELETE(self):
        key = self.path.rpartition('/')[2]
        asked.append(key)
        if key in known:
            self.answer(204, None)
        else:
            self.answer(404, {'itemNotFound': {'code': 404, 'message': 'no'}})


server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Compute)
url = f'http://127.0.0.1:{server.server_port}/v2.1'
threading.Thread(target=server.serve_forever, daemon=True).start()
cloud = connection.Connection(auth_type='none', endpoint=url)
try:
    cloud.compute.delete_server_metadata('a-server', keys)
    print(','.join(asked))
except exceptions.NotFoundException:
    print(','.join(asked), 'NotFoundException')
EOF
cd "$folder"
orders=$(for seed in 1 2 3 4 5 6; do
    PYTHONHASHSEED=$seed venv/bin/python ask.py a,b,c,d d,c,b,a
done | sort -u)
echo "d,c,b,a is deleted as:" $orders
[ "$(echo "$orders" | wc -l)" -gt 1 ]
gone=$(venv/bin/python ask.py none a,b,c,d)
echo "where none of a,b,c,d is known: $gone"
case $gone in
    ?" NotFoundException") ;;
    *) exit 1 ;;
esac
echo OK
