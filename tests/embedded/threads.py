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

"""Threads of an embedded cloud block until there is work, and are counted.

With Nova's fixtures alone, many threads look many times a second whether
there is something to do.  That keeps a core busy while nobody asks for
anything.  And a test cannot know whether a service still works on what it was
asked for: a server is ACTIVE, or gone, before nova-compute has told Placement.
"""

import queue
import threading
import time
import weakref

import fixtures
import futurist
from futurist import _thread
from nova import utils
from oslo_messaging._drivers import base
from oslo_messaging._drivers import impl_fake

#: How long a worker waits before it looks whether its pool still exists, in
#: seconds; futurist's own value.
_IDLE = 1
#: How often to look whether all work is done, in seconds.
_POLL = 0.01


class Threads(fixtures.Fixture):
    """To be used before any service is started.

    With eventlet (Nova 33) only messages are delivered at once; nothing is
    counted.
    """

    def _setUp(self):
        self._lock = threading.Lock()
        #: incremented whenever work goes from one place to another
        self._moves = 0
        #: messages that are taken from a queue but not in a pool yet
        self._taken = 0
        self._pools = weakref.WeakSet()
        self._listeners = weakref.WeakSet()
        self._arrived = threading.Condition()
        if utils.concurrency_mode_threading():
            self._patch_pools()
        self._patch_messages()

    def wait(self, seconds):
        """Wait until no service has anything to do.

        :param seconds: to wait at most
        :returns: whether it is so
        """
        end = time.monotonic() + seconds
        while self._is_busy():
            if time.monotonic() > end:
                return False
            time.sleep(_POLL)
        return True

    def _is_busy(self):
        moves = self._moves
        with self._arrived:
            if self._taken or any(
                    _has_message(listener) for listener in self._listeners):
                return True
        with self._lock:
            pools = list(self._pools)
        # A queue counts what is being worked on as well.
        if any(pool._work_queue.unfinished_tasks for pool in pools):
            return True
        return moves != self._moves

    def _moved(self):
        with self._lock:
            self._moves += 1

    def _patch_pools(self):
        """Idle workers of a thread pool block until there is work.

        nova/test.py has each of them look a hundred times a second whether
        its pool is shut down, since futurist does not tell them
        (https://bugs.launchpad.net/futurist/+bug/2160159).  A pool starts a
        thread for each task until it has its maximum, 64 for RPC.
        """
        submit = futurist.ThreadPoolExecutor._submit

        def counted(pool, *args, **kwargs):
            with self._lock:
                self._pools.add(pool)
                self._moves += 1
            return submit(pool, *args, **kwargs)

        self.useFixture(fixtures.MockPatchObject(
            futurist.ThreadPoolExecutor, '_submit', counted))
        self.useFixture(fixtures.MockPatchObject(
            futurist.ThreadPoolExecutor, 'shutdown', _shutdown))
        self.useFixture(fixtures.MockPatchObject(
            _thread.ThreadWorker, '_wait_for_work', _wait_for_work))

    def _patch_messages(self):
        """A message is taken when it comes.

        oslo.messaging's fake driver looks for messages every 50 ms; a boot is
        some twenty of them, one after another.
        """
        deliver = impl_fake.FakeExchange.deliver_message
        stop = impl_fake.FakeListener.stop
        start = base.PollStyleListenerAdapter.start

        def deliver_message(*args, **kwargs):
            self._moved()
            deliver(*args, **kwargs)
            with self._arrived:
                self._arrived.notify_all()

        def stop_listener(listener):
            stop(listener)
            with self._arrived:
                self._listeners.discard(listener)
                self._arrived.notify_all()

        def start_adapter(adapter, on_incoming):
            def taken(incoming):
                try:
                    on_incoming(incoming)
                finally:
                    with self._arrived:
                        self._taken -= len(incoming)

            with self._arrived:
                self._listeners.add(adapter._poll_style_listener)
            start(adapter, taken)

        @base.batch_poll_helper
        def poll(listener, timeout=None):
            end = None if timeout is None else time.monotonic() + timeout
            with self._arrived:
                while not listener._stopped.is_set():
                    message = _take(listener)
                    if message is not None:
                        self._moved()
                        self._taken += 1
                        return message
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        break
                    self._arrived.wait(left)
            return None

        for owner, name, function in (
                (impl_fake.FakeExchange, 'deliver_message', deliver_message),
                (impl_fake.FakeListener, 'stop', stop_listener),
                (impl_fake.FakeListener, 'poll', poll),
                (base.PollStyleListenerAdapter, 'start', start_adapter)):
            self.useFixture(fixtures.MockPatchObject(owner, name, function))


def _wait_for_work(worker):
    worker.idle = True
    while True:
        try:
            work = worker.work_queue.get(True, _IDLE)
        except queue.Empty:
            work = None
        else:
            if work is None:
                worker.work_queue.task_done()
        if work is not None:
            worker.idle = False
            return work
        if worker._is_dying():
            raise _thread._Stopping()


def _shutdown(pool, wait=True, *, cancel_futures=False):
    with pool._shutdown_lock:
        if not pool._shutdown:
            pool._shutdown = True
            if wait:
                pool._work_queue.join()
            for worker in pool._workers:
                worker.stop()
            # Each of them takes one and finds that it has to stop.
            for _worker in pool._workers:
                pool._work_queue.put(None)
    if wait:
        for worker in pool._workers:
            worker.join()


def _queues(listener):
    for target in listener._targets:
        yield target, listener._exchange_manager.get_exchange(target.exchange)


def _take(listener):
    for target, exchange in _queues(listener):
        found = exchange.poll(target, listener._pool)
        if found[1] is not None:
            return impl_fake.FakeIncomingMessage(*found)
    return None


def _has_message(listener):
    for target, exchange in _queues(listener):
        with exchange._queues_lock:
            if (exchange._get_server_queue(target.topic, target.server)
                    if target.server else
                    exchange._get_topic_queue(target.topic, listener._pool)):
                return True
    return False
