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

"""``python -m tests.fuzz [--seconds 3600] [--corpus FOLDER]``.

Atheris (libFuzzer for Python) has to be installed.  The corpus begins with
what the documentation shows; a folder keeps it from one run to the next. Ends
with an error, and leaves the input in a file, where anything but a clean
error comes up, or one input takes ten seconds.
"""

import argparse
import pathlib
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=['kongming']):
    from tests.fuzz import readers
from tests import documents

_DATA = pathlib.Path(__file__).parents[1] / 'data' / 'cases'
_WORDS = """version cells node pin memory emulator iothreads sched qos cache
profiles when lend power borrow balance grant name templates servers template
image host networks vcpus ram disk properties plan count apart devices near
reserve split solver score level value bound deployment moves map cores
dedicated shared taken pages size_kib total free topology_template
node_templates capabilities virtual_compute virtual_cpu virtual_cpu_pinning
virtual_cpu_pinning_policy virtual_cpu_pinning_rule static dynamic vnfd vdu
guest-epa numa-node-policy cpu-pinning-policy flavorProperties
hpa-feature-attributes hpa-attribute-key kongming:pin.0= kongming:node.0=
kongming:profile.night. hw:numa_nodes= hw:cpu_policy= hw:cpu_dedicated_mask=
hw:numa_cpus.0= hw:numa_mem.0= hw:mem_page_size= dedicated mixed 0-3:4-7
n0c0t0 v0-1 ~ ^ 22:00-06:00 Europe/Berlin Mon-Fri 2.0 1e999 0x0 07 on null
true &a *a << !!int --- {} []
""".split()


def _seeds(folder):
    """What the documentation shows, as each kind of text."""
    texts = {block.text for block in documents.all_blocks('yaml', 'json')}
    texts |= {path.read_text() for path in _DATA.glob('*.yaml')}
    texts |= {'kongming:pin.0=0:2 1:3\nhw:cpu_policy=dedicated',
              'kongming:profile=night\nkongming:qos=0:weight=50'}
    for number, text in enumerate(sorted(texts)):
        for kind in range(len(readers.READERS)):
            (folder / f'{number}-{kind}').write_bytes(
                bytes([kind]) + text.encode())


def main():
    parser = argparse.ArgumentParser(
        prog='python -m tests.fuzz', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=int, default=3600)
    parser.add_argument('--corpus', type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='kongming-fuzz-') as made:
        seeds, words = (pathlib.Path(made, name)
                        for name in ('seeds', 'words'))
        seeds.mkdir()
        _seeds(seeds)
        words.write_text(''.join(f'"{word}"\n' for word in _WORDS))
        corpus = args.corpus or pathlib.Path(made, 'corpus')
        corpus.mkdir(parents=True, exist_ok=True)
        atheris.Setup([sys.argv[0], str(corpus), str(seeds),
                       f'-max_total_time={args.seconds}', '-timeout=10',
                       '-max_len=4096', f'-dict={words}',
                       '-print_final_stats=1', '-rss_limit_mb=2048'],
                      readers.run)
        atheris.Fuzz()


if __name__ == '__main__':
    main()
