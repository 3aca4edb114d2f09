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

"""Commands whose docstring is the help, as it is written."""

import argparse
import inspect
import re

from cliff import command as cliff_command


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    """argparse would fold the examples into one paragraph."""

    def _fill_text(self, text, width, indent):
        return super()._fill_text(_unindented(text), width, indent)


def _unindented(text):
    """Without the markup that the documentation needs."""
    text = re.sub(r'^\.\. code-block::.*\n\n', '', text, flags=re.MULTILINE)
    return re.sub('::$', ':', text, flags=re.MULTILINE)


class Help(cliff_command.Command):
    """Goes before one of cliff's or osc-lib's commands."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.formatter_class = _AsWritten
        parser.description = inspect.getdoc(self)
        return parser
