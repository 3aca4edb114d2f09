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
"""A step of a change that is not begun, and memory that no kernel is asked
to move.
"""

import threading
import types
from unittest import mock

import fixtures
from nova import objects

from nova_ext.live import memory_moves
from nova_ext.live import record
from nova_ext.live import steps
from tests import base

objects.register_all()
UUID = '5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11'
XML = """<domain type='kvm'><name>kongming-is-not-here</name>
<memory unit='KiB'>65536</memory>
<numatune><memory mode='strict' nodeset='0'/>
<memnode cellid='0' mode='strict' nodeset='0'/></numatune>
<cpu><numa><cell id='0' cpus='0' memory='65536' unit='KiB'/></numa></cpu>
</domain>"""


class BusyTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.server = objects.Instance(
            uuid=UUID, host='compute1', node='compute1', vm_state='active',
            task_state=None)
        for name, value in (
                ('nova.objects.Instance.get_by_uuid',
                 lambda *_args, **_kwargs: self.server),
                ('nova_ext.live.steps.write_ahead.uncertain', lambda _rt: {}),
                ('nova_ext.live.steps.write_ahead.host_topology',
                 lambda _compute: None),
                ('nova_ext.live.steps.write_ahead.is_charged', self.fail)):
            self.useFixture(fixtures.MonkeyPatch(name, value))
        self.steps = steps.Steps(types.SimpleNamespace(
            _tracker=mock.Mock(host='compute1')), mock.Mock())

    def refused(self):
        return str(self.assertRaises(
            record.ChangeFailed, self.steps._own, None, UUID, self.fail))

    def test_nova_does_something_else_with_it(self):
        self.server.task_state = 'image_snapshot'
        self.assertIn('the server is busy (active, image_snapshot)',
                      self.refused())

    def test_rescued(self):
        self.server.vm_state = 'rescued'
        self.assertIn('the server is busy (rescued, None)', self.refused())

    def test_on_another_host_by_now(self):
        self.server.host = 'compute2'
        self.assertIn('the server is busy', self.refused())


class RollbackTest(base.TestCase):

    def test_it_waits_for_no_other_one(self):
        """What it needs where its memory was is not asked for."""
        moves = memory_moves.MemoryMoves()
        go_on, at_it, done = threading.Event(), threading.Event(), []
        self.addCleanup(go_on.set)

        def run_on():
            at_it.set()
            go_on.wait(20)

        with mock.patch.object(moves, '_go'):
            one = threading.Thread(target=moves.move, args=(
                'a', None, None, None, run_on, None))
            other = threading.Thread(target=moves.move, args=(
                'b', None, None, None, lambda: done.append('b'), None))
            one.start()
            self.assertTrue(at_it.wait(20))
            other.start()
            other.join(2)
            self.assertEqual(['b'], done)
            go_on.set()
            one.join(20)
            other.join(20)


class AnotherMachineTest(base.TestCase):
    """The domain is another libvirtd's, and so is its process."""

    def setUp(self):
        super().setUp()
        self.domain = mock.Mock()
        self.domain.name.return_value = 'kongming-is-not-here'
        self.domain.UUIDString.return_value = UUID
        self.domain.XMLDesc.return_value = XML

    def test_its_memory_does_not_move(self):
        self.assertIn('its process is not on this machine',
                      memory_moves.MemoryMoves.why_not(self.domain))

    def test_nor_is_it_moved_back(self):
        self.assertIn('its process is not on this machine', str(
            self.assertRaises(
                record.ChangeFailed, memory_moves.MemoryMoves().move_home,
                objects.Instance(uuid=UUID), self.domain,
                objects.InstanceNUMATopology(cells=[]))))
