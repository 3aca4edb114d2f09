#!/usr/bin/env bash
# pyuwsgi 2.0.30: SIGHUP, which reloads, ends a service of a virtual environment.
#
# Guess:  it starts again as it was started, and goes on answering.
# Seen:   it runs the program that /proc/self/exe names, with the arguments that
#         it had. In an environment that is Python itself, of which the link
#         in bin/ is a name: it finds no module of the environment, not even
#         its own ("No module named 'pyuwsgi'"), and is gone. With --binary-path
#         and the environment's python it goes on.
# Matters: the end of an upgrade of Nova is SIGHUP to all services, nova-api
#         among them.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'kill "$(cat "$folder/pid")" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'pyuwsgi==2.0.30'
cat >"$folder/app.py" <<'END'
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'it answers']
END
cd "$folder"
port=$(python3 -c 'import socket
found = socket.socket()
found.bind(("127.0.0.1", 0))
print(found.getsockname()[1])')
answer() {
    python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' \
        "http://127.0.0.1:$port/" 2>/dev/null
}
hang_up() {
    rm -f pid
    "$folder/venv/bin/pyuwsgi" --http-socket "127.0.0.1:$port" --master \
        --module app --die-on-term --pidfile "$folder/pid" "$@" >log 2>&1 &
    for _ in $(seq 100); do answer >/dev/null && break || sleep 0.1; done
    kill -HUP "$(cat pid)"
    sleep 5
    answer || grep -o "No module named 'pyuwsgi'" log
    kill "$(cat pid)" 2>/dev/null || true
    wait
}
{
    echo "as it is: $(hang_up)"
    echo "with --binary-path: $(hang_up --binary-path "$folder/venv/bin/python3")"
} | tee out
diff - out <<'END'
as it is: No module named 'pyuwsgi'
with --binary-path: it answers
END
