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

"""The page of a whole cloud in a headless Chromium, as a user has it.

Screenshots are kept in ``KONGMING_SHOTS`` (``shots``), for whoever looks.
"""

import atexit
import os
import pathlib
import tempfile

import testtools

from kongming.render import page
from tests.browser import chromium
from tests import clouds

SHOTS = pathlib.Path(os.environ.get('KONGMING_SHOTS', 'shots'))
#: The page's own words for what is open: the first heading of the details.
OPEN = '#detail h2'


class PageBase(testtools.TestCase):

    CLOUD = clouds.cloud(hosts=12, servers=90, changes=40)
    _browser = None

    def setUp(self):
        super().setUp()
        if not chromium.find():
            self.skipTest('there is no Chromium (Debian: chromium)')
        self.folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory(prefix='kongming-page-')))
        if PageBase._browser is None:
            PageBase._browser = chromium.Chromium()
            atexit.register(PageBase._browser.close)
        self.browser = PageBase._browser
        self.browser.scheme('light')
        self.browser.resize(1440, 900)
        self.show(self.CLOUD)

    def show(self, cloud, address=''):
        self.show_file(page.page(cloud), address)

    def show_file(self, text, address=''):
        path = self.folder / 'cloud.html'
        path.write_text(text)
        self.browser.open('about:blank')
        self.browser.open(f'file://{path}{address}')
        self.browser.settle()
        self.assertEqual([], self.browser.errors)
        # Nothing but the file.
        self.assertEqual([f'file://{path}'], [
            url.partition('#')[0] for url in self.browser.requests])

    def set(self, selector, value):
        self.browser.evaluate(
            f'(() => {{ const e = document.querySelector("{selector}"); '
            f'e.value = "{value}"; e.dispatchEvent(new Event("change")); '
            f'}})()')
        self.browser.settle()

    def shot(self, name, **kwargs):
        SHOTS.mkdir(exist_ok=True)
        self.browser.screenshot(SHOTS / f'{name}.png', **kwargs)

    def focused(self, what='innerText'):
        return self.browser.evaluate(f'document.activeElement.{what}')

    def opened(self):
        return self.browser.text(OPEN).strip()

    def contrasts(self):
        """What is written -> its contrast to what is behind it."""
        return self.browser.evaluate('''(() => {
            const canvas = document.createElement('canvas');
            canvas.width = canvas.height = 1;
            const pen = canvas.getContext('2d', {willReadFrequently: true});
            const over = colours => {
              pen.fillStyle = '#fff'; pen.fillRect(0, 0, 1, 1);
              for (const colour of colours) {
                pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
              }
              const light = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3)
                .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 :
                  ((v + 0.055) / 1.055) ** 2.4);
              return 0.2126 * light[0] + 0.7152 * light[1] +
                0.0722 * light[2];
            };
            const found = {};
            for (const e of document.querySelectorAll(
                'h1, h2, h3, p, dt, dd, th, td, button, label, .pill, ' +
                '.letter')) {
              if (!e.innerText?.trim() || !e.getClientRects().length) continue;
              const behind = [];
              let pattern = false;
              for (let b = e; b; b = b.parentElement) {
                const style = getComputedStyle(b);
                pattern ||= style.backgroundImage !== 'none';
                behind.unshift(style.backgroundColor);
              }
              if (pattern) continue;
              const [a, b] = [over(behind),
                over([...behind, getComputedStyle(e).color])].sort(
                  (x, y) => y - x);
              const key = `${e.tagName}.${e.className}`;
              found[key] = Math.min(found[key] ?? 99,
                (a + 0.05) / (b + 0.05));
            }
            return found;
        })()''')

    def hosts(self):
        """Names of the hosts that are listed."""
        return self.browser.evaluate(
            "[...document.querySelectorAll('#hosts > li')].map("
            "e => e.getAttribute('aria-label').split(':')[0])")


class GlanceTest(PageBase):

    def test_sums_and_cards(self):
        text = self.browser.text('#sums')
        for name, number in (('Hosts', 12), ('Servers', 90),
                             ('Dedicated', 720), ('Leftovers', 1)):
            self.assertRegex(text, f'{name}\n+{number}(\n|$)')
        owned = sum(len(server.pcpus) for server in self.CLOUD.servers)
        # Of each node of the fourth host one is nobody's whom Nova knows.
        self.assertRegex(text, f'Owned\n+{owned + 2}\n')
        self.assertIn('kongming_compute99_0: its compute node is gone',
                      self.browser.text('#left'))
        cards = self.browser.texts('#hosts > li')
        for host, card in zip(self.CLOUD.hosts, cards):
            self.assertIn(host.name, card)
            mine = self.CLOUD.by_host()[host.name]
            self.assertIn(f'{len(mine)} server', card)
            self.assertEqual(any(server.drift for server in mine),
                             'with drift' in card)
        self.shot('page-light')
        self.browser.scheme('dark')
        self.shot('page-dark')

    def test_looks(self):
        """What is light in one is dark in the other, and is to be read."""
        found = {}
        for scheme in ('light', 'dark'):
            self.browser.scheme(scheme)
            found[scheme] = self.contrasts()
            for what, ratio in found[scheme].items():
                # WCAG 2.2, 1.4.3.
                self.assertGreater(ratio, 4.5, (scheme, what))
        self.assertGreater(len(found['light']), 10)
        self.assertNotEqual(found['light'], found['dark'])

    def test_for_those_who_do_not_see_it(self):
        found = self.browser.accessible()
        self.assertIn(('listbox', 'Hosts'), found)
        options = [name for role, name in found if role == 'option'
                   and 'dedicated pCPUs free' in name]
        self.assertEqual(12, len(options))
        mine = len(self.CLOUD.by_host()['compute00'])
        self.assertIn(f'{mine} servers', options[0])
        for role, name in found:
            if role in ('button', 'combobox', 'slider', 'searchbox', 'image',
                        'listbox', 'link'):
                self.assertTrue(name.strip(), role)
        roles = {role for role, _name in found}
        self.assertLessEqual({'main', 'complementary', 'search', 'status',
                              'slider', 'searchbox', 'heading'}, roles)

    def test_narrow(self):
        self.browser.resize(390, 844, mobile=True)
        self.browser.settle()
        self.assertLessEqual(self.browser.evaluate(
            'document.documentElement.scrollWidth'), 390)
        self.shot('page-narrow')

    def test_printed(self):
        SHOTS.mkdir(exist_ok=True)
        self.browser.pdf(SHOTS / 'page.pdf')
        self.assertGreater((SHOTS / 'page.pdf').stat().st_size, 20000)
        # With cards for all, whatever was seen before.
        self.browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        for host, card in zip(self.CLOUD.hosts,
                              self.browser.texts('#hosts > li')):
            self.assertIn(host.name, card)


class ClickTest(PageBase):

    def test_host_server_and_back(self):
        self.browser.click('#hosts > li', 4)
        self.assertEqual('compute04', self.opened())
        mine = self.CLOUD.by_host()['compute04']
        self.assertEqual([server.name for server in mine],
                         self.browser.texts('#detail tbody button'))
        self.shot('page-host')
        self.browser.click('#detail tbody button')
        server = mine[0]
        self.assertIn(server.name, self.opened())
        text = self.browser.text('#detail')
        cell, = server.cells
        self.assertIn(server.id, text)
        self.assertIn(f'Cell 0 on node {cell.node}', text)
        for vcpu, pcpu in cell.pins.items():
            self.assertIn(f'{vcpu}\u2192{pcpu}', text)
        self.browser.click('.back button')
        self.assertEqual('compute04', self.opened())

    def test_a_pcpu_leads_to_its_owner(self):
        server = next(one for one in self.CLOUD.servers
                      if one.host == 'compute00' and one.pcpus)
        pcpu = min(server.pcpus)
        self.browser.click(f'button[title^="pCPU {pcpu}: "]')
        self.assertIn(server.name, self.opened())
        # Its pCPUs stand out, and no others.
        self.assertEqual(server.pcpus, {
            int(text.split()[0]) for text
            in self.browser.texts('.pcpu.is-hot')})
        self.shot('page-server')

    def test_what_each_pcpu_is(self):
        self.browser.click('#hosts > li', 3)
        host = self.CLOUD.hosts[3]
        titles = self.browser.evaluate(
            "[...document.querySelectorAll('.pcpu')].map(e => e.title)")
        owners = {pcpu: server.name for server
                  in self.CLOUD.by_host()[host.name]
                  for pcpu in server.pcpus}
        self.assertIn('pCPU 63: taken; the owner is not known', titles)
        for node in host.state.nodes:
            for pcpu in node.dedicated | node.shared:
                word, = [title.partition(': ')[2] for title in titles
                         if title.startswith(f'pCPU {pcpu}:')]
                self.assertEqual(
                    f'owned by {owners[pcpu]}' if pcpu in owners
                    else 'shared' if pcpu in node.shared
                    else 'taken; the owner is not known'
                    if pcpu in node.taken else word, word)
                if pcpu in node.free:
                    self.assertIn('free', word)

    def test_order_and_what_is_shown(self):
        self.set('#show', 'marked')
        marked = [host.name for host in self.CLOUD.hosts if any(
            server.drift for server in self.CLOUD.by_host()[host.name])]
        self.assertEqual(marked, self.hosts())
        self.assertIn(f'{len(marked)} of 12 hosts',
                      self.browser.text('#shown'))
        self.set('#show', 'deaf')
        self.assertEqual(['compute05'], self.hosts())
        self.set('#show', 'all')
        self.set('#order', 'free')
        self.assertEqual(
            [host.name for host in sorted(
                self.CLOUD.hosts, key=lambda host: -sum(
                    node.n_free for node in host.state.nodes))],
            self.hosts())
        self.set('#look', 'tiles')
        self.assertEqual('', self.browser.texts('#hosts > li')[0].strip())
        self.shot('page-tiles')


class KeyboardTest(PageBase):

    def test_search(self):
        self.browser.press('/')
        self.assertEqual('search', self.focused('id'))
        server = self.CLOUD.servers[5]
        self.browser.type(server.name)
        self.assertIn(server.host, self.hosts())
        self.assertIn(server.name, self.browser.texts('#found button'))
        self.shot('page-search')
        # On to the server by keys alone.
        for _ in range(8):
            self.browser.press('Tab')
            if self.focused() == server.name:
                break
        self.browser.press('Enter')
        self.assertIn(server.name, self.opened())
        self.assertIn(server.name, self.focused())
        self.browser.press('Escape')
        self.assertEqual(server.host, self.opened())
        self.browser.press('Escape', '/')
        self.browser.press('Escape')
        self.browser.settle()
        self.assertEqual(12, len(self.hosts()))

    def test_search_by_id_and_for_nothing(self):
        self.browser.press('/')
        self.browser.type(self.CLOUD.servers[3].id.upper())
        self.assertEqual([self.CLOUD.servers[3].host], self.hosts())
        self.browser.type('no such thing')
        self.assertEqual([], self.hosts())
        self.assertIn('0 of 12 hosts', self.browser.text('#shown'))

    def test_from_host_to_host(self):
        self.browser.evaluate(
            "document.querySelector('#hosts > [tabindex=\"0\"]').focus()")
        self.assertEqual('host-0', self.focused('id'))
        self.browser.press('ArrowRight')
        self.assertEqual(('host-1', 'compute01'),
                         (self.focused('id'), self.opened()))
        self.browser.press('ArrowDown')
        columns = self.browser.evaluate(
            "getComputedStyle(document.querySelector('#hosts'))"
            ".gridTemplateColumns.split(' ').length")
        self.assertEqual(f'host-{1 + columns}', self.focused('id'))
        self.browser.press('ArrowUp', 'End')
        self.assertEqual('compute11', self.opened())
        self.browser.press('ArrowRight', 'Home')
        self.assertEqual('compute00', self.opened())
        # There is one stop for Tab in the list, whatever was done.
        self.assertEqual(1, self.browser.evaluate(
            "document.querySelectorAll('#hosts > [tabindex=\"0\"]').length"))
        self.browser.press('Enter')
        self.assertEqual('H2', self.focused('tagName'))
        self.browser.press('Escape')
        self.assertEqual('host-0', self.focused('id'))

    def test_from_pcpu_to_pcpu(self):
        self.browser.evaluate(
            "document.querySelector('.pcpu[tabindex=\"0\"]').focus()")
        self.browser.press('ArrowRight')
        self.assertIn('pCPU 1: ', self.focused('title'))
        self.browser.press('ArrowDown')
        self.assertIn('pCPU 33: ', self.focused('title'))

    def test_it_is_seen_where_one_is(self):
        self.browser.press('Tab', 'Tab')
        self.assertNotEqual('none', self.browser.evaluate(
            'getComputedStyle(document.activeElement).outlineStyle'))


class PastTest(PageBase):

    def test_slider(self):
        changes = sorted((change.started, server) for server
                         in self.CLOUD.servers for change in server.changes)
        self.assertIn('Now. 40 live changes before',
                      self.browser.text('#then'))
        self.browser.press('[')
        self.browser.settle()
        when, server = changes[-1]
        text = self.browser.text('#then')
        self.assertIn(when[:19].replace('T', ' '), text)
        self.assertIn(f'{server.name} on {server.host}', text)
        self.assertIn('0 changes later', text)
        self.browser.evaluate("document.querySelector('#when').focus()")
        self.browser.press('Home')
        self.browser.settle()
        self.assertIn('39 changes later', self.browser.text('#then'))
        newest = {}
        for when, server in changes:
            newest[server.host] = when
        since = {host for host, when in newest.items()
                 if when > changes[0][0]}
        self.assertEqual(since, set(self.browser.evaluate(
            "[...document.querySelectorAll('#hosts > .since')].map("
            "e => e.getAttribute('aria-label').split(':')[0])")))
        self.shot('page-past')
        self.browser.click('#then button')
        self.assertIn(changes[0][1].name, self.opened())
        self.browser.press('Escape', 'Escape')
        self.browser.press(*']' * 40)
        self.browser.settle()
        self.assertIn('Now.', self.browser.text('#then'))

    def test_not_asked_for(self):
        self.show(clouds.cloud(hosts=2, servers=3))
        self.assertEqual('none', self.browser.evaluate(
            "getComputedStyle(document.querySelector('#past')).display"))


class AddressTest(PageBase):

    def test_link_to_a_server(self):
        server = self.CLOUD.servers[9]
        self.show(self.CLOUD, f'#server={server.id}')
        self.assertIn(server.name, self.opened())
        self.show(self.CLOUD, '#host=compute07')
        self.assertEqual('compute07', self.opened())
        for address in ('#host=%E0%A4%A', '#server=', '#<b>', '#host=nope'):
            self.show(self.CLOUD, address)
            self.assertEqual('compute00', self.opened())


class HostileTest(PageBase):
    """Names are text, whatever is in them."""

    CLOUD = clouds.cloud(
        hosts=1, servers=len(clouds.HOSTILE), cores=64,
        names=clouds.HOSTILE, name='</title><script>top.x=1</script>')

    def test_names(self):
        before = self.browser.evaluate(
            "document.querySelectorAll('script, img, svg, iframe').length")
        self.assertEqual(2, before)
        self.assertIn('</title><script>', self.browser.text('#cloud'))
        self.assertTrue(self.browser.evaluate('document.title').startswith(
            'KongMing: </title>'))
        for number in range(len(self.CLOUD.servers)):
            self.browser.click('#detail tbody button', number)
            self.browser.click('.back button')
        self.browser.press('/')
        self.browser.type('<script>')
        self.assertGreater(len(self.browser.texts('#found button')), 1)
        self.assertEqual(
            (2, None, []), (self.browser.evaluate(
                "document.querySelectorAll('script, img, svg, iframe')"
                ".length"), self.browser.evaluate('window.x'),
                self.browser.errors))
        self.shot('page-hostile')

    def test_no_script_of_others_runs(self):
        """Even where markup of theirs had got into the page."""
        self.browser.evaluate(
            "document.body.insertAdjacentHTML('beforeend', "
            "'<img src=http://192.0.2.1/x onerror=\"window.x=1\">')")
        self.browser.evaluate(
            "(() => { const s = document.createElement('script'); "
            "s.textContent = 'window.x = 1'; document.body.append(s); })()")
        self.browser.settle()
        self.assertIsNone(self.browser.evaluate('window.x'))
        self.assertEqual('refused', self.browser.evaluate(
            "fetch('http://192.0.2.1/').then(() => 'sent', () => 'refused')"))
        self.assertTrue(any('Content Security Policy' in one
                            for one in self.browser.errors))


class ManyTest(PageBase):

    CLOUD = clouds.cloud(hosts=1000, servers=5000, cores=32)

    def test_only_what_is_seen_is_drawn(self):
        drawn = self.browser.evaluate(
            "[...document.querySelectorAll('#hosts > li')].filter("
            'e => e.childElementCount).length')
        self.assertLess(drawn, 1000)
        self.assertGreater(drawn, 100)
        self.shot('page-1000')
        self.browser.evaluate('scrollTo(0, document.body.scrollHeight)')
        self.browser.settle()
        self.browser.settle()
        self.assertGreater(self.browser.evaluate(
            "document.querySelector('#hosts > li:last-child')"
            '.childElementCount'), 0)

    def test_10000_names_on_one_host(self):
        self.show(clouds.cloud(hosts=1, servers=10000, cores=64))
        self.assertEqual(10000, len(self.browser.texts(
            '#detail tbody button')))
