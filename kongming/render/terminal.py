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

"""Text for a terminal that may have no more than ASCII."""

from __future__ import annotations

#: What stands for characters that drawings and bars are made of.
_ASCII = str.maketrans({
    '┌': '+', '┐': '+', '└': '+', '┘': '+', '─': '-', '│': '|',
    '█': '#', '▒': '+', '░': '.', '…': '.'})


def for_encoding(text: str, encoding: str | None) -> str:
    """Text as an encoding can have it; others' characters are escaped.

    :param encoding: of the stream that it goes to; None where it has none
    """
    try:
        if encoding is not None:
            text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode(
            'ascii', 'backslashreplace').decode('ascii')
