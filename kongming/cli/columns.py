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

"""Columns that read well and are lists for programs."""

from cliff import columns as cliff_columns

from kongming.host import topology


class Lines(cliff_columns.FormattableColumn):
    """A list; one line each for people."""

    def human_readable(self):
        return '\n'.join(self._value) or '-'

    def machine_readable(self):
        return list(self._value)


class Pcpus(cliff_columns.FormattableColumn):
    """pCPUs; None: any."""

    def human_readable(self):
        if self._value is None:
            return 'any'
        return topology.format_cpu_list(self._value) or '-'

    def machine_readable(self):
        return None if self._value is None else sorted(self._value)


class Maybe(cliff_columns.FormattableColumn):
    """A word; people are shown - for none."""

    def human_readable(self):
        return '-' if self._value is None else str(self._value)

    def machine_readable(self):
        return self._value
