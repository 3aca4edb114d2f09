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

"""What Ceilometer makes of notifications, by the definitions that are shipped.

By Ceilometer's own parser (``tox -e ceilometer``). That the payloads are those
of nova-compute is tested beside the code (tests.unit.nova_ext).
"""

import pathlib
import shutil
import tempfile
import unittest

from tests import notifications

try:
    from ceilometer.event import converter
    from ceilometer.meter import notifications as meters
    from ceilometer import service
except ImportError:
    converter = None

FOLDER = pathlib.Path(__file__).parents[2] / 'etc' / 'ceilometer'


@unittest.skipUnless(converter, 'there is no Ceilometer')
class DefinitionsTest(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.conf = service.prepare_service([], [])
        # As meters.d, which has files of meters only.
        folder = self.enterContext(tempfile.TemporaryDirectory())
        shutil.copy(FOLDER / 'kongming_meters.yaml', folder)
        self.conf.set_override('meter_definitions_dirs', [folder],
                               group='meter')

    def samples(self, notification):
        """name -> what is measured."""
        process = meters.ProcessMeterNotifications(self.conf, None)
        found = [*process.build_sample(notification)]
        self.assertEqual(len(found), len({each.name for each in found}))
        return {each.name: each for each in found}

    def event(self, notification):
        """(type, traits by name)."""
        self.conf.set_override(
            'definitions_cfg_file', str(FOLDER / 'kongming_events.yaml'),
            group='event')
        found = converter.setup_events(self.conf, None).to_event(
            'info', notification)
        return found.event_type, {trait.name: trait.value
                                  for trait in found.traits}

    def test_each_is_loaded(self):
        """None is refused, as Ceilometer logs and goes on without it."""
        with self.assertNoLogs('ceilometer', 'WARNING'):
            self.samples(notifications.live_change())
            self.event(notifications.live_change())
        process = meters.ProcessMeterNotifications(self.conf, None)
        self.assertEqual(
            {'kongming.live_change.duration',
             'kongming.live_change.moved_memory', 'kongming.eviction'},
            {each.cfg['name'] for each in process.definitions})

    def test_meters_of_a_live_change(self):
        found = self.samples(notifications.live_change())
        self.assertEqual(
            {'kongming.live_change.duration': ('gauge', 's', 1.5),
             'kongming.live_change.moved_memory': ('delta', 'KiB', 2048)},
            {name: (each.type, each.unit, each.volume)
             for name, each in found.items()})
        for each in found.values():
            self.assertEqual(notifications.SERVER, each.resource_id)
            self.assertEqual('compute1', each.resource_metadata['host'])
            self.assertEqual('Success', each.resource_metadata['result'])

    def test_a_change_that_moved_nothing(self):
        found = self.samples(notifications.live_change(moved_kib=0))
        self.assertEqual(0, found['kongming.live_change.moved_memory'].volume)

    def test_meter_of_an_eviction(self):
        found = self.samples(notifications.eviction())
        self.assertEqual(['kongming.eviction'], [*found])
        self.assertEqual(1, found['kongming.eviction'].volume)

    def test_nothing_is_measured_of_a_stop(self):
        self.assertEqual({}, self.samples(notifications.stop()))

    def test_events(self):
        kind, traits = self.event(notifications.live_change(
            result='Error', reason='pCPU 9 is taken'))
        self.assertEqual('instance.kongming_live_change.error', kind)
        self.assertLessEqual({
            'resource_id': notifications.SERVER, 'display_name': 'web-1',
            'host': 'compute1', 'request_id': 'req-1', 'result': 'Error',
            'reason': 'pCPU 9 is taken', 'seconds': 1.5,
            'moved_kib': 2048}.items(), traits.items())
        kind, traits = self.event(notifications.eviction())
        self.assertEqual('instance.kongming_eviction.end', kind)
        self.assertLessEqual({
            'resource_id': notifications.SERVER, 'display_name': 'web-1',
            'host': 'compute1', 'result': 'Success'}.items(), traits.items())
        kind, traits = self.event(notifications.stop())
        self.assertEqual('instance.kongming_live_changes_stopped.error', kind)
        self.assertLessEqual({'host': 'compute1', 'reason': 'five failed'
                              }.items(), traits.items())
