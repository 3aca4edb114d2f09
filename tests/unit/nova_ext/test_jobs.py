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

"""Slow work beside other work; all waits are for events."""

import importlib.util
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

from nova_ext.live import jobs
from tests import base

#: For what is to happen at once, on however busy a machine.
LONG = 30


class Descheduled:
    """A lock for which a thread comes late.

    :param is_late: called by each thread that wants it
    """

    def __init__(self, lock, is_late):
        self._lock, self._is_late = lock, is_late

    def __getattr__(self, name):
        return getattr(self._lock, name)

    def __enter__(self):
        if self._is_late():
            time.sleep(4 * jobs.PATIENCE)
        return self._lock.__enter__()

    def __exit__(self, *args):
        return self._lock.__exit__(*args)


class JobsBase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.ended = []
        self.jobs = jobs.Jobs(self.ended.append)
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        self.patch(jobs, 'PATIENCE', 0.05)

    def hang(self, *args):
        self.go_on.wait(LONG)

    def wait_for(self, is_so):
        end = time.monotonic() + LONG
        while not is_so() and time.monotonic() < end:
            time.sleep(0.01)
        return is_so()

    def finish(self):
        self.go_on.set()
        self.assertTrue(self.jobs.wait(LONG))


class StartTest(JobsBase):

    def test_runs_beside_others(self):
        one = self.jobs.start({'a', 'b'}, 'work', self.hang, frozenset({3}))
        other = self.jobs.start({'c'}, 'work', lambda job: None)
        self.assertTrue(other.wait(LONG))
        self.assertEqual({'a', 'b'}, self.jobs.servers)
        self.assertEqual({3}, self.jobs.pcpus)
        self.assertIs(one, self.jobs.of('a'))
        self.finish()
        self.assertTrue(one.wait(LONG))
        self.assertEqual({one, other}, set(self.ended))
        self.assertIsNone(self.jobs.of('a'))

    def test_one_of_a_server(self):
        self.jobs.start({'a'}, 'work', self.hang)
        self.assertIsNone(self.jobs.start({'a', 'b'}, 'work', self.hang))
        self.assertEqual({'a'}, self.jobs.servers)

    def test_as_many_as_may(self):
        for number in range(jobs.MOST):
            self.assertIsNotNone(self.jobs.start({number}, '', self.hang))
        self.assertIsNone(self.jobs.start({'one more'}, '', self.hang))
        self.finish()
        self.assertIsNotNone(self.jobs.start({'one more'}, '', self.hang))

    def test_a_fault_ends_it(self):
        def fail(job):
            raise ValueError('broken')

        self.assertTrue(self.jobs.start({'a'}, '', fail).wait(LONG))
        self.assertEqual(frozenset(), self.jobs.servers)

    def test_none_after_the_end(self):
        self.jobs.start({'a'}, '', self.hang)
        self.jobs.stop(0.01)
        self.assertIsNone(self.jobs.start({'b'}, '', self.hang))
        self.assertEqual({'a'}, self.jobs.servers)

    def test_no_thread_is_to_be_had(self):
        with mock.patch.object(threading.Thread, 'start',
                               side_effect=RuntimeError('no new thread')):
            self.assertRaises(RuntimeError, self.jobs.start, {'a'}, '',
                              self.hang)
        self.assertEqual(frozenset(), self.jobs.servers)
        self.assertIsNotNone(self.jobs.start({'a'}, '', self.hang))

    def test_in_words(self):
        job = self.jobs.start({'a'}, 'a live change: 0:1->2', self.hang)
        self.assertRegex(str(job), r'^a live change: 0:1->2, \d+ s$')
        job.progress = 'step 1 of 2'
        self.assertRegex(str(job), r'^a live change: 0:1->2, step 1 of 2, ')


class EachTest(JobsBase):

    def setUp(self):
        super().setUp()
        self.done = []
        self.late = []

    def each(self, work, *servers):
        return self.jobs.each({server: server for server in servers}, 'work',
                              work, lambda *facts: self.late.append(facts))

    def test_in_turn(self):
        self.patch(jobs, 'PATIENCE', LONG)

        def work(server):
            if server == 'b':
                raise ValueError('broken')
            self.done.append(server)

        errors = self.each(work, 'a', 'b', 'c')
        self.assertEqual(['a', 'c'], self.done)
        self.assertEqual(['broken'], [str(errors.pop('b'))])
        self.assertEqual({}, errors)
        self.assertEqual([], self.late)

    def test_a_slow_one_goes_on_as_a_job(self):
        def work(server):
            if server == 'b':
                self.hang()
                raise ValueError('late')
            self.done.append(server)

        errors = self.each(work, 'a', 'b', 'c')
        self.assertIsInstance(errors['b'], jobs.StillRunning)
        self.assertEqual(['a', 'c'], self.done)
        self.assertTrue(self.jobs.of('b').blocks)
        # It is left alone by who comes next.
        errors = self.each(work, 'b')
        self.assertIsInstance(errors['b'], jobs.StillRunning)
        self.assertEqual([], self.ended)
        self.finish()
        (server, error), = self.late
        self.assertEqual(('b', 'late'), (server, str(error)))

    def test_one_that_hangs_takes_the_patience_with_the_others(self):
        """libvirtd as a whole may hang, and a native server waits."""
        self.patch(jobs, 'PATIENCE', 1.0)
        began = time.monotonic()
        errors = self.each(self.hang, *range(3 * jobs.MOST))
        self.assertLess(time.monotonic() - began, 4)
        self.assertEqual(3 * jobs.MOST, len(errors))
        self.assertEqual(jobs.MOST, len(self.jobs.all))

    def test_done_in_the_moment_before_it_is_late(self):
        """Its thread was not run since, on a busy machine."""
        wanted = []

        def is_late():
            # At first it says how it was, then it asks what is next.
            if not self.done or (
                    threading.current_thread().name != 'kongming-job'):
                return False
            wanted.append(len(self.done))
            return wanted == [1, 1]

        self.jobs._lock = Descheduled(self.jobs._lock, is_late)
        self.assertEqual({}, self.each(self.done.append, 'a'))
        self.assertEqual(['a'], self.done)
        self.assertEqual([], self.late)
        self.assertEqual(frozenset(), self.jobs.servers)

    def test_two_wait_for_one_server(self):
        """Both calls hang; each is a job until it ends."""
        at_it = threading.Barrier(2)
        ways = [threading.Event(), threading.Event()]
        for way in ways:
            self.addCleanup(way.set)

        def work(way):
            at_it.wait(LONG)
            way.wait(LONG)

        threads = [threading.Thread(target=self.jobs.each, args=(
            {'a': way}, 'work', work)) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        jobs_ = self.jobs.all
        self.assertEqual(2, len(jobs_))
        ways[0].set()
        self.assertTrue(self.wait_for(lambda: len(self.ended) == 1))
        # The other call hangs still.
        self.assertEqual({'a'}, self.jobs.servers)
        self.assertIsNone(self.jobs.start({'a'}, '', self.hang))
        ways[1].set()
        self.assertTrue(self.jobs.wait(LONG))
        self.assertTrue(all(job.wait(LONG) for job in jobs_))
        self.assertEqual(jobs_, set(self.ended))

    def test_who_has_a_job_is_left_alone(self):
        self.jobs.start({'a'}, 'it moves', self.hang)
        errors = self.each(self.done.append, 'a', 'b')
        self.assertEqual(['b'], self.done)
        self.assertIn('it moves', str(errors['a']))

    def test_all_hang(self):
        servers = [str(number) for number in range(jobs.MOST + 3)]
        errors = self.each(self.hang, *servers)
        self.assertEqual(set(servers), errors.keys())
        self.assertEqual(jobs.MOST, len(self.jobs.servers))
        self.assertIn('as many jobs run as may', str(errors[servers[-1]]))

    def test_what_ends_a_thread_ends_who_asked(self):
        class Killed(BaseException):
            pass

        def work(server):
            raise Killed()

        self.assertRaises(Killed, self.each, work, 'a')


@unittest.skipUnless(importlib.util.find_spec('eventlet'),
                     'there is no eventlet')
class EventletTest(base.TestCase):
    """Nova's other concurrency backend; it is for a process as a whole."""

    def test_as_with_native_threads(self):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c',
             'import eventlet; eventlet.monkey_patch(); import unittest; '
             f'unittest.main("{__name__}", argv=["", "StartTest", '
             f'"EachTest"])'],
            capture_output=True, text=True, timeout=120)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertRegex(done.stderr, r'Ran 15 tests')
