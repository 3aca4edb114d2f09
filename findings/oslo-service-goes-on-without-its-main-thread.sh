#!/usr/bin/env bash
# oslo.service 4.8.0: on SIGHUP a service in the main process goes on by half.
#
# Guess:  SIGHUP has a service with restart_method="mutate" read its options
#         again and go on, as it does with eventlet.
# Seen:   with the threading backend and no_fork=True, which is how nova-compute
#         of Nova 34.0.0 runs (nova/cmd/compute.py), the handler raises in the
#         main thread (oslo_service/backend/_threading/service.py,
#         _reload_service). That thread is over and Python begins to end, so
#         pools take no work any more. Timers are threads of their own and go
#         on: the service reports that it is up. Nobody calls reset().
# Matters: an operator who has [kongming] options read again by SIGHUP has a host
#         that Nova takes for up and that boots nothing. Pages and help say to
#         restart nova-compute.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'oslo.service[threading]==4.8.0' \
    'cotyledon==2.2.0'
cat >"$folder/look.py" <<'END'
from concurrent import futures
import os
import signal
import threading

from oslo_config import cfg
from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)

from oslo_service import service  # noqa: E402

pool = futures.ThreadPoolExecutor(1)


class Service(service.Service):

    def start(self):
        self.tg.add_timer(0.5, self.report)

    def report(self):
        try:
            pool.submit(int).result()
            work = 'works'
        except RuntimeError as exc:
            work = exc
        alive = threading.main_thread().is_alive()
        print(f'reports; {work}; main thread {alive}', flush=True)

    def reset(self):
        print('reset', flush=True)


conf = cfg.ConfigOpts()
conf([])
threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGHUP)).start()
threading.Timer(5, lambda: os._exit(0)).start()
service.launch(conf, Service(), workers=1, restart_method='mutate',
               no_fork=True).wait()
END
cd "$folder"
"$folder/venv/bin/python" -W ignore look.py 2>log | uniq | tee out
diff - out <<'END'
reports; works; main thread True
reports; cannot schedule new futures after shutdown; main thread False
END
