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

"""The page of Nova's private parts, out of the list in the code.

``python doc/private.py`` prints the tables; the documentation has them made
whenever it is built.
"""

import itertools

from nova_ext.private import check
from nova_ext.private import symbols

_HEADINGS = {
    check.HOOK: ('Needed by the hook',
                 'Where one of these looks different, nova-compute runs with '
                 "Nova's own driver."),
    check.LIVE: ('Needed by live changes',
                 'Where one of these looks different, servers boot by their '
                 'templates, and no running server is changed.'),
    check.SCHEDULER: ('Needed by filter and weigher',
                      'Where one of these looks different, nova-scheduler '
                      'says so in its log and goes on.'),
}


def page():
    """The tables in reStructuredText, one for each consequence."""
    lines = []
    for need, (heading, text) in _HEADINGS.items():
        lines += [heading, '=' * len(heading), '', text, '',
                  '.. list-table::', '   :header-rows: 1',
                  '   :widths: 34 33 33', '', '   * - symbol',
                  '     - what it is used for',
                  '     - what a change would do unnoticed']
        for file, found in itertools.groupby(
                sorted((each for each in symbols.SYMBOLS
                        if each.need == need),
                       key=lambda each: each.file),
                key=lambda each: each.file):
            lines += [f'   * - {file}', '     -', '     -']
            for each in found:
                lines += [f'   * - ``{each.label}``', f'     - {each.why}',
                          f'     - {each.change}']
        lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    print(page())
