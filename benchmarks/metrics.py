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

"""What ``kongming metrics`` costs on a host: ``python -m benchmarks.metrics``.

Paused domains of this machine's libvirtd (as root), defined as Nova defines
its servers, a hundred vCPUs in all, each vCPU a thread as real as any.
``kongming metrics --listen`` is scraped every 15 seconds, with the headers of
Prometheus; printed is the CPU time of its process after its first look at the
host, as a share of one core, and that of libvirtd meanwhile. In eleven minutes
the memory of the domains is walked through once more. The one-shot's cost is
what it says itself.
"""

import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import libvirt

from benchmarks import natives

INTERVAL = 15.0
#: Of one core.
GOAL = 0.001
#: Of Prometheus 2.42.
HEADERS = {'Accept': 'application/openmetrics-text;version=1.0.0,'
                     'application/openmetrics-text;version=0.0.1;q=0.75,'
                     'text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
           'Accept-Encoding': 'gzip'}
_PROGRAM = [sys.executable, '-W', 'ignore', '-c',
            'import sys; from kongming.cli import app; '
            'sys.exit(app.main())', 'metrics', '--config-file', '/dev/null']
_XML = """
<domain type='qemu'>
  <name>kongming-metrics-{number}</name>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>vnf-{number}</nova:name>
      <nova:flavor name="nfv">
        <nova:extraSpecs>
          <nova:extraSpec name="hw:cpu_policy">dedicated</nova:extraSpec>
          <nova:extraSpec name="kongming:node.0">0</nova:extraSpec>
        </nova:extraSpecs>
      </nova:flavor>
    </nova:instance>
  </metadata>
  <memory unit='MiB'>16</memory>
  <vcpu>{vcpus}</vcpu>
  <cputune>{pins}</cputune>
  <numatune><memory mode='strict' nodeset='0'/></numatune>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
</domain>
"""


@contextlib.contextmanager
def domains(number, vcpus):
    """Paused ones, gone at the end."""
    connection = libvirt.open('qemu:///system')
    pins = ''.join(f"<vcpupin vcpu='{vcpu}' cpuset='0'/>"
                   for vcpu in range(vcpus))
    made = []
    try:
        for each in range(number):
            domain = connection.defineXML(_XML.format(
                number=each, vcpus=vcpus, pins=pins))
            made.append(domain)
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        yield
    finally:
        for domain in made:
            if domain.isActive():
                domain.destroy()
            domain.undefine()
        connection.close()


def libvirtd():
    """Its pid; None where another one is to blame."""
    for name in ('libvirtd', 'virtqemud'):
        found = subprocess.run(['pgrep', '-x', name], text=True,
                               stdout=subprocess.PIPE).stdout.split()
        if found:
            return int(found[0])
    return None


def scrape(url):
    """The size of an answer in bytes, and whether it was compressed."""
    with urllib.request.urlopen(
            urllib.request.Request(url, headers=HEADERS)) as answer:
        return len(answer.read()), answer.headers['Content-Encoding']


def serve(seconds):
    """Print what scrapes cost."""
    process = subprocess.Popen([*_PROGRAM, '--listen', '0'], text=True,
                               stderr=subprocess.PIPE)
    try:
        url = process.stderr.readline().strip()
        size, encoding = scrape(url)
        daemon = libvirtd()
        pids = [process.pid, *([daemon] if daemon else [])]
        before = [*map(natives.cpu_seconds, pids)]
        begun = time.monotonic()
        scrapes = 0
        while time.monotonic() < begun + seconds:
            time.sleep(INTERVAL)
            scrape(url)
            scrapes += 1
        taken = time.monotonic() - begun
        used = [natives.cpu_seconds(pid) - start
                for pid, start in zip(pids, before)]
        print(f'  {scrapes} scrapes of {size} bytes ({encoding}) in '
              f'{taken:.0f} s: {used[0]:.3f} s of CPU time, '
              f'{100 * used[0] / taken:.3f} % of a core   goal '
              f'{100 * GOAL:g} %')
        if daemon:
            print(f'  libvirtd meanwhile: {used[1]:.3f} s, '
                  f'{100 * used[1] / taken:.3f} %', flush=True)
    finally:
        process.terminate()
        process.wait()


def once():
    """Print what the one-shot costs."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / 'kongming.prom'
        for _round in range(3):
            said = subprocess.run(
                [*_PROGRAM, '--output', path], check=True, text=True,
                stderr=subprocess.PIPE).stderr.strip().rpartition(': ')[2]
            print(f'  once: {said}, {path.stat().st_size} bytes', flush=True)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.metrics', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--domains', type=int, default=25)
    parser.add_argument('--vcpus', type=int, default=4)
    parser.add_argument('--seconds', type=float, default=660)
    args = parser.parse_args()
    print(f'{args.domains} domains of {args.vcpus} vCPUs', flush=True)
    with domains(args.domains, args.vcpus):
        once()
        serve(args.seconds)


if __name__ == '__main__':
    main()
