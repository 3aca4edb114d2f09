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

"""What a template makes of the places that Nova gives."""

import os
import subprocess
import sys

from kongming.host import usage
from kongming.intent import merge
from kongming.kernel import process
from kongming.libvirt import affinity
from kongming.libvirt import memory
from kongming.live import threads
from kongming.template import template
from tests import base

HOST = usage.HostState([
    usage.NodeState(0, frozenset({2, 3}), shared=frozenset({0, 1}),
                    siblings=[{0, 1}, {2, 3}]),
    usage.NodeState(1, frozenset({6, 7}), shared=frozenset({4, 5}),
                    siblings=[{4, 5}, {6, 7}])])
DEFAULT = threads.Threads(
    {0: frozenset({2}), 1: frozenset({0, 1})}, frozenset({0, 1, 2}),
    {1: frozenset({0, 1, 2})})
OWNED = threads.Owned({0: 2})


def only(*pcpus):
    return frozenset(pcpus)


class ShapeTest(base.TestCase):

    def shape(self, owned=OWNED, default=DEFAULT, profile=None, lent=(),
              **desired):
        return threads.shape(
            default, HOST, owned, merge.Intent(template.decode({
                f'kongming:{key.replace("_", ".")}': value
                for key, value in desired.items()}), profile), only(*lent))

    def test_says_nothing(self):
        self.assertEqual((DEFAULT, []), self.shape(node_0='0'))

    def test_everything(self):
        found, problems = self.shape(
            pin_0='0:2 1~n0c0t1', emulator='1', iothread_1='shared',
            sched='0:fifo:3 1:batch')
        self.assertEqual(([], only(2), only(1), only(1)), (
            problems, found.vcpus[0], found.vcpus[1], found.emulator))
        self.assertEqual({1: only(0, 1, 4, 5)}, found.iothreads)
        self.assertEqual({0: ('fifo', 3), 1: ('batch', 0)}, found.sched)

    def test_ownership_is_not_its_business(self):
        found, problems = self.shape(pin_0='0:3')
        self.assertEqual((DEFAULT, []), (found, problems))

    def test_own_pcpu_of_the_emulator(self):
        owned = threads.Owned({0: 2}, only(3))
        for desired in ('own', '3'):
            self.assertEqual(only(3), self.shape(
                owned, emulator=desired)[0].emulator)
        self.assertEqual(DEFAULT.emulator,
                         self.shape(emulator='own')[0].emulator)

    def test_nothing_that_is_others(self):
        for desired in ({'emulator': '3'}, {'iothread_1': '6,0'},
                        {'pin_0': '1~2'}, {'emulator': 'n7c0t0'},
                        {'iothread_2': '0'}):
            found, (problem,) = self.shape(**desired)
            self.assertEqual(DEFAULT, found)
            self.assertIn(next(iter(desired)).replace('_', '.'), problem)

    def test_usual_scheduling_is_none(self):
        default = threads.Threads(DEFAULT.vcpus, sched={
            0: threads.Sched('fifo', 1)})
        found, _problems = self.shape(default=default, sched='0:other')
        self.assertEqual({}, found.sched)

    def test_a_profile_packs_and_leaves(self):
        owned = threads.Owned({0: 2, 1: 3})
        default = threads.Threads(
            {0: only(2), 1: only(3)}, only(2, 3), {1: only(2, 3)})
        for pins, lend, places, left in (
                ('0-1~v0', 'true', only(2), only(3)),
                ('0-1~2', 'true', only(2), only(3)),
                ('0-1~0,4', 'true', only(0, 4), only(2, 3)),
                ('0-1~v0-1', 'true', only(2, 3), only()),
                ('0-1~v0', 'false', only(2), only())):
            desired = {'pin_0': '0:2 1:3', 'profile_n_pin_0': pins,
                       'profile_n_lend': lend}
            found, problems = self.shape(owned, default, 'n', **desired)
            self.assertEqual([], problems)
            self.assertEqual({0: places, 1: places}, found.vcpus)
            intent = merge.Intent(template.decode({
                'kongming:profile.n.lend': lend}), 'n')
            self.assertEqual(left, threads.lends(found, owned, intent))
            # Other threads leave with the vCPUs, as far as they can.
            others = only(2, 3) - left or places
            self.assertEqual((others, {1: others}),
                             (found.emulator, found.iothreads))
            # Nothing of it while it is not active.
            self.assertEqual(default,
                             self.shape(owned, default, **desired)[0])

    def test_threads_with_pins_of_their_own_do_not_borrow(self):
        owned = threads.Owned({0: 2, 1: 3})
        found, _problems = self.shape(
            owned, threads.Threads({0: only(2), 1: only(3)}, only(2, 3)),
            'n', emulator='v1', profile_n_pin_0='0-1~v0',
            profile_n_lend='true')
        self.assertEqual(only(3), found.emulator)
        self.assertEqual(only(), threads.lends(found, owned, merge.Intent(
            template.decode({'kongming:profile.n.lend': 'true'}), 'n')))

    def test_a_profile_pairs_up(self):
        found, problems = self.shape(
            threads.Owned({0: 2, 1: 3}), threads.Threads(
                {0: only(2), 1: only(3)}), 'n', profile_n_pin_0='0-1:3,0')
        self.assertEqual(({0: only(3), 1: only(0)}, []),
                         (found.vcpus, problems))

    def test_a_profile_reaches_nothing_that_is_others(self):
        for pins in ('0~3', '0:6', '0~v1', '0~2-3', '0-1~n9c0t0'):
            found, (problem,) = self.shape(profile='n', profile_n_pin_0=pins)
            self.assertEqual(DEFAULT, found)
            self.assertIn('profile.n.pin.0', problem)

    def test_borrowed(self):
        lent = (3, 6)
        for borrow, place in (('node', only(0, 1, 3)),
                              ('host', only(0, 1, 3, 6))):
            found, _problems = self.shape(borrow=borrow, lent=lent)
            # A vCPU that owns a pCPU stays there.
            self.assertEqual({0: only(2), 1: place}, found.vcpus)
        self.assertEqual(DEFAULT, self.shape(lent=lent)[0])
        found, _problems = self.shape(borrow='host', pin_0='1~4', lent=lent)
        self.assertEqual(only(3, 4, 6), found.vcpus[1])

    def test_changes_in_words(self):
        found, _problems = self.shape(pin_0='1~1', emulator='1',
                                      iothread_1='0', sched='0:rr:2')
        now = threads.Threads(DEFAULT.vcpus, DEFAULT.emulator,
                              DEFAULT.iothreads, {0: threads.Sched()})
        self.assertEqual(
            ['vCPU 1: pCPU 0-1 -> 1', 'emulator: pCPU 0-2 -> 1',
             'iothread 1: pCPU 0-2 -> 0', 'vCPU 0: other -> rr:2'],
            threads.changes(now, found))
        self.assertEqual([], threads.changes(found, found))


XML = """<domain><memory unit="KiB">65536</memory>{}<cputune>
<vcpupin vcpu="0" cpuset="2"/><vcpupin vcpu="1" cpuset="0-1"/>
<emulatorpin cpuset="0-2"/><iothreadpin iothread="1" cpuset="0-2"/>
</cputune>{}</domain>"""


class Domain:
    """A libvirt that says yes, and does so unless it is told not to."""

    def __init__(self, obeys=True, numatune='', devices=''):
        self.xml, self.calls, self.obeys = (
            XML.format(numatune, devices), [], obeys)

    def XMLDesc(self, flags):
        return self.xml

    def isActive(self):
        return 1

    isPersistent = isActive

    def pinVcpuFlags(self, vcpu, cpumap, flags):
        self.calls.append(('vcpu', vcpu, cpumap, flags))
        if self.obeys:
            self.xml = self.xml.replace('vcpu="1" cpuset="0-1"',
                                        'vcpu="1" cpuset="1"')

    def pinEmulator(self, cpumap, flags):
        self.calls.append(('emulator', cpumap, flags))
        self.xml = self.xml.replace('emulatorpin cpuset="0-2"',
                                    'emulatorpin cpuset="1"')


class AffinityTest(base.TestCase):

    WANTED = threads.Threads({0: only(2), 1: only(1)}, only(1), {})

    def test_read(self):
        self.assertEqual(DEFAULT, affinity.read(Domain()))

    def test_only_what_differs_the_emulator_first(self):
        domain = Domain()
        self.assertTrue(affinity.apply(domain, self.WANTED, 4))
        one = (False, True, False, False)
        self.assertEqual([('emulator', one, 3), ('vcpu', 1, one, 3)],
                         domain.calls)
        self.assertFalse(affinity.apply(domain, self.WANTED, 4))
        self.assertEqual(2, len(domain.calls))

    def test_yes_that_means_no(self):
        error = self.assertRaises(RuntimeError, affinity.apply,
                                  Domain(obeys=False), self.WANTED, 4)
        self.assertIn('vCPU 1: pCPU 0-1 -> 1', str(error))


class MemoryTest(base.TestCase):

    def test_devices_of_the_host(self):
        numatune = ("<numatune><memory mode='restrictive' nodeset='0'/>"
                    "</numatune>")
        for device in ("<hostdev mode='subsystem' type='pci'/>",
                       "<interface type='hostdev'/>"):
            found = memory.read(Domain(
                numatune=numatune, devices=f'<devices>{device}</devices>'))
            self.assertIn('passed through', memory.why_not(found))
        self.assertEqual('', memory.why_not(memory.read(Domain(
            numatune=numatune, devices="<devices><interface "
            "type='ethernet'/></devices>"))))

    def why_not(self, numatune):
        return memory.why_not(memory.read(Domain(numatune=numatune)))

    def test_what_libvirt_moves(self):
        one = '<numatune><memory mode="{}" nodeset="1"/>{}</numatune>'
        cell = '<memnode cellid="{}" mode="restrictive" nodeset="1"/>'
        self.assertEqual('', self.why_not(
            one.format('restrictive', cell.format(0))))
        self.assertIn("bound as 'strict'", self.why_not(
            one.format('strict', '')))
        self.assertIn('has several', self.why_not(one.format(
            'restrictive', cell.format(0) + cell.format(1))))
        self.assertIn("bound as 'None'", self.why_not(''))

    def test_read(self):
        self.assertEqual(
            ('restrictive', only(0, 1), 0, 65536, None, False),
            memory.read(Domain(numatune='<numatune><memory '
                               'mode="restrictive" nodeset="0-1"/>'
                               '</numatune>')))

    def test_scheduler_of_a_real_thread(self):
        """QEMU names its threads; this one names itself."""
        child = subprocess.Popen(
            [sys.executable, '-c', 'import pathlib, time\n'
             'pathlib.Path("/proc/self/comm").write_text("CPU 3/KVM")\n'
             'print(flush=True)\n'
             'time.sleep(60)'], stdout=subprocess.PIPE)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.addCleanup(child.stdout.close)
        child.stdout.readline()
        self.assertEqual({3: ('other', 0)}, process.schedulers(child.pid))
        process.set_scheduler(child.pid, 3, 'batch', 0)
        self.assertEqual({3: ('batch', 0)}, process.schedulers(child.pid))
        self.assertEqual(os.SCHED_BATCH, os.sched_getscheduler(child.pid))
