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
"""What a vCPU gets of its pCPUs: from per cent to a cgroup and back."""

import math

import hypothesis
from hypothesis import strategies as st

from kongming.live import qos
from kongming.template import grammar
from kongming.template import template
from kongming.template import tuning
from tests import base

Share = qos.Share


def wanted(value, vcpus=2, version=1, **quota):
    """What it is to have, and problems.

    :param value: of kongming:qos, or None
    :param quota: Nova's quota:cpu_...
    """
    return qos.wanted(
        tuning.parse_qos(value) if value else (), vcpus,
        qos.native({f'quota:cpu_{name}': str(number)
                    for name, number in quota.items()}), version)


class Kernel:
    """One cgroup that refuses what the kernel refuses.

    kernel/sched/core.c, tg_set_cfs_bandwidth and tg_set_bandwidth: quota and
    period of at least 1 ms, a burst of the quota at most where there is one.
    tg_cfs_schedulable_down: version 1 gives no more than the cgroup above has.
    """

    #: Quota to period of the cgroup above.
    above = math.inf

    def __init__(self, version, weight=100, quota=None, period=100000,
                 burst=0):
        self.version = version
        self.cpu_shares = round(weight * 10.24)
        self.quota, self.period, self.burst = quota, period, burst

    def write(self, name, text):
        quota, period, burst = self.quota, self.period, self.burst
        if name in ('cpu.shares', 'cpu.weight'):
            assert name == qos.FILES[self.version][0]
            self.cpu_shares = (int(text) if self.version == 1
                               else round(int(text) * 10.24))
            assert 2 <= self.cpu_shares <= 262144
        elif name == 'cpu.max':
            first, second = text.split()
            quota = None if first == 'max' else int(first)
            period = int(second)
        elif name == 'cpu.cfs_quota_us':
            quota = None if text == '-1' else int(text)
        elif name == 'cpu.cfs_period_us':
            period = int(text)
        else:
            assert name == qos.FILES[self.version][-1], name
            burst = int(text)
        assert 1000 <= period <= 1000000, period
        if quota is not None:
            assert quota >= 1000, quota
            assert burst <= quota, (burst, quota)
            assert self.version == 2 or quota / period <= self.above
        self.quota, self.period, self.burst = quota, period, burst

    def files(self):
        quota = self.quota
        if self.version == 1:
            texts = [self.cpu_shares, -1 if quota is None else quota,
                     self.period, self.burst]
        else:
            texts = [round(self.cpu_shares / 10.24),
                     f'{"max" if quota is None else quota} {self.period}',
                     self.burst]
        return {name: f'{text}\n' for name, text in
                zip(qos.FILES[self.version], texts, strict=True)}


weights = st.integers(1, 10000)
percents = st.integers(100, 10000)
periods = st.integers(1000, 1000000)


@st.composite
def kernels(draw):
    quota = draw(st.none() | st.integers(1000, 1000000))
    return Kernel(draw(st.sampled_from((1, 2))), draw(weights), quota,
                  draw(periods),
                  draw(st.integers(0, 1000000 if quota is None else quota)))


@st.composite
def entries(draw):
    quota = draw(st.none() | percents)
    return tuning.Qos(
        (grammar.Range(0, 0),), draw(st.none() | weights), quota,
        None if quota is None else draw(st.none() | st.integers(100, quota)))


class PropertyTest(base.TestCase):

    @hypothesis.given(kernels(), entries(), periods,
                      st.none() | st.integers(1000, 1000000))
    def test_written_and_read(self, kernel, entry, period, quota):
        """From whatever there is to whatever is wanted, refused nowhere."""
        now = qos.parse(kernel.version, kernel.files())
        cpu_shares, _problems = qos.wanted(
            (entry,), 1, qos.Native(None, quota, period), kernel.version)
        # The cgroup above has no more than what is needed.
        kernel.above = max((share.quota_us / share.period_us
                            for share in (now, cpu_shares.vcpus[0])
                            if share.quota_us is not None), default=0)
        todo = qos.writes(kernel.version, now, cpu_shares.vcpus[0])
        for name, text in todo:
            kernel.write(name, text)
        after = qos.parse(kernel.version, kernel.files())
        self.assertEqual(cpu_shares.vcpus[0], after)
        self.assertEqual([], qos.writes(kernel.version, after,
                                        cpu_shares.vcpus[0]))
        self.assertEqual(now == after, not todo)

    @hypothesis.given(percents, periods)
    def test_share_of_a_pcpu_is_what_was_asked_for(self, percent, period):
        """However short the period that Nova has set."""
        (cpu_shares, _domain), _problems = wanted(
            f'0:quota={percent // 100}.{percent % 100:02}%', period=period)
        share = cpu_shares[0]
        self.assertLess(
            abs(share.quota_us / share.period_us - percent / 10000), 0.002)

    @hypothesis.given(st.lists(weights, min_size=1, max_size=64),
                      st.sampled_from((1, 2)))
    def test_domain_is_worth_its_vcpus(self, given, version):
        """Busy all, a vCPU of weight 100 has what it natively has."""
        cpu_shares, problems = wanted(' '.join(
            f'{vcpu}:weight={weight}' for vcpu, weight in enumerate(given)),
            vcpus=len(given), version=version)
        usual, least, most = qos.DOMAIN[version]
        self.assertEqual([], problems)
        self.assertLessEqual(least, cpu_shares.domain)
        self.assertLessEqual(cpu_shares.domain, most)
        self.assertLess(abs(cpu_shares.domain - usual * sum(given) / 100
                            / len(given)), 0.51)


class WantedTest(base.TestCase):

    def test_nothing_said(self):
        for version, usual in ((1, 1024), (2, 100)):
            self.assertEqual(
                (({0: Share(), 1: Share()}, usual), []),
                wanted(None, version=version))

    def test_only_what_is_named(self):
        """The other vCPU, and what is not said of this one, are Nova's."""
        nova = {'shares': 2048, 'quota': 40000, 'period': 50000}
        cpu_shares, problems = wanted('1:weight=300', **nova)
        self.assertEqual(([], 4096), (problems, cpu_shares.domain))
        self.assertEqual({0: Share(100, 40000, 50000),
                          1: Share(300, 40000, 50000)}, cpu_shares.vcpus)
        cpu_shares, _problems = wanted('1:quota=20%,burst=10%', **nova)
        self.assertEqual(({0: Share(100, 40000, 50000),
                           1: Share(100, 10000, 50000, 5000)}, 2048),
                         cpu_shares)

    def test_no_limit_in_the_words_of_nova(self):
        self.assertEqual(({0: Share()}, 1024),
                         wanted(None, vcpus=1, quota=-1)[0])

    def test_quota_of_nova(self):
        self.assertEqual(4000, qos.native({
            'quota:cpu_quota': '20000', 'quota:cpu_period': '50000'}).quota)
        self.assertIsNone(qos.native({'quota:cpu_quota': '-1'}).quota)

    def test_short_period(self):
        """1 % of 10 ms is less than the kernel takes."""
        cpu_shares, _problems = wanted('0:quota=1%', period=10000)
        self.assertEqual(Share(100, 1000, 100000), cpu_shares.vcpus[0])
        self.assertEqual(Share(100, None, 10000), cpu_shares.vcpus[1])

    def test_vcpu_that_it_has_not(self):
        self.assertEqual(wanted(None), wanted('7:weight=300'))

    def test_more_than_there_is(self):
        cpu_shares, (problem,) = wanted('0-1:weight=400', version=2,
                                        **{'shares': 9000})
        self.assertEqual(10000, cpu_shares.domain)
        self.assertIn('cpu_shares 36000; 1 to 10000', problem)
        # What Nova says by itself is Nova's to answer for.
        self.assertEqual([], wanted(None, version=2,
                                    **{'shares': 20000})[1])

    def test_concerns(self):
        for key, value, found in (
                ('pin.0', '0:2', False), ('grant', 'template', False),
                ('grant', 'qos', True), ('qos', '0:weight=9', True),
                ('profile.x.qos', '0:weight=9', True)):
            self.assertEqual(found, qos.concerns(template.decode(
                {f'kongming:{key}': value})), key)

    def test_changes_in_words(self):
        now = qos.CpuShares({0: Share(), 1: Share(100, 1000, 20000),
                             2: Share(), 9: Share()}, 1024)
        then, _problems = wanted('0:weight=400 1:quota=50%,burst=12.5%',
                                 vcpus=3)
        self.assertEqual(
            ['vCPU 0: weight=100 -> weight=400',
             'vCPU 1: weight=100,quota=5% (period 20000 us) -> '
             'weight=100,quota=50%,burst=12.5%',
             'cpu_shares: 1024 -> 2048'], qos.changes(now, then))
        self.assertEqual([], qos.changes(then, then))
