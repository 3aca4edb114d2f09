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

"""What the fuzzer tries: a function a kind of text, and what has to hold.

Each either goes through or raises one of our errors, printable and of some
length.  What a template is read from is read again from what it is written
as, and is the same.
"""

import datetime
import random

from kongming.deployment import document as deployment
from kongming import exception
from kongming.fit import demand
from kongming.fit import fit
from kongming.fit import lint
from kongming.host import usage
from kongming.intent import calendar
from kongming.intent import merge
from kongming.placement import scheduling
from kongming.plan import document as plan
from kongming.plan import hosts_file
from kongming.plan import request
from kongming.template import document
from kongming.template import guest
from kongming.template import markup
from kongming.template import template
from kongming.vnfd import sol001

NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
GRANTED = template.decode({
    'kongming:node.0': '0', 'kongming:pin.0': '0:2 1:3',
    'kongming:qos': '0:weight=200,quota=50%', 'kongming:sched': '0:fifo:1',
    'kongming:profile.night.when': '22:00-06:00 Europe/Berlin',
    'kongming:profile.night.pin.0': '0-1~2',
    'kongming:grant': 'profile template qos'})
HOST = usage.HostState([usage.NodeState(
    number, frozenset(range(first + 2, first + 8)), frozenset({first + 5}),
    shared=frozenset({first, first + 1}), memory_mib=4096,
    pages=[usage.Pages(4, 1048576, 1048576), usage.Pages(2048, 64, 64)],
    siblings=[{p, p + 1} for p in range(first, first + 8, 2)])
    for number, first in ((0, 0), (1, 8))])


def template_document(text):
    found = document.parse(text)
    _again(found)
    assert document.from_document(document.to_document(found)) == found
    for _period in calendar.periods(found, None, NOON,
                                    NOON + datetime.timedelta(days=2)):
        pass


def deployment_document(text):
    for flavor in deployment.parse(text, may_be_open=True).flavors.values():
        _ask(flavor.demand)
        flavor.specs('x')


def plan_request(text):
    found = request.Request(document.load(text))
    for name in found.hosts():
        found.reserved(name, HOST)
    found.call({name: f'{name}.example.org' for name in found.hosts()})


def plan_file(text):
    found = plan.parse(text)
    assert plan.parse(plan.dump(found)) == found


def hosts(text):
    hosts_file.read(text)


def descriptor(text):
    found = sol001.read(text)
    for problem in found.lost:
        assert str(problem).isprintable()
    _again(found.template())
    guest.from_flavor(found.vcpus or 4, found.ram_mib or 64, found.specs)


def values(text):
    markup.load(text)


def extra_specs(text):
    specs = _pairs(text)
    scheduling.of_flavor(specs, 1)
    asked = guest.from_flavor(int(len(text) % 17), 512, specs)
    desired = template.decode(specs)
    _again(desired)
    for problem in demand.check_guest(asked, desired):
        assert problem.isprintable()
    _ask(demand.Demand(asked, desired))


def metadata(text):
    found = merge.merge(GRANTED, _pairs(text), NOON)
    assert all(str(one).isprintable() for one in found.refused)
    assert found.base.grant == GRANTED.grant
    merge.next_change(GRANTED, _pairs(text), NOON)


READERS = (template_document, deployment_document, plan_request, plan_file,
           hosts, descriptor, values, extra_specs, metadata)


def _pairs(text):
    """A line a key, as Nova would keep it."""
    return {key[:255]: value[:255] for key, _eq, value in (
        line.partition('=') for line in text.split('\n')[:128]) if key}


def _again(found):
    assert template.decode(template.encode(found, most=None)) == found


def _ask(wanted):
    for warning in lint.lint(wanted, HOST):
        assert warning.isprintable()
    str(fit.fit(HOST, wanted, limits=usage.Limits(16.0, 1.5)))


def run(data):
    """Try one input: its first byte says of which kind the text is.

    :param data: bytes
    """
    if not data:
        return
    text = data[1:].decode('utf-8', 'replace')
    # Solvers and layouts choose at random here and there.
    random.seed(0)
    try:
        READERS[data[0] % len(READERS)](text)
    except exception.InvalidTemplate as exc:
        assert exc.problems
        for problem in exc.problems:
            said = str(problem)
            assert said.isprintable() and len(said) < 800, said
    except exception.KongmingError as exc:
        assert str(exc).isprintable(), str(exc)
