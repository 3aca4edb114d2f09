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
"""The Chinese pages as a browser shows them.

Chinese has no blanks between words.  A line of a page that ends inside a
sentence would leave one there, since HTML shows the end of a line as a blank.
"""

import re

_HAN = '[\u4e00-\u9fff]'
#: Punctuation that is as wide as Han, and brings its own blank.
_WIDE = '[\u3000-\u303f\uff00-\uffef\u2018-\u201d]'
_LINE_END = re.compile(
    f'(?<={_HAN})\n(?={_HAN})|(?<={_WIDE})\n|\n(?={_WIDE})')


def joined(text):
    """A text without the ends of lines that stand beside no letters.

    >>> joined('宿主机\\n自己切换')
    '宿主机自己切换'
    """
    return _LINE_END.sub('', text)
