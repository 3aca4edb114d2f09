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

from kongming.live import progress
from tests import base

LOAD = {'mode': 'advise', 'profile': 'idle', 'because': 'use 3.0%; wait 0%'}


class ProgressTest(base.TestCase):

    def test_both(self):
        text = progress.add(progress.add_load('linux', LOAD), 'a live change')
        self.assertTrue(text.startswith('linux; kongming-load: {'))
        self.assertEqual('a live change', progress.read(text))
        self.assertEqual(LOAD, progress.read_load(text))

    def test_one_of_them(self):
        self.assertEqual(('', LOAD), (
            progress.read(progress.add_load(None, LOAD)),
            progress.read_load(progress.add_load(None, LOAD))))
        text = progress.add('linux', 'a live change')
        self.assertEqual(('a live change', None), (
            progress.read(text), progress.read_load(text)))

    def test_none(self):
        for text in (None, 'linux', 'linux; kongming-load: no JSON',
                     'linux; kongming-load: []'):
            self.assertEqual(('', None), (progress.read(text),
                                          progress.read_load(text)))
