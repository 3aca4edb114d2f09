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

"""A server that is as busy as it is told to be, for tests of decisions."""

import datetime

from kongming.load import decision
from kongming.load import figures
from kongming.template import template

EVENING = datetime.datetime(2026, 11, 27, 20, tzinfo=datetime.timezone.utc)
IDLE = {'profile.idle.when': 'use<15% for 10m',
        'profile.idle.pin.0': '0-1~v0', 'profile.idle.lend': 'true'}


def flavor(**specs):
    """Its keys without prefix, - for dots."""
    return template.decode({
        f'kongming:{key}': value for key, value in (specs or IDLE).items()})


class Guest:
    """:param template_: its flavor's

    :ivar at: seconds
    :ivar switches: (at, profile, because) of each
    """

    def __init__(self, template_, vcpus=2, most=decision.SWITCHES, at=1000.0,
                 metadata=None):
        self.template, self.most, self.metadata = template_, most, metadata
        self.began = self.at = at
        self.decider = decision.Decider()
        self.vcpus = {vcpu: [0, 0] for vcpu in range(vcpus)}
        self.start = 1
        self.remote = None
        self.switches = []
        self.waited = ''
        self.read()

    @property
    def profile(self):
        return self.decider.decision.profile

    @property
    def moment(self):
        return EVENING + datetime.timedelta(seconds=self.at - self.began)

    def read(self, counters=True):
        if counters is True:
            counters = figures.Counters(
                self.at, {vcpu: figures.Times(*times)
                          for vcpu, times in self.vcpus.items()},
                self.start, self.remote)
        before = self.profile
        self.decider.read(self.template, counters, self.at)
        found = self.decider.decide(self.template, self.metadata, self.moment,
                                    self.at, self.most)
        self.waited = found.waits
        if found.profile != before:
            self.switches.append((self.at, found.profile, found.because))

    def live(self, seconds, use=0.0, wait=0.0, step=5.0, read=True):
        """Go on for so long.

        :param use: per cent of the time in which its vCPUs run
        :param wait: and wait
        :param step: seconds between readings
        :param read: whether it can be read
        """
        end = self.at + seconds
        while self.at < end - 1e-9:
            took = min(step, end - self.at)
            self.at += took
            for times in self.vcpus.values():
                times[0] += round(took * use * 10 ** 7)
                times[1] += round(took * wait * 10 ** 7)
            self.read(True if read else None)
        return self

    def restart(self):
        self.start += 1
        self.vcpus = {vcpu: [0, 0] for vcpu in self.vcpus}
        return self

    def in_an_hour(self):
        """The most switches in any hour."""
        times = [at for at, _profile, _because in self.switches]
        return max((sum(at <= other < at + 3600 for other in times)
                    for at in times), default=0)
