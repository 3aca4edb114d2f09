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

"""kongming topology, ps, check and apply with real domains."""

import contextlib
import io
import json
import os
import pathlib
import time

import fixtures
import libvirt

from kongming.cli import app
from kongming.host import topology
from kongming.kernel import process
from tests import base
from tests.embedded import guests
from tests.libvirt import test_live

PCPUS = test_live.PCPUS
KVM = os.access('/dev/kvm', os.R_OK | os.W_OK)

XML = """
<domain type='{kind}'>
  <name>{name}</name>
  <metadata>{metadata}</metadata>
  <memory unit='MiB'>64</memory>
  <vcpu>{vcpus}</vcpu>
  <iothreads>1</iothreads>
  <cputune>{tune}</cputune>
  {numatune}
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
      <readonly/>
      <shareable/>
    </disk>
  </devices>
</domain>
"""

NOVA = """
<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
  <nova:name>{name}</nova:name>
  <nova:flavor name="f" id="1">
    <nova:vcpus>1</nova:vcpus>
    <nova:extraSpecs>{specs}</nova:extraSpecs>
  </nova:flavor>
</nova:instance>
"""


def nova(name, **specs):
    """What Nova writes of a server; keys as ``kongming__pin_0``."""
    return NOVA.format(name=name, specs=''.join(
        f'<nova:extraSpec name="{key}">{value}</nova:extraSpec>'
        for key, value in (
            (key.replace('__', ':').replace('_AT_', '.'), value)
            for key, value in specs.items())))


def pin(*pcpus, vcpu=0):
    return f"<vcpupin vcpu='{vcpu}' cpuset='{_list(pcpus)}'/>"


def emulator(*pcpus):
    return f"<emulatorpin cpuset='{_list(pcpus)}'/>"


def iothread(*pcpus):
    return f"<iothreadpin iothread='1' cpuset='{_list(pcpus)}'/>"


def everything(*pcpus):
    return pin(*pcpus) + emulator(*pcpus) + iothread(*pcpus)


def _list(pcpus):
    return topology.format_cpu_list(pcpus)


class HostCliTest(base.TestCase):

    def setUp(self):
        super().setUp()
        if len(PCPUS) < 2:
            self.skipTest('needs two pCPUs')
        self.first, self.second = PCPUS[:2]
        self.connection = libvirt.open('qemu:///system')
        self.addCleanup(self.connection.close)
        # QEMU runs as another user.
        self.folder = pathlib.Path(self.useFixture(
            fixtures.TempDir(rootdir='/var/tmp')).path)
        self.folder.chmod(0o755)
        self.disk = guests.write(str(self.folder), 'busy')

    def start(self, name, tune='', metadata='', numatune='', vcpus=1,
              run=True):
        """Define a domain, and start it."""
        domain = self.connection.defineXML(XML.format(
            kind='kvm' if KVM else 'qemu', name=name, tune=tune,
            metadata=metadata, numatune=numatune, vcpus=vcpus,
            disk=self.disk))
        self.addCleanup(domain.undefine)
        if run:
            domain.create()
            self.addCleanup(self.stop, domain)
        return domain

    def stop(self, domain):
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()

    def kongming(self, *args):
        """Exit status, standard output and error."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app.main([str(arg) for arg in args])
        self.assertNotIn('Traceback', err.getvalue())
        return code, out.getvalue(), err.getvalue()

    def json(self, *args, status=0):
        code, out, err = self.kongming(*args, '-f', 'json')
        self.assertEqual(status, code, err)
        return json.loads(out)

    def check(self, *args):
        """What is found of some domains."""
        code, out, err = self.kongming('check', *args, '-f', 'json')
        found = json.loads(out)
        self.assertEqual((2 if found else 0, ''), (code, err))
        return {(each['kind'], each['domain'], each['thread'],
                 tuple(each['pcpus']), each['other']) for each in found}

    def kinds(self, *args):
        return {found[0] for found in self.check(*args)}

    def thread(self, domain, vcpu=0):
        return process.vcpu_threads(process.pid(domain))[vcpu]

    def document(self, text):
        path = self.folder / 'template.yaml'
        path.write_text(text)
        return path


class LookTest(HostCliTest):

    def test_topology(self):
        """Of libvirt and of /sys."""
        found = self.json('topology', '--shared', self.first,
                          '--dedicated', self.second)
        for node in found:
            with open('/sys/devices/system/node/'
                      f'node{node["node"]}/cpulist') as file:
                online = topology.parse_cpu_list(file.read())
            self.assertEqual(online, {pcpu for core in node['cores']
                                      for pcpu in core['pcpus']})
            for core in node['cores']:
                with open(f'/sys/devices/system/cpu/cpu{core["pcpus"][0]}/'
                          'topology/thread_siblings_list') as file:
                    self.assertEqual(topology.parse_cpu_list(file.read()),
                                     set(core['pcpus']))
        self.assertEqual([self.second], found[0]['dedicated'])
        self.assertEqual([self.first], found[0]['shared'])
        conf = self.folder / 'nova.conf'
        conf.write_text(f'[compute]\ncpu_dedicated_set = {self.second}\n')
        found = self.json('topology', '--config-file', conf)
        self.assertEqual(([self.second], []),
                         (found[0]['dedicated'], found[0]['shared']))

    def test_ps(self):
        domain = self.start('km-ps', pin(self.second) + pin(
            self.first, self.second, vcpu=1) + emulator(self.first), vcpus=2)
        rows = self.json('ps', 'km-ps', '--long')
        pid = process.pid(domain)
        found = {row['thread']: row for row in rows}
        self.assertEqual(['vCPU 0', 'vCPU 1', 'I/O thread 1', 'emulator'],
                         [row['thread'] for row in rows])
        both = [self.first, self.second]
        for thread, intended, actual in (
                ('vCPU 0', [self.second], [self.second]),
                ('vCPU 1', both, both), ('I/O thread 1', None, both),
                ('emulator', [self.first], [self.first])):
            self.assertEqual((intended, actual, []), tuple(
                found[thread][key] for key in
                ('intended', 'actual', 'drift')))
        self.assertEqual(self.second, found['vCPU 0']['last_pcpu'])
        self.assertEqual('other', found['vCPU 0']['scheduler'])
        self.assertEqual([str(self.thread(domain))],
                         found['vCPU 0']['threads'])
        self.assertEqual(str(pid), found['emulator']['threads'][0])
        self.assertEqual(domain.UUIDString(), found['emulator']['uuid'])

        tid = self.thread(domain, 1)
        os.sched_setaffinity(tid, {self.second})
        os.sched_setscheduler(tid, os.SCHED_BATCH, os.sched_param(0))
        found = {row['thread']: row for row in self.json('ps', 'km-ps')}
        self.assertEqual(([self.second], ['affinity'], 'batch'), tuple(
            found['vCPU 1'][key] for key in ('actual', 'drift', 'scheduler')))
        self.assertEqual([], found['vCPU 0']['drift'])
        self.assertIn('! affinity', self.kongming('ps', 'km-ps')[1])

    def test_ps_of_a_server(self):
        """The template that Nova has written into the domain."""
        server = nova('du-1', hw__cpu_policy='dedicated',
                      kongming__pin_AT_0=f'0:{self.second}',
                      kongming__profile_AT_night_AT_pin_AT_0=(
                          f'0~{self.first}'))
        domain = self.start('km-server', everything(self.second), server)
        row, *_others = self.json('ps', 'km-server', '--long')
        self.assertEqual(('du-1', None, [self.second], []), tuple(
            row[key] for key in ('server', 'profile', 'template', 'drift')))
        domain.pinVcpu(0, self.map(self.first))
        row, *_others = self.json('ps', 'km-server', '--long')
        self.assertEqual(('night', [self.first], []), tuple(
            row[key] for key in ('profile', 'template', 'drift')))
        domain.pinVcpu(0, self.map(self.first, self.second))
        row, *_others = self.json('ps', 'km-server', '--long')
        self.assertEqual(['template'], row['drift'])

    def map(self, *pcpus):
        return tuple(pcpu in pcpus for pcpu in range(
            self.connection.getInfo()[2]))


class CheckTest(HostCliTest):

    def test_nothing(self):
        self.start('km-one', everything(self.first))
        self.start('km-two', everything(self.second))
        self.assertEqual(set(), self.check('km-one', 'km-two'))

    def test_overlap(self):
        self.start('km-one', everything(self.second))
        self.start('km-two', everything(self.second))
        found = self.check('km-one', '--kind', 'overlap')
        self.assertEqual({('overlap', 'km-two', 'vCPU 0', (self.second,),
                           'km-one')}, found)

    def test_shared_servers_float(self):
        """One pCPU that is shared has no owner, as nova.conf says."""
        for name in ('km-one', 'km-two'):
            self.start(name, everything(self.first), nova(name))
        self.assertEqual(set(), self.check('km-one', 'km-two'))
        self.start('km-three', everything(self.first))
        found = self.kinds('km-one', 'km-two')
        self.assertEqual({'foreign', 'emulator'}, found)
        self.assertEqual(set(), self.check(
            'km-one', 'km-two', '--shared', self.first,
            '--dedicated', self.second))

    def test_somebody_on_an_owned_pcpu(self):
        self.start('km-one', everything(self.second))
        self.start('km-two', pin(self.first) + emulator(
            self.first, self.second) + iothread(self.second))
        self.assertEqual({
            ('emulator', 'km-two', 'emulator', (self.second,), 'km-one'),
            ('foreign', 'km-two', 'I/O thread 1', (self.second,), 'km-one'),
        }, self.check('km-one', 'km-two'))

    def test_lent(self):
        """A borrower may be where an owner that lends has left."""
        lender = nova('lender', hw__cpu_policy='dedicated',
                      kongming__pin_AT_0=f'0:{self.second}',
                      kongming__profile_AT_night_AT_pin_AT_0=(
                          f'0~{self.first}'),
                      kongming__profile_AT_night_AT_lend='true')
        borrower = nova('borrower', kongming__borrow='host')
        sets = ('--shared', self.first, '--dedicated', self.second)
        self.start('km-lender', everything(self.first), lender)
        self.start('km-borrower', pin(self.first, self.second) + emulator(
            self.first) + iothread(self.first), borrower)
        names = ('km-lender', 'km-borrower', *sets)
        self.assertEqual(set(), self.check(*names))
        # One that does not borrow may not.
        self.start('km-other', pin(self.first, self.second) + emulator(
            self.first) + iothread(self.first), nova('other'))
        self.assertEqual({('foreign', 'km-other', 'vCPU 0', (self.second,),
                           'km-lender')}, self.check('km-other', *names))

    def test_affinity(self):
        domain = self.start('km-one', pin(self.first, self.second))
        os.sched_setaffinity(self.thread(domain), {self.second})
        self.assertEqual({('affinity', 'km-one', 'vCPU 0', (self.second,),
                           None)}, self.check('km-one', '--kind', 'affinity'))

    def test_template(self):
        self.start('km-one', everything(self.first), nova(
            'du-1', hw__cpu_policy='dedicated',
            kongming__pin_AT_0=f'0:{self.second}'))
        self.assertEqual({('template', 'km-one', 'vCPU 0', (self.first,),
                           None)}, self.check('km-one', '--kind', 'template'))

    def test_memory_where_it_belongs(self):
        """On a host of one node it can be nowhere else."""
        domain = self.start(
            'km-one', everything(self.first),
            numatune="<numatune><memory mode='strict' nodeset='0'/>"
                     '</numatune>')
        self.assertEqual(set(), self.check('km-one', '--kind', 'memory'))
        kib = 64 * 1024
        for _second in range(50):  # the guest boots
            found = process.ram(process.pid(domain), kib)
            if found and found[0].kib:
                break
            time.sleep(0.1)
        (bound, where), = found
        self.assertIn(bound, (None, frozenset({0})))
        self.assertEqual({0}, set(where))
        self.assertLessEqual(where[0], kib)

    def test_can_not_look(self):
        """Neither 0 nor 2, and one line that says why."""
        for args, code, words in (
                (['--connect', 'qemu+unix:///system?socket=/nowhere'], 1,
                 'is libvirtd running'),
                (['--config-file', '/nowhere.conf'], 1, '/nowhere.conf'),
                (['km-nobody'], 1, "No domain 'km-nobody' runs here"),
                (['--kind', 'nonsense'], 64, 'invalid choice')):
            found, out, err = self.kongming('check', *args)
            self.assertEqual((code, ''), (found, out))
            self.assertIn(words, err)
            if code == 1:
                self.assertEqual(1, err.count('\n'), err)
        self.assertEqual(64, self.kongming('chekc')[0])

    def test_other_users(self):
        if os.geteuid():
            self.skipTest('only root can be somebody else')
        self.start('km-one')
        os.seteuid(65534)
        try:
            code, out, err = self.kongming('check')
        finally:
            os.seteuid(0)
        self.assertEqual((1, ''), (code, out))
        self.assertIn('root', err)
        self.assertEqual(1, err.count('\n'), err)


class ApplyTest(HostCliTest):

    def setUp(self):
        super().setUp()
        self.both = (self.first, self.second)

    def apply(self, text, *args, name='km-plain'):
        return self.json('apply', self.document(text), name, *args)

    def refused(self, text, words, *args):
        code, out, err = self.kongming('apply', self.document(text),
                                       'km-plain', *args)
        self.assertEqual((1, '', 1), (code, out, err.count('\n')), err)
        self.assertIn(words, err)

    def tuning(self, domain):
        """What stands in the live and in the persistent XML."""
        return [topology.parse_cpu_list(self.pins(domain, flags))
                for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)]

    def pins(self, domain, flags):
        xml = domain.XMLDesc(flags)
        return xml.partition("<vcpupin vcpu='0' cpuset='")[2].partition(
            "'")[0]

    def affinities(self, domain):
        return {(task.kind, task.number): task.allowed
                for task in process.tasks(process.pid(domain))}

    def test_live_and_persistent(self):
        domain = self.start('km-plain', vcpus=2)
        text = f"""
            version: 1
            cells: {{0: {{pin: "0:{self.second} 1~{self.first}"}}}}
            emulator: "{self.first}"
            iothreads: {{1: "{self.first}"}}
            sched: "0:batch"
            """
        planned = self.apply(text, '--dry-run')
        self.assertEqual(5, len(planned['live']))
        self.assertEqual(set(self.both),
                         self.affinities(domain)['vCPU', 0])
        done = self.apply(text)
        self.assertEqual((planned['live'], planned['persistent']),
                         (done['live'], done['persistent']))
        found = self.affinities(domain)
        self.assertEqual(
            [{self.second}, {self.first}, {self.first}, {self.first}],
            [found[key] for key in (('vCPU', 0), ('vCPU', 1),
                                    ('I/O thread', 1), ('emulator', 0))])
        self.assertEqual([{self.second}] * 2, self.tuning(domain))
        self.assertEqual('batch', process.schedulers(process.pid(domain))[
            0].policy)
        again = self.apply(text)
        self.assertEqual(([], []), (again['live'], again['persistent']))
        self.assertEqual(set(), self.check('km-plain'))
        # And after the next start.
        domain.destroy()
        domain.create()
        again = self.apply(text)
        self.assertEqual(([], []), (again['live'], again['persistent']))
        # What the template says nothing of stays.
        done = self.apply(f'{{version: 1, cells: {{0: {{pin: '
                          f'"0~{self.first}-{self.second}"}}}}}}')
        self.assertEqual(1, len(done['live']))
        self.assertEqual({self.first}, self.affinities(domain)['vCPU', 1])
        self.assertEqual('batch', process.schedulers(process.pid(domain))[
            0].policy)

    def test_persistent_only(self):
        domain = self.start('km-plain', run=False)
        text = (f'{{version: 1, cells: {{0: {{node: 0, pin: '
                f'"0:{self.second}"}}}}}}')
        done = self.apply(text)
        self.assertEqual([], done['live'])
        self.assertEqual(2, len(done['persistent']))
        domain.create()
        self.addCleanup(self.stop, domain)
        self.assertEqual({self.second}, self.affinities(domain)['vCPU', 0])
        self.assertIn("<memory mode='strict' nodeset='0'/>",
                      domain.XMLDesc(0))
        again = self.apply(text)
        self.assertEqual(([], []), (again['live'], again['persistent']))
        text = text.replace('node: 0', 'node: 0, memory: preferred')
        for change in ['memory: strict -> preferred'], []:
            again = self.apply(text)
            self.assertEqual(([], change),
                             (again['live'], again['persistent']))

    def test_only_the_next_start_differs(self):
        """As after 'virsh vcpupin --live'."""
        domain = self.start('km-plain')
        domain.pinVcpuFlags(0, tuple(
            pcpu == self.second for pcpu in range(self.second + 1)),
            libvirt.VIR_DOMAIN_AFFECT_LIVE)
        done = self.apply(f'{{version: 1, cells: {{0: {{pin: '
                          f'"0:{self.second}"}}}}}}')
        self.assertEqual([], done['live'])
        self.assertEqual(1, len(done['persistent']))
        self.assertEqual([{self.second}] * 2, self.tuning(domain))

    def test_memory(self):
        """Unbound memory is bound while the domain runs."""
        self.start('km-plain')
        text = '{version: 1, cells: {0: {node: 0}}}'
        self.assertEqual(['memory: node any -> 0'],
                         self.apply(text)['live'])
        again = self.apply(text)
        self.assertEqual(([], []), (again['live'], again['persistent']))

    def test_profile(self):
        domain = self.start('km-plain')
        text = f"""
            version: 1
            cells: {{0: {{pin: "0:{self.second}"}}}}
            profiles:
              night:
                when: Mon-Fri 22:00-06:00 UTC
                cells: {{0: {{pin: "0~{self.first}"}}}}
            """
        done = self.apply(text, '--profile', 'night')
        self.assertEqual({self.first}, self.affinities(domain)['vCPU', 0])
        self.assertIn('not on time', done['notes'][0])
        self.apply(text)
        self.assertEqual({self.second}, self.affinities(domain)['vCPU', 0])
        self.refused(text, "no profile 'day'", '--profile', 'day')

    def test_taken_back(self):
        """The kernel refuses one thing: nothing has changed."""
        domain = self.start('km-plain', everything(self.first))
        pid = process.pid(domain)
        if process.may_be_realtime(pid, self.thread(domain)):
            self.skipTest('this host has time for real-time threads')
        self.refused(f'{{version: 1, sched: "0:fifo:1", cells: {{0: {{pin: '
                     f'"0:{self.second}"}}}}}}', 'cpu.rt_runtime_us is 0')
        self.assertEqual([{self.first}] * 2, self.tuning(domain))
        self.assertEqual({self.first}, self.affinities(domain)['vCPU', 0])

    def test_refused(self):
        domain = self.start('km-plain', everything(self.first))
        self.start('km-other', everything(self.second))

        def pinned(value):
            return f'{{version: 1, cells: {{0: {{pin: "{value}"}}}}}}'

        for text, words in (
                (pinned(f'0:{self.second}'),
                 f'pCPU {self.second} is owned by the domain km-other'),
                (pinned(f'0~{self.first}-{self.second}'),
                 f'pCPU {self.second} is owned by the domain km-other'),
                (pinned('0:4000'), 'no pCPU 4000 online'),
                (pinned('0:n7c0t0'), 'has no node 7'),
                (pinned('3:0'), 'and no vCPU 3'),
                (pinned('0'), 'column 1'),
                ('{version: 1, qos: "0:quota=50%"}', 'qos'),
                ('{version: 1, emulator: own}', 'emulator = own'),
                ('{version: 1, emulator: shared}', '--shared'),
                ('{version: 1, iothreads: {4: "0"}}', 'iothread.4')):
            self.refused(text, words)
        code, _out, err = self.kongming('apply', '/nowhere.yaml', 'km-plain')
        self.assertEqual((1, '/nowhere.yaml: No such file or directory\n'),
                         (code, err))
        code, _out, err = self.kongming(
            'apply', self.document(pinned('0:0')), 'km-nobody')
        self.assertEqual((1, 1), (code, err.count('\n')))
        self.assertIn("there is no domain 'km-nobody'", err)
        self.assertEqual([{self.first}] * 2, self.tuning(domain))

    def test_server_of_nova(self):
        domain = self.start('km-plain', everything(self.first), nova('du-1'))
        text = (f'{{version: 1, cells: {{0: {{pin: "0:{self.second}"}}}}, '
                f'sched: "0:batch"}}')
        self.refused(text, 'is the server du-1')
        self.assertEqual([{self.first}] * 2, self.tuning(domain))
        self.apply(text, '--force')
        self.assertEqual([{self.second}] * 2, self.tuning(domain))
        # Its metadata is as it was.
        self.assertIn('<nova:name>du-1</nova:name>', domain.XMLDesc(
            libvirt.VIR_DOMAIN_XML_INACTIVE))
