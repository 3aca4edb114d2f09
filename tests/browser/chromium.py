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

"""A headless Chromium, by its own protocol over a pair of pipes.

Nothing is needed but the browser itself (``--remote-debugging-pipe``): no
driver, no port that others could reach, no library.
"""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

#: What Debian and others call it.
NAMES = 'chromium', 'chromium-browser', 'google-chrome'
TIMEOUT = 60
_KEYS = {
    'Enter': (13, '\r'), 'Escape': (27, ''), 'Tab': (9, ''), ' ': (32, ' '),
    'ArrowLeft': (37, ''), 'ArrowUp': (38, ''), 'ArrowRight': (39, ''),
    'ArrowDown': (40, ''), 'Home': (36, ''), 'End': (35, ''),
    'PageUp': (33, ''), 'PageDown': (34, '')}


def find():
    """The browser's path; None where there is none."""
    return os.environ.get('KONGMING_CHROMIUM') or next(
        (path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One browser with one page.

    :param size: of the window, in pixels
    """

    def __init__(self, size=(1440, 900)):
        self._folder = tempfile.TemporaryDirectory(prefix='kongming-browser-')
        ours_out, its_in = os.pipe()[::-1]
        its_out_read, its_out = os.pipe()
        self._out, self._in = ours_out, its_out_read
        self.process = subprocess.Popen(
            ['/bin/sh', '-c', f'exec 3<&{its_in} 4>&{its_out}; exec "$@"',
             'sh', find(), '--headless=new', '--remote-debugging-pipe',
             # It would not run as root otherwise; what it opens is ours.
             '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
             '--no-first-run', '--disable-background-networking',
             '--hide-scrollbars', '--lang=en',
             f'--window-size={size[0]},{size[1]}',
             f'--user-data-dir={self._folder.name}', 'about:blank'],
            pass_fds=(its_in, its_out), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL)
        os.close(its_in)
        os.close(its_out)
        self._buffer = b''
        self._number = 0
        self._session = None
        #: what the page asked the network for, its errors, its console
        self.requests, self.errors = [], []
        target, = [one for one in self.call('Target.getTargets')[
            'targetInfos'] if one['type'] == 'page']
        self._session = self.call('Target.attachToTarget', targetId=target[
            'targetId'], flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.call(f'{domain}.enable')
        # Durations of metrics() are CPU time of the page's thread.
        self.call('Performance.enable', timeDomain='threadTicks')
        self.resize(*size)

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        os.close(self._out)
        os.close(self._in)
        # Its children may still write there.
        shutil.rmtree(self._folder.name, ignore_errors=True)
        self._folder._finalizer.detach()

    def call(self, method, **params):
        """:returns: the answer

        :raises RuntimeError: if it is an error
        """
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._out, json.dumps(message).encode() + b'\0')
        number = self._number
        while True:
            answer = self._receive()
            if answer.get('id') == number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']

    def _receive(self):
        deadline = time.monotonic() + TIMEOUT
        while b'\0' not in self._buffer:
            left = max(0, deadline - time.monotonic())
            if not select.select([self._in], [], [], left)[0]:
                raise RuntimeError('no answer from the browser')
            found = os.read(self._in, 1 << 20)
            if not found:
                raise RuntimeError('the browser has ended')
            self._buffer += found
        message, _zero, self._buffer = self._buffer.partition(b'\0')
        found = json.loads(message)
        self._note(found)
        return found

    def _note(self, event):
        params = event.get('params', {})
        match event.get('method'):
            case 'Network.requestWillBeSent':
                self.requests.append(params['request']['url'])
            case 'Runtime.exceptionThrown':
                self.errors.append(json.dumps(params['exceptionDetails']))
            case 'Log.entryAdded' if params['entry']['level'] == 'error':
                self.errors.append(params['entry']['text'])
            case 'Page.loadEventFired':
                self._loaded = True

    # What a user does.

    def open(self, url):
        self._loaded = False
        self.requests, self.errors = [], []
        self.call('Page.navigate', url=url)
        while not self._loaded:
            self._receive()

    def resize(self, width, height, mobile=False):
        self.call('Emulation.setDeviceMetricsOverride', width=width,
                  height=height, deviceScaleFactor=1, mobile=mobile)

    def scheme(self, name, media=''):
        """:param name: dark or light"""
        self.call('Emulation.setEmulatedMedia', media=media, features=[
            {'name': 'prefers-color-scheme', 'value': name}])

    def press(self, *keys, shift=False):
        for key in keys:
            code, text = _KEYS.get(key, (ord(key[0].upper()), key))
            common = {'key': key, 'windowsVirtualKeyCode': code,
                      'modifiers': 8 if shift else 0}
            self.call('Input.dispatchKeyEvent', type='keyDown', text=text,
                      **common)
            self.call('Input.dispatchKeyEvent', type='keyUp', **common)

    def type(self, text):
        self.call('Input.insertText', text=text)
        self.settle()

    def click(self, selector, number=0):
        """In the middle of what a selector finds, where a user sees it."""
        box = self.evaluate(
            f'(() => {{ const e = document.querySelectorAll('
            f'{json.dumps(selector)})[{number}]; '
            f"e.scrollIntoView({{block: 'center'}}); "
            f'const b = e.getBoundingClientRect(); '
            f'return [b.x + b.width / 2, b.y + b.height / 2]; }})()')
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=box[0],
                      y=box[1], button='left', clickCount=1)
        self.settle()

    # What a user sees.

    def evaluate(self, script):
        """What an expression is worth, in JSON's types."""
        found = self.call('Runtime.evaluate', expression=script,
                          returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in found:
            raise RuntimeError(json.dumps(found['exceptionDetails']))
        return found['result'].get('value')

    def settle(self):
        """Until all that is due has been drawn."""
        self.evaluate('new Promise(done => requestAnimationFrame(() => '
                      'requestAnimationFrame(() => setTimeout(done, 0))))')

    def text(self, selector='body'):
        """What is to be read there."""
        return self.evaluate(
            f'document.querySelector({json.dumps(selector)}).innerText')

    def texts(self, selector):
        return self.evaluate(
            f'[...document.querySelectorAll({json.dumps(selector)})].map('
            f'e => e.innerText)')

    def metrics(self):
        return {one['name']: one['value'] for one in self.call(
            'Performance.getMetrics')['metrics']}

    def cpu_seconds(self):
        """CPU time of all processes of the browser until now."""
        session, self._session = self._session, None
        try:
            return sum(one['cpuTime'] for one in self.call(
                'SystemInfo.getProcessInfo')['processInfo'])
        finally:
            self._session = session

    def accessible(self):
        """[(role, name)] of all that is in the accessibility tree."""
        self.call('Accessibility.enable')
        return [(node['role']['value'], node.get('name', {}).get('value', ''))
                for node in self.call('Accessibility.getFullAXTree')['nodes']
                if not node['ignored']]

    def screenshot(self, path, whole=False):
        self.settle()
        found = self.call('Page.captureScreenshot', format='png',
                          captureBeyondViewport=whole)
        pathlib.Path(path).write_bytes(base64.b64decode(found['data']))

    def pdf(self, path):
        found = self.call('Page.printToPDF', printBackground=True,
                          landscape=True)
        pathlib.Path(path).write_bytes(base64.b64decode(found['data']))
