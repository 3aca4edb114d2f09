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

"""Help and completion of all commands of one program."""

from importlib import metadata
import subprocess

#: bash-completion's own helper, as far as it goes.
_BASH = """
_get_comp_words_by_ref() {
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    words=("${COMP_WORDS[@]}")
}
%(completion)s
COMP_WORDS=(%(words)s "")
COMP_CWORD=%(number)s
_%(program)s
printf '%%s\\n' "${COMPREPLY[@]}"
"""


class EveryCommand:
    """Of an entry point group; to be mixed into a test case.

    :cvar GROUP: the group
    :cvar PROGRAM: the program's name
    """

    GROUP = ''
    PROGRAM = ''

    def run_command(self, *words):
        """Run the program; returns what it prints."""
        raise NotImplementedError

    def commands(self):
        """The words of each command."""
        return sorted(tuple(point.name.split('_'))
                      for point in metadata.entry_points(group=self.GROUP))

    def test_help(self):
        for words in self.commands():
            out = self.run_command(*words, '--help')
            self.assertRegex(out, '(?m)^Examples?:$')
            self.assertRegex(out, f"(?m)^ .*{self.PROGRAM} (--os-cloud "
                                  f"admin )?{' '.join(words)}")
            # No markup of the documentation in a terminal.
            self.assertNotIn('.. code-block', out)
            self.assertNotRegex(out, '(?m)::$')

    def test_completion_in_bash(self):
        completion = self.run_command('complete', '--name', self.PROGRAM)
        for words in self.commands():
            for number in range(len(words)):
                self.assertIn(words[number], self.completed(
                    completion, words[:number]))

    def completed(self, completion, words):
        """What bash offers after these words."""
        return subprocess.run(['bash'], input=_BASH % {
            'completion': completion, 'program': self.PROGRAM,
            'words': ' '.join([self.PROGRAM, *words]),
            'number': len(words) + 1}, text=True, check=True,
            capture_output=True).stdout.split()
