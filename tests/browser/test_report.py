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

"""The page of a report in a headless Chromium, as a user has it."""

from tests.browser import test_page
from tests import clouds
from tests import reports


class ReportBase(test_page.PageBase):

    def show(self, _cloud):
        self.show_file(reports.drawn())

    def rows(self, table):
        return self.browser.texts(f'#{table} tbody tr')

    def search(self, text):
        self.browser.evaluate("document.querySelector('#search').value = '';"
                              'document.activeElement.blur()')
        self.browser.press('/')
        self.browser.type(text)


class SeenTest(ReportBase):

    def test_what_is_reported(self):
        self.assertEqual('compute1', self.browser.text('#cloud'))
        self.assertEqual('10.0 s until 2026-11-27 20:00:00 UTC',
                         self.browser.text('#moment'))
        text = self.browser.text('#sums')
        for name, number in (('Owned pCPUs', 10), ('Disturbed', 2),
                             ('Disturbances', 3), ('Background', 1),
                             ('Domains', 3)):
            self.assertRegex(text, f'{name}\n+{number}(\n|$)')
        self.assertEqual(
            ['2\tthread\tbackup (4711)\t312\t2,501,234\t'
             'taskset -apc 0-1 4711 # backup',
             '3\tinterrupt\tbackup-TxRx-3 (IRQ 36)\t9,000\tnot measured\t'
             'echo 0-1 > /proc/irq/36/smp_affinity_list',
             '2\tkernel\tkworker/u64 writeback\t\u2264 7\tnot measured\t'
             'echo 3 > /sys/devices/virtual/workqueue/cpumask'],
            self.rows('entries'))
        self.assertEqual('2\tupf-1 vCPU 0\t10.00%\t0.20%\t2\t319',
                         self.rows('owned')[0])
        self.assertIn('The trace has lost 3 events',
                      self.browser.text('#doubts'))
        self.assertNotIn('MiB free', self.browser.text('#detail'))
        self.shot('report-light')
        self.browser.scheme('dark')
        self.shot('report-dark')

    def test_marked_in_the_host(self):
        self.assertEqual(
            {'pCPU 2: owned by upf-1; disturbed 319 times',
             'pCPU 3: owned by upf-1; disturbed 9,000 times'},
            set(self.browser.evaluate(
                "[...document.querySelectorAll('.pcpu.disturbed')].map("
                "e => e.getAttribute('aria-label'))")))

    def test_looks(self):
        found = {}
        for scheme in ('light', 'dark'):
            self.browser.scheme(scheme)
            found[scheme] = self.contrasts()
            for what, ratio in found[scheme].items():
                self.assertGreater(ratio, 4.5, (scheme, what))
        self.assertNotEqual(found['light'], found['dark'])

    def test_for_those_who_do_not_see_it(self):
        for role, name in self.browser.accessible():
            if role in ('button', 'combobox', 'checkbox', 'searchbox',
                        'image', 'link'):
                self.assertTrue(name.strip(), role)

    def test_narrow_and_printed(self):
        self.browser.resize(390, 844, mobile=True)
        self.browser.settle()
        self.assertLessEqual(self.browser.evaluate(
            'document.documentElement.scrollWidth'), 390)
        self.shot('report-narrow')
        test_page.SHOTS.mkdir(exist_ok=True)
        path = test_page.SHOTS / 'report.pdf'
        self.browser.pdf(path)
        self.assertGreater(path.stat().st_size, 20000)

    def test_nothing_was_there(self):
        self.show_file(reports.page.page(
            'c1', clouds.MOMENT.isoformat(), reports.STATE,
            reports.report()[0], reports.report_mod.Report(1.0)))
        self.assertIn('Nobody else was on these pCPUs.',
                      self.browser.text('#entries'))


class UsedTest(ReportBase):

    def test_search_and_kind(self):
        self.search('backup')
        self.assertEqual(['2', '3'], [row.split()[0]
                                      for row in self.rows('entries')])
        self.assertEqual([], self.rows('owned'))
        # A number is that pCPU, not those that have it in theirs.
        self.search('3')
        self.assertEqual(['3'], [row.split()[0]
                                 for row in self.rows('owned')])
        self.search('4711')
        self.assertEqual(['2'], [row.split()[0]
                                 for row in self.rows('entries')])
        self.search('du-1')
        self.assertEqual(['18', '50'], [row.split()[0]
                                        for row in self.rows('owned')])
        self.assertIn('Nobody that is looked for',
                      self.browser.text('#entries'))
        self.browser.press('Escape')
        self.browser.settle()
        self.assertEqual((3, 10), (len(self.rows('entries')),
                                   len(self.rows('owned'))))
        self.set('#kind', 'interrupt')
        self.assertEqual(1, len(self.rows('entries')))
        self.set('#kind', '')
        self.browser.click('#background')
        self.assertEqual(4, len(self.rows('entries')))
        self.assertIn('4 disturbances and 10 owned pCPUs of 10',
                      self.browser.text('#shown'))
        self.shot('report-background')

    def test_to_the_owner_and_back(self):
        self.assertEqual('compute1', self.opened())
        self.browser.click('#entries tbody button')
        self.assertIn('upf-1', self.opened())
        self.assertEqual({2, 34, 3, 35}, {
            int(text.split()[0]) for text
            in self.browser.texts('.pcpu.is-hot')})
        self.assertEqual('H2', self.focused('tagName'))
        self.browser.press('Escape')
        self.assertEqual('compute1', self.opened())

    def test_by_keyboard(self):
        self.browser.evaluate(
            "document.querySelector('.pcpu[tabindex=\"0\"]').focus()")
        self.browser.press('ArrowRight', 'ArrowRight')
        self.assertIn('pCPU 2: owned by upf-1', self.focused('title'))
        self.browser.press('Enter')
        self.browser.settle()
        self.assertIn('upf-1', self.opened())


class HostileTest(ReportBase):

    def test_names(self):
        for name in clouds.HOSTILE:
            self.show_file(reports.drawn(name, ((name, (2, 3), 0),),
                                         name=name))
            self.browser.click('#owned tbody button')
            self.assertEqual(
                (2, None, []), (self.browser.evaluate(
                    "document.querySelectorAll('script, img, svg, iframe')"
                    ".length"), self.browser.evaluate('window.x'),
                    self.browser.errors), name)
        self.assertFalse(self.browser.evaluate(
            'document.title').startswith('out'))

    def test_10000_names(self):
        running, _found = reports.report()
        owner = reports.disturbance.Owner('upf-1', 'vCPU 0', 1000)
        entries = [reports.entry('thread', f'<b>{number}', 2, owner, 1, 1.0,
                                 '', number) for number in range(1, 10001)]
        self.show_file(reports.drawn(entries=entries))
        self.assertEqual(1000, len(self.rows('entries')))
        self.assertIn('and 9,003 more', self.browser.text('#entries'))
        self.search('<b>9999')
        self.assertEqual(1, len(self.rows('entries')))
