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

"""A real Prometheus scrapes real domains whose pCPUs change.

As root, with this machine's libvirtd and Debian's ``prometheus``. nova-compute
is the test's own process; ``kongming metrics`` and Prometheus are others.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

from kongming.kernel import process
from tests.embedded import witness
from tests.libvirt import test_live

TOP = pathlib.Path(__file__).parents[2]
RULES = TOP / 'etc' / 'prometheus' / 'kongming.rules.yml'
MINUTES = float(os.environ.get('KONGMING_TEST_MINUTES', '10'))
#: Between two scrapes, in seconds.
INTERVAL = 15
CONFIG = """
global: {{scrape_interval: {interval}s, evaluation_interval: {interval}s}}
rule_files: ['{rules}']
scrape_configs:
  - job_name: kongming
    static_configs: [{{targets: ['{target}']}}]
"""


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


@unittest.skipUnless(shutil.which('promtool'),
                     'there is no Prometheus (Debian: prometheus)')
class RulesTest(unittest.TestCase):
    """promtool has nothing to say against what is shipped."""

    def test_rules(self):
        subprocess.run(['promtool', 'check', 'rules', RULES], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(['promtool', 'test', 'rules', 'kongming.test.yml'],
                       check=True, cwd=RULES.parent,
                       stdout=subprocess.DEVNULL)

    def test_dashboard(self):
        """Each of its queries is one, over metrics that there are."""
        from kongming.metrics import catalog
        dashboard = json.loads((TOP / 'etc/grafana/kongming.json')
                               .read_text())
        queries = [target['expr'] for panel in dashboard['panels']
                   for target in panel['targets']]
        self.assertGreater(len(queries), 10)
        with tempfile.TemporaryDirectory() as folder:
            rules = pathlib.Path(folder) / 'queries.yml'
            rules.write_text(json.dumps({'groups': [{
                'name': 'queries', 'rules': [
                    {'record': f'x:{number}', 'expr': query.replace(
                        '$instance', 'x')}
                    for number, query in enumerate(queries)]}]}))
            subprocess.run(['promtool', 'check', 'rules', rules], check=True,
                           stdout=subprocess.DEVNULL)
        for text in (*queries, RULES.read_text()):
            for name in re.findall(r'\bkongming_[a-z_]+', text):
                self.assertIn(re.sub('_(bucket|count|sum)$', '', name),
                              catalog.CATALOG)


@unittest.skipUnless(shutil.which('prometheus'),
                     'there is no Prometheus (Debian: prometheus)')
class ScrapedTest(test_live.LiveBase):
    PUBLISHES = True

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory(prefix='kongming-prometheus-')))
        self.flags(metrics_file=str(self.folder / 'figures.json'),
                   metrics_interval=1, change_interval=1,
                   group='kongming')
        figures = self.computes['compute1'].driver._figures
        figures.start()
        self.addCleanup(figures.stop)
        self.target = f'127.0.0.1:{free_port()}'
        nova_conf = self.folder / 'nova.conf'
        nova_conf.write_text(
            '[compute]\ncpu_dedicated_set = '
            + ','.join(map(str, test_live.PCPUS)) + '\n')
        self.start(
            [sys.executable, '-W', 'ignore', '-c',
             'import sys; from kongming.cli import app; sys.exit(app.main())',
             'metrics', '--listen', self.target.rpartition(':')[2],
             '--survey-interval', '2', '--config-file', str(nova_conf),
             '--nova-compute', str(self.folder / 'figures.json')], 'exporter')
        rules = self.folder / 'rules.yml'
        # As they are shipped, but for how long a violation has to last.
        rules.write_text(RULES.read_text().replace('for: 2m', 'for: 30s'))
        config = self.folder / 'prometheus.yml'
        config.write_text(CONFIG.format(
            interval=INTERVAL, rules=rules, target=self.target))
        port = free_port()
        self.url = f'http://127.0.0.1:{port}'
        self.start(['prometheus', f'--config.file={config}',
                    f'--storage.tsdb.path={self.folder}/data',
                    f'--web.listen-address=127.0.0.1:{port}'], 'prometheus')
        self.until(lambda: self.query('up{job="kongming"}') == ['1'])

    def start(self, words, name):
        log = (self.folder / f'{name}.log').open('w')
        self.addCleanup(log.close)
        process = subprocess.Popen(words, stderr=log, stdout=log, cwd=TOP)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

    def ask(self, path, **query):
        try:
            with urllib.request.urlopen(
                    f'{self.url}/api/v1/{path}?'
                    f'{urllib.parse.urlencode(query)}', timeout=10) as answer:
                return json.load(answer)['data']
        except OSError:
            return None

    def query(self, text):
        """Values of what there is, as text."""
        found = self.ask('query', query=text)
        return [each['value'][1] for each in found['result']] if found else []

    def history(self, metric, seconds):
        """(when, value as text) of a metric's only series, since then."""
        series, = self.ask('query', query=f'{metric}[{seconds}s]')['result']
        return series['values']

    def firing(self):
        """Kinds of violations of which an alert fires."""
        found = self.ask('alerts') or {'alerts': []}
        return {each['labels']['kind'] for each in found['alerts']
                if each['labels']['alertname'] == 'KongMingViolation'
                and each['state'] == 'firing'}

    def until(self, ask, seen=lambda: None, seconds=300):
        """
        :param seen: what to say where it does not come to pass
        :returns: how long that took, in seconds
        """
        begun = time.monotonic()
        while (taken := time.monotonic() - begun) < seconds:
            if ask():
                return taken
            time.sleep(1)
        logs = '\n'.join(path.read_text()[-2000:]
                         for path in self.folder.glob('*.log'))
        self.fail(f'not within {seconds} s: {seen()} '
                  f'{self.ask("alerts")}\n{logs}')

    def violate(self, kind, violate):
        """Its alert fires, and clears after the next pass."""
        violate()
        fired = self.until(lambda: self.firing() == {kind})
        self.reconcile()
        cleared = self.until(lambda: not self.firing())
        print(f'{kind}: fired after {fired:.0f} s, cleared {cleared:.0f} s '
              f'after the pass')

    def test_live_changes_and_violations(self):
        first, second = test_live.PCPUS[:2]
        server = self.boot(first)
        domain = self.domain(server).name()
        info = f'kongming_server_info{{domain="{domain}"}}'
        self.until(lambda: self.query(info))
        begun = time.time()
        changes = 0
        while time.time() < begun + 60 * MINUTES:
            self.want(server, (second, first)[changes % 2])
            changes += 1
            time.sleep(2)
        if changes % 2:
            self.want(server, first)
            changes += 1
        seconds = int(time.time() - begun)

        # Not one scrape was missed, nor did one fail or lack anything.
        up = self.history('up{job="kongming"}', seconds)
        self.assertEqual({'1'}, {value for _when, value in up})
        times = [when for when, _value in up]
        longest = max(after - before
                      for before, after in zip(times, times[1:]))
        self.assertLess(longest, 1.5 * INTERVAL)
        self.assertGreaterEqual(len(times), seconds // INTERVAL - 1)
        for metric in ('kongming_survey_success',
                       'kongming_compute_account_timestamp_seconds',
                       'kongming_violations{kind="overlap"}', info,
                       'kongming_server_vcpu_cpu_seconds_total'
                       f'{{domain="{domain}"}}'):
            self.assertEqual(times, [
                when for when, _value in self.history(metric, seconds)],
                metric)
        self.assertEqual({'1'}, {value for _when, value in self.history(
            'kongming_survey_success', seconds)})
        # nova-compute and the exporter each hold a figure for a second.
        counted = ('kongming_live_change_duration_seconds_count'
                   '{result="success"}')
        self.until(lambda: self.query(counted) == [str(changes)],
                   lambda: (self.query(counted), changes))
        ran, = self.query('kongming_server_vcpu_cpu_seconds_total'
                          f'{{domain="{domain}"}}')
        self.assertGreater(float(ran), 0)
        self.assertEqual([server['name']], [
            each['metric']['server']
            for each in self.ask('query', query=info)['result']])
        # What else runs on this machine makes vCPUs wait.
        self.assertEqual([], self.query(
            'ALERTS{alertstate="firing",alertname!="KongMingRunDelay"}'
            f'[{seconds}s:{INTERVAL}s]'))
        print(f'{len(times)} scrapes in {seconds} s, {longest:.1f} s between '
              f'two at most, {changes} live changes')

        # Somebody pins another domain onto what the server owns, by libvirt
        # and then past it.
        other = self.boot(second)
        self.computes['compute1'].driver.passes.stop()
        stranger = self.domain(other)
        self.violate('overlap', lambda: stranger.pinVcpu(0, tuple(
            pcpu == first for pcpu in range(max(test_live.PCPUS) + 1))))
        thread = process.vcpu_threads(process.pid(stranger))[0]
        self.violate('foreign',
                     lambda: witness.move(thread, {first, second}))

        text = urllib.request.urlopen(f'http://{self.target}/').read()
        subprocess.run(['promtool', 'check', 'metrics'], input=text,
                       check=True)
