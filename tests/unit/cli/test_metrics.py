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

"""``kongming metrics`` with a host that is a value."""

import contextlib
import io
import os
import pathlib
import signal
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import types
from unittest import mock
import urllib.request

import fixtures
from prometheus_client import parser

from kongming.cli import app
from kongming.cli import exporter
from kongming.cli import metrics
from kongming.cli import survey
from kongming import exception
from kongming.metrics import account
from tests import base
from tests.unit.domain import test_audit


def looked(*running):
    return survey.Look(test_audit.HOST, test_audit.STATE, list(running),
                       [os.getpid()] * len(running))


class ExporterTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.account = self.folder / 'account.json'
        self.warned = []
        self.looks = []
        self.host = looked(test_audit.running('a'))
        self.now = 1000.0
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.cli.survey.look', self.look))
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.cli.exporter.time', types.SimpleNamespace(
                monotonic=lambda: self.now, time=lambda: self.now)))

    def look(self, args, memory, parse):
        self.looks.append(memory)
        if isinstance(self.host, Exception):
            raise self.host
        return self.host

    def exporter(self, **intervals):
        return exporter.Exporter(None, str(self.account), '1.0',
                                 warn=self.warned.append, **intervals)

    def values(self, found):
        return {(sample.name, sample.labels): sample.value
                for sample in found.samples()}

    def test_how_often_the_host_is_looked_at(self):
        found = self.exporter(survey_interval=60, memory_interval=600)
        for _scrape in range(80):
            found.collect()
            self.now += 15
        self.assertEqual((20, 2), (len(self.looks), sum(self.looks)))

    def test_a_slow_libvirt_makes_no_gap(self):
        """What was found before is told, and the rest as ever."""
        answers = threading.Event()
        self.addCleanup(answers.set)
        found = self.exporter(survey_interval=60, patience=0.05)
        key = 'kongming_survey_timestamp_seconds', ()
        with mock.patch.object(self, 'look', side_effect=lambda *args: (
                answers.wait(60), self.host)[1]) as look:
            self.useFixture(fixtures.MonkeyPatch(
                'kongming.cli.survey.look', look))
            # Nothing is known yet.
            values = self.values(found)
            self.assertNotIn(key, values)
            self.assertEqual(1, values['kongming_build_info', ('1.0',)])
            answers.set()
            self.wait_for(1000.0, lambda: self.values(found).get(key))
            answers.clear()
            for self.now in (1060.0, 1075.0, 1200.0):
                values = self.values(found)
                self.assertEqual(1000.0, values[key])
                self.assertIn(('kongming_violations', ('foreign',)), values)
            # It is asked once, however long that takes.
            self.assertEqual(2, look.call_count)
            answers.set()
            self.wait_for(1200.0, lambda: self.values(found)[key])

    def wait_for(self, wanted, ask):
        for _ in range(200):
            if ask() == wanted:
                return
            threading.Event().wait(0.05)
        self.assertEqual(wanted, ask())

    def test_times_of_vcpus(self):
        """From the kernel's account of this very thread."""
        mine = test_audit.running('a', vcpus=((1,), (2,)))
        tids = [int(name) for name in os.listdir('/proc/self/task')][:1]
        tasks = tuple(task._replace(id=tids[0]) for task in mine.tasks
                      if task.kind == test_audit.VCPU)
        self.host = looked(types.SimpleNamespace(
            **{**vars(mine), 'tasks': tasks}))
        found = self.exporter()
        before, after = [self.values(found).get((
            'kongming_server_vcpu_cpu_seconds_total', ('a',)))
            for _ in range(2)]
        self.assertGreater(before, 0)
        self.assertGreaterEqual(after, before)
        # One of them has ended: nothing rather than half.
        self.host = looked(types.SimpleNamespace(**{**vars(mine), 'tasks': (
            tasks[0], tasks[1]._replace(id=2 ** 30))}))
        self.assertNotIn(('kongming_server_vcpu_cpu_seconds_total', ('a',)),
                         self.values(found))

    def test_a_host_that_can_not_be_seen(self):
        found = self.exporter()
        self.assertEqual(1, self.values(found)['kongming_survey_success', ()])
        self.host = exception.HypervisorError(uri='qemu:///system',
                                              reason='away')
        self.warned.clear()
        for _scrape in range(3):
            values = self.values(found)
        self.assertEqual(0, values['kongming_survey_success', ()])
        # Nothing of before is told as if it were so.
        self.assertNotIn(('kongming_violations', ('overlap',)), values)
        self.assertEqual(1, len([line for line in self.warned
                                 if 'away' in line]))

    def test_memory_stays_until_it_is_looked_at_again(self):
        domain = test_audit.running('a', ram=(
            test_audit.domain_mod.Ram(frozenset({0}), {1: 5}),))
        self.host = looked(domain)
        found = self.exporter(survey_interval=60, memory_interval=600)
        self.values(found)
        self.host = looked(test_audit.running('a'))
        self.now += 60
        values = self.values(found)
        self.assertEqual((5120, 1), (
            values['kongming_server_misplaced_memory_bytes', ('a',)],
            values['kongming_violations', ('memory',)]))
        self.now += 600
        values = self.values(found)
        self.assertEqual((0, 0), (
            values['kongming_server_misplaced_memory_bytes', ('a',)],
            values['kongming_violations', ('memory',)]))

    def test_account(self):
        found = self.exporter()
        self.values(found)
        self.assertIn('No such file', self.warned[-1])
        self.account.write_text(account.Account(jobs_running=3).to_json())
        self.assertEqual(3, self.values(found)['kongming_jobs_running', ()])
        for content in (b'{', b'\xff', b'x' * 100000):
            self.account.write_bytes(content)
            self.assertNotIn(('kongming_jobs_running', ()),
                             self.values(found))
            self.assertIn(str(self.account), self.warned[-1])


class AddressTest(base.TestCase):

    def test_addresses(self):
        for text, expected in (
                ('9177', ('127.0.0.1', 9177)), ('[::1]:1', ('::1', 1)),
                ('192.0.2.7:9177', ('192.0.2.7', 9177)),
                ('localhost:0', ('localhost', 0))):
            self.assertEqual(expected, metrics.address(text))
        for text in ('', 'x', '1:2:3', '::1', '70000', ':9', '-1', '9177 '):
            self.assertRaises(metrics.argparse.ArgumentTypeError,
                              metrics.address, text)


class CommandTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.cli.survey.look', lambda args, memory, parse: looked(
                test_audit.running('a'))))

    def run_command(self, *words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = app.main(['metrics', *words])
            except SystemExit as exc:
                code = exc.code
        return code, out.getvalue(), err.getvalue()

    def test_once(self):
        code, out, _err = self.run_command()
        self.assertEqual(0, code)
        names = {family.name for family
                 in parser.text_string_to_metric_families(out)}
        self.assertLessEqual({'kongming_violations', 'kongming_survey_success',
                              'kongming_node_owned_pcpus'}, names)

    def test_into_a_file(self):
        path = self.folder / 'km.prom'
        code, out, err = self.run_command('--output', str(path))
        self.assertEqual((0, ''), (code, out))
        self.assertRegex(err, r'km\.prom: [0-9.]+ s of CPU time')
        self.assertIn('kongming_violations', path.read_text())
        # node_exporter is another user.
        self.assertTrue(path.stat().st_mode & stat.S_IROTH)
        self.assertEqual([path], [*self.folder.iterdir()])
        code, _out, err = self.run_command(
            '--output', str(self.folder / 'no' / 'km.prom'))
        self.assertEqual(1, code)
        self.assertIn('No such file', err)

    def test_mistakes(self):
        for words, reason in (
                (('--listen', '0.0.0.0:0'), 'no address of loopback'),
                (('--listen', '[::]:0', '--tls-cert', 'x', '--tls-key', 'y'),
                 'Say --tls-client-ca as well'),
                (('--listen', '0', '--tls-cert', 'x'), 'go together'),
                (('--listen', '192.0.2.7:0'), '--unauthenticated'),
                (('--listen', '0.0.0.0:0', '--tls-cert', 'x',
                  '--unauthenticated'), 'go together'),
                (('--listen', '0', '--unauthenticated', '--tls-cert', 'x',
                  '--tls-key', 'y', '--tls-client-ca', 'z'),
                 'leave it or --unauthenticated out'),
                (('--tls-cert', 'x'), '--tls-cert goes with --listen'),
                (('--unauthenticated',),
                 '--unauthenticated goes with --listen'),
                (('--listen', '192.0.2.7:9177', '--unauthenticated'),
                 '192.0.2.7:9177: Cannot assign'),
                (('--listen', '0', '--survey-interval', '-1'),
                 '--survey-interval is a number'),
                (('--listen', '0', '--survey-interval', 'nan'),
                 '--survey-interval is a number'),
                (('--listen', '0', '--tls-cert', '/nope', '--tls-key',
                  '/nope'), '/nope'),
                (('--config-file', '/nope'), '/nope')):
            code, _out, err = self.run_command(*words)
            self.assertEqual(1, code, words)
            self.assertIn(reason, err)
        with mock.patch.dict(sys.modules, {'prometheus_client': None}):
            code, _out, err = self.run_command()
        self.assertEqual(1, code)
        self.assertIn('pip install prometheus-client', err)

    def served(self, *words):
        """What is heard of a server that is ended by Ctrl-C then."""
        said, ended = io.StringIO(), threading.Event()
        # A shell's background jobs, such as these tests, may ignore it.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(
            signal.SIGINT, signal.default_int_handler))

        def client():
            while not ended.wait(0.02):
                if said.getvalue().endswith('/metrics\n'):
                    self.ask(said.getvalue().split()[-1])
                    # It is asleep again.
                    ended.wait(0.1)
                    signal.pthread_kill(threading.main_thread().ident,
                                        signal.SIGINT)
                    return

        thread = threading.Thread(target=client)
        thread.start()
        try:
            with contextlib.redirect_stderr(said):
                self.assertEqual(0, app.main(['metrics', '--listen', *words]))
        finally:
            ended.set()
            thread.join()

    def ask(self, url):
        try:
            self.heard = urllib.request.urlopen(
                url, context=getattr(self, 'context', None)).read().decode()
        except OSError as exc:
            self.heard = str(exc)

    def test_serves(self):
        self.served('127.0.0.1:0')
        self.assertIn('kongming_violations{kind="overlap"} 0.0', self.heard)

    def test_serves_whoever_asks(self):
        self.served('0.0.0.0:0', '--unauthenticated')
        self.assertIn('kongming_violations', self.heard)

    def test_serves_known_clients_only(self):
        cert, key = self.folder / 'cert.pem', self.folder / 'key.pem'
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes',
             '-keyout', key, '-out', cert, '-subj', '/CN=localhost',
             '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'],
            check=True, stderr=subprocess.DEVNULL)
        tls = ('127.0.0.1:0', '--tls-cert', str(cert), '--tls-key', str(key),
               '--tls-client-ca', str(cert))
        self.context = ssl.create_default_context(cafile=cert)
        self.served(*tls)
        self.assertNotIn('kongming_', self.heard)
        self.context.load_cert_chain(cert, key)
        self.served(*tls)
        self.assertIn('kongming_violations', self.heard)
