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

import io
from unittest import mock

from osc_plugin import progress
from tests import base


class Terminal(io.StringIO):

    def isatty(self):
        return True


class ProgressTest(base.TestCase):

    def test_lines_where_nobody_looks(self):
        stream = io.StringIO()
        with progress.Progress(stream, 2) as shown:
            shown.step('[1/2] this')
            shown.step('[2/2] that')
        self.assertEqual('[1/2] this\n[2/2] that\n', stream.getvalue())

    def test_a_bar_in_a_terminal(self):
        stream = Terminal()
        times = iter([0, 0, 0, 5, 5])
        with progress.Progress(stream, 2, lambda: next(times)) as shown:
            shown.step('[1/2] this')
            shown.step('[2/2] that')
        drawn = stream.getvalue().split('\033[2K\r')
        self.assertEqual([
            '', '░' * 24 + ' [1/2] this (0 s)', '[1/2] this\n',
            '█' * 12 + '░' * 12 + ' [2/2] that (0 s)', '[2/2] that\n'],
            drawn)

    def test_nothing_to_do(self):
        stream = Terminal()
        with progress.Progress(stream, 0):
            pass
        self.assertEqual('', stream.getvalue())

    def test_what_failed_stays_above_the_error(self):
        stream = Terminal()
        try:
            with progress.Progress(stream, 1) as shown:
                shown.step('[1/1] this')
                raise ValueError
        except ValueError:
            stream.write('error')
        self.assertTrue(stream.getvalue().endswith('[1/1] this\nerror'))

    def test_what_takes_longer_than_a_second(self):
        self.enterContext(mock.patch.object(progress, 'PATIENCE', 600))
        for stream, shown in (
                (io.StringIO(), 'reading ...\nfitting ...\n'),
                (Terminal(), '\033[2K\rreading (7 s)\033[2K\rfitting (7 s)'
                             '\033[2K\r')):
            times = iter([0, 7, 7])
            with progress.Waiting(stream, 'reading',
                                  lambda: next(times)) as waiting:
                waiting._draw()
                waiting.say('fitting')
                waiting._draw()
            self.assertEqual(shown, stream.getvalue())

    def test_what_is_short_is_not_shown(self):
        self.enterContext(mock.patch.object(progress, 'PATIENCE', 600))
        for stream in (io.StringIO(), Terminal()):
            with progress.Waiting(stream, 'reading'):
                pass
            self.assertEqual('', stream.getvalue())

    def test_narrow_terminals(self):
        for columns in range(10, 90):
            line = progress.bar(1, 3, 12, '[2/3] create server du-1 on '
                                          'compute1', columns)
            self.assertLess(len(line), columns)
