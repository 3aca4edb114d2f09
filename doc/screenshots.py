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

"""``python doc/screenshots.py FOLDER``: pictures of the pages.

Of clouds and of a report that are made up, in the browser that is there
(Debian: chromium).
"""

import pathlib
import sys
import tempfile

from kongming.render import page

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from tests.browser import chromium  # noqa: E402
from tests import clouds  # noqa: E402
from tests import reports  # noqa: E402

SIZE = 1280, 800


def main(folder):
    folder = pathlib.Path(folder)
    browser = chromium.Chromium(SIZE)
    try:
        with tempfile.TemporaryDirectory() as pages:
            for name, scheme, text, chosen in (
                    ('page-1000', 'light', page.page(clouds.cloud(
                        hosts=1000, servers=5000, cores=32)),
                     ('#hosts > li', 20)),
                    ('page-dark', 'dark', page.page(clouds.cloud(
                        hosts=12, servers=90, changes=60)),
                     ('#hosts > li', 5)),
                    ('report', 'light', reports.drawn(),
                     ('#cloud', 0))):
                path = pathlib.Path(pages) / f'{name}.html'
                path.write_text(text)
                browser.scheme(scheme)
                browser.open(f'file://{path}')
                browser.click(*chosen)
                browser.evaluate('document.activeElement.blur();'
                                 'scrollTo(0, 0)')
                browser.screenshot(folder / f'{name}.png')
    finally:
        browser.close()


if __name__ == '__main__':
    main(*sys.argv[1:])
