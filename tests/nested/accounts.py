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

"""What runs inside the nested host, on a Python that is brought along.

``python accounts.py VERB ARGUMENTS`` prints one line of JSON.  It imports as
little as it can: under emulation each module takes its time.
"""

import json
import os
import sys
import time

from kongming.interference import difference
from kongming.interference import disturbance
from kongming.interference import irq as irq_mod
from kongming.interference import report
from kongming.interference import text
from kongming.kernel import accounts
from kongming.kernel import irq


def main(verb, arguments):
    print(json.dumps(VERBS[verb](**json.loads(arguments))), flush=True)


def watch(owners, domains, threads, seconds, interval=1.0, after=()):
    """A report of so many seconds.

    :param owners: pCPU -> (domain, thread, id of the thread)
    :param domains: pid -> domain
    :param threads: thread id -> what it is of its domain
    :param after: what to do once the first reading is made: ``vda`` (reads
        of the disk by direct I/O on the first of the pCPUs)
    """
    found = disturbance.Owners(
        {int(pcpu): disturbance.Owner(*each)
         for pcpu, each in owners.items()},
        {int(pid): name for pid, name in domains.items()},
        {int(tid): what for tid, what in threads.items()})
    reader, tally = accounts.Reader(), report.Tally()
    tids = [owner.tid for owner in found.pcpus.values()]
    begin = last = reader.read(found.pcpus, tids)
    counted = _interrupts(min(found.pcpus))
    for what in after:
        _INJECT[what](min(found.pcpus))
    cost = time.process_time()
    number = 0
    while last.at - begin.at < seconds:
        time.sleep(interval)
        now = reader.read(found.pcpus, tids)
        tally.add(difference.between(last, now), found)
        last, number = now, number + 1
    cost = (time.process_time() - cost) / number
    return {**text.document(tally.report(
        reader.settings(), {each.number: each for each in irq.read()}, {})),
        'counted': {label: count - counted.get(label, 0) for label, count
                    in _interrupts(min(found.pcpus)).items()
                    if count != counted.get(label, 0)},
        'queues': bool(last.queues), 'cpu_ms': cost * 1000}


def _interrupts(pcpu):
    """Number of the interrupt -> how often it came to a pCPU."""
    with open('/proc/interrupts') as file:
        header, *lines = file
    column = 1 + header.split().index(f'CPU{pcpu}')
    return {words[0][:-1]: int(words[column]) for words in map(
        str.split, lines) if words[0][:-1].isdigit()}


def _read_disk(pcpu):
    child = os.fork()
    if not child:
        os.sched_setaffinity(0, {pcpu})
        disk = os.open('/dev/vda', os.O_RDONLY | os.O_DIRECT)
        import mmap
        page = mmap.mmap(-1, 4096)
        for at in range(50):
            os.preadv(disk, [page], at * 4096)
        os._exit(0)
    os.waitpid(child, 0)


_INJECT = {'vda': _read_disk}


def clear(owned, others):
    """Have nothing of this host on some pCPUs that can be elsewhere.

    :returns: numbers of the interrupts that were moved, and that the kernel
        moves for nobody
    """
    with accounts.Reader() as reader:
        for thread in reader.read(owned).threads.values():
            if thread.allowed & set(owned) and len(thread.allowed) > len(
                    owned):
                try:
                    os.sched_setaffinity(thread.tid, others)
                except OSError:
                    pass  # of the kernel, for that very pCPU
    mask = sum(1 << pcpu for pcpu in others)
    with open('/sys/devices/virtual/workqueue/cpumask', 'w') as file:
        file.write(f'{mask:x}')
    return follow(owned, others)


def follow(owned, others):
    """Interrupts follow.

    :param others: pCPUs that can get no owner
    """
    online = set(os.sched_getaffinity(1)) | set(owned) | set(others)
    machine = irq.machine(online - set(others))
    wanted = [(each.irq.number, each.pcpus) for each in irq_mod.moves(
        irq.read(), owned, machine) if each.pcpus]
    refused = irq.move(wanted)
    return {'moved': sorted({number for number, _pcpus in wanted}
                            - {each.number for each in refused}),
            'managed': sorted(each.number for each in refused
                              if each.managed),
            'refused': [each.reason for each in refused
                        if not each.managed],
            'allowed': {each.number: sorted(each.allowed)
                        for each in irq.read()}}


def balance(owned, others):
    """Have irqbalance keep off."""
    balancer = irq.irqbalance()
    banned = irq.banned(balancer.pid)
    online = irq.machine(()).online
    wanted = irq_mod.bans(owned, online - set(others), banned,
                          balancer.configured)
    irq.ban(balancer.pid, wanted)
    return {'before': sorted(banned),
            'configured': sorted(balancer.configured),
            'wanted': wanted and sorted(wanted)}


def banned():
    return sorted(irq.banned(irq.irqbalance().pid))


VERBS = {function.__name__: function
         for function in (watch, clear, follow, balance, banned)}

if __name__ == '__main__':
    main(*sys.argv[1:])
