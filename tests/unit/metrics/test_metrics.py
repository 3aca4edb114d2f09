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

"""Samples of a host and of a nova-compute, and Prometheus' text of them."""

import csv
import json
import pathlib
import re

import prometheus_client
from prometheus_client import parser
from prometheus_client import registry
import yaml

from kongming.domain import audit
from kongming import exception
from kongming.metrics import account
from kongming.metrics import catalog
from kongming.metrics import families
from kongming.metrics import host
from tests import base
from tests import clouds
from tests.unit.domain import test_audit

TOP = pathlib.Path(__file__).parents[3]


class _Collector:

    def __init__(self, samples):
        self._samples = list(samples)

    def collect(self):
        return families.families(self._samples)


def text(samples):
    """As Prometheus gets it."""
    found = registry.CollectorRegistry(auto_describe=False)
    found.register(_Collector(samples))
    return prometheus_client.generate_latest(found).decode()


def values(samples):
    """(name, labels by their names) -> value, read back from the text."""
    return {(sample.name, tuple(
        value for _name, value in sorted(sample.labels.items()))):
        sample.value
            for family in parser.text_string_to_metric_families(
                text(samples)) for sample in family.samples}


def looked(*running, misplaced=None):
    return host.samples(
        test_audit.HOST, test_audit.STATE, running,
        audit.find(test_audit.HOST, test_audit.STATE, running),
        misplaced or {})


class HostTest(base.TestCase):

    def pcpus(self, *running):
        """node -> state -> number."""
        found = {}
        for (name, labels), value in values(looked(*running)).items():
            if match := re.fullmatch('kongming_node_(.*)_pcpus', name):
                found.setdefault(int(labels[0]), {})[match[1]] = value
        return found

    def test_pcpus_of_nodes(self):
        found = self.pcpus(test_audit.running(vcpus=((1,), (2,), (3,))))
        # 5 of 1+5 and all of the other node's cores but 2 and 3 are free.
        self.assertEqual(
            {'owned': 1, 'free': 1, 'stranded': 1, 'lent': 0, 'borrowed': 0,
             'offline': 0, 'shared': 2}, found[0])
        self.assertEqual(
            {'owned': 2, 'free': 2, 'stranded': 2, 'lent': 0, 'borrowed': 0,
             'offline': 0, 'shared': 0}, found[1])

    def test_lent_and_borrowed(self):
        """An owner whose profile has its vCPU elsewhere, and a guest there."""
        flavor = test_audit.flavor([0], pin_0='0:1')
        owner = test_audit.running('a', vcpus=((0, 4),), flavor=flavor)
        self.assertEqual((1, 1, 0), self.lending(owner))
        self.assertEqual((1, 1, 1), self.lending(
            owner, test_audit.running('b', vcpus=((0, 1),))))
        # What both may run on is not lent.
        self.assertEqual((1, 0, 0), self.lending(
            test_audit.running('a', vcpus=((1,),)),
            test_audit.running('b', vcpus=((0, 1),))))

    def lending(self, *running):
        found = self.pcpus(*running)[0]
        return found['owned'], found['lent'], found['borrowed']

    def test_violations_by_kind(self):
        found = values(looked(
            test_audit.running('a', vcpus=((1,),)),
            test_audit.running('b', vcpus=((0, 1),))))
        self.assertEqual(
            {kind: float(kind == 'foreign') for kind in audit.KINDS},
            {labels[0]: value for (name, labels), value in found.items()
             if name == 'kongming_violations'})

    def test_memory_and_names(self):
        found = values(looked(
            test_audit.running('a', flavor=test_audit.flavor([0])),
            misplaced={'a': 7}))
        self.assertEqual(7168, found[
            'kongming_server_misplaced_memory_bytes', ('a',)])
        self.assertEqual(1, found[
            'kongming_server_info', ('a', 'server', 'uuid-a')])

    def test_hostile_names(self):
        """A label is one label, on one line, and read back as it was."""
        names = [*clouds.HOSTILE, 'a"} 1\nkongming_forged 1', '\\', '"', '{}']
        names += [f'{name}{n}' for n, name in enumerate(names * 300)]
        self.assertGreater(len(names), 9000)
        made = text(host.Sample(
            'kongming_server_info', (f'd{n}', f'u{n}', name), 1)
            for n, name in enumerate(names))
        self.assertEqual(len(names) + 2, len(made.splitlines()))
        found = {sample.labels['uuid']: sample.labels['server']
                 for family in parser.text_string_to_metric_families(made)
                 for sample in family.samples}
        self.assertEqual({f'u{n}': exception.printable(name)
                          for n, name in enumerate(names)}, found)


class AccountTest(base.TestCase):

    def account(self):
        found = account.Account(
            written=1000.5, moved_kib=3, last_pass=900.0, jobs_running=2,
            jobs_started=5, publisher_lag=1.5, publisher_failures=1,
            load_servers=7, advised_profiles=3, advised_moves=4,
            load_switches=8, load_moves=9)
        for seconds in (0.01, 0.05, 0.3, 700):
            found.changes['success'].add(seconds)
        found.changes['error'].add(2)
        found.passes['success'].add(0.25)
        return found

    def test_there_and_back(self):
        found = self.account()
        self.assertEqual(found, account.Account.from_json(found.to_json()))

    def test_samples(self):
        found = values(self.account().samples())
        name = 'kongming_live_change_duration_seconds'
        self.assertEqual(
            (2, 3, 3, 4, 4, 700.36),
            (*(found[f'{name}_bucket', (bound, 'success')] for bound in (
                '0.05', '0.5', '600.0', '+Inf')),
             found[f'{name}_count', ('success',)],
             round(found[f'{name}_sum', ('success',)], 2)))
        self.assertEqual(1, found[f'{name}_count', ('error',)])
        for name, value in (
                ('kongming_live_change_moved_bytes_total', 3072),
                ('kongming_jobs_running', 2),
                ('kongming_jobs_started_total', 5),
                ('kongming_publisher_lag_seconds', 1.5),
                ('kongming_publisher_failures_total', 1),
                ('kongming_load_servers', 7),
                ('kongming_load_switches_total', 8),
                ('kongming_load_moves_total', 9),
                ('kongming_compute_account_timestamp_seconds', 1000.5)):
            self.assertEqual(value, found[name, ()], name)
        self.assertEqual(1, found[
            'kongming_pass_duration_seconds_count', ('success',)])
        self.assertEqual((3, 4), tuple(
            found['kongming_load_advice', (kind,)]
            for kind in ('profile', 'move')))

    def test_what_is_none(self):
        good = json.loads(self.account().to_json())
        for change in ({'layout': 2}, {'written': 'x'}, {'changes': {}},
                       {'changes': {'success': None, 'error': None}},
                       {'passes': {'success': {'counts': [1], 'seconds': 1},
                                   'error': {'counts': [], 'seconds': 1}}},
                       {'unknown': 1}, {'jobs_running': None}):
            self.assertRaises(
                exception.Invalid, account.Account.from_json,
                json.dumps({**good, **change}))
        for text_ in ('', '[]', 'null', '{', '7', '"x"', '[' * 10000):
            self.assertRaises(exception.Invalid, account.Account.from_json,
                              text_)


class CeilometerTest(base.TestCase):
    """What is shipped names what the hook tells, by its own words."""

    def load(self, name):
        return yaml.safe_load((TOP / 'etc/ceilometer' / name).read_text())

    def reported(self):
        """type of event -> fields of its payload, by the code."""
        code = (TOP / 'nova_ext/live/record.py').read_text()
        found = {}
        for name in ('kongming_live_change', 'kongming_eviction'):
            self.assertIn(f"'{name}'", code)
            found.update(dict.fromkeys(
                (f'instance.{name}.end', f'instance.{name}.error'), code))
        self.assertIn("'kongming_live_changes_stopped'", code)
        found['instance.kongming_live_changes_stopped.error'] = code
        return found

    def check(self, entry, texts):
        reported = self.reported()
        types = entry['event_type']
        for event in types if isinstance(types, list) else [types]:
            for text_ in texts:
                match = re.fullmatch(
                    r'(\$\.)?payload\."nova_object\.data"\.([a-z_]+)', text_)
                self.assertIn(f"'{match[2]}':", reported[event])

    def test_events(self):
        found = self.load('kongming_events.yaml')
        self.assertEqual(set(self.reported()), {
            event for entry in found for event in (
                entry['event_type'] if isinstance(entry['event_type'], list)
                else [entry['event_type']])})
        for entry in found:
            self.check(entry, [trait['fields'] for trait
                               in entry['traits'].values()])

    def test_meters(self):
        for entry in self.load('kongming_meters.yaml')['metric']:
            self.check(entry, [
                entry['resource_id'], *entry['metadata'].values(),
                *([entry['volume']] if isinstance(entry['volume'], str)
                  else [])])


class CatalogTest(base.TestCase):

    def test_conventions(self):
        """https://prometheus.io/docs/practices/naming"""
        for name, metric in catalog.CATALOG.items():
            self.assertRegex(name, '^kongming_[a-z_]+$')
            self.assertEqual(metric.kind == catalog.COUNTER,
                             name.endswith('_total'), name)
            self.assertNotIn('__', name)
            self.assertTrue(metric.text.endswith('.'))
            self.assertLessEqual(len(metric.labels), 3)
            if metric.kind in (catalog.HISTOGRAM, catalog.SUMMARY):
                self.assertTrue(name.endswith('_seconds'))

    def test_all_of_it_is_reported(self):
        reported = {sample.name for sample in [
            *looked(test_audit.running(), misplaced={'a': 0}),
            *account.Account().samples()]}
        self.assertEqual(
            {name for name, metric in catalog.CATALOG.items()
             if metric.source in (catalog.HOST, catalog.COMPUTE)}, reported)

    def test_in_the_documentation(self):
        with open(TOP / 'doc/source/metrics.csv', newline='') as file:
            self.assertEqual([list(row) for row in catalog.table()],
                             list(csv.reader(file)))
