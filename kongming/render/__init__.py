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

"""Pictures of a host, and of a whole cloud.

What it knows
-------------

How a :class:`kongming.host.usage.HostState` is drawn: boxes for a host of few
cores, rows for a wide one, SVG for a browser.  How a cloud of them is: a line
a host, or one HTML file.

What it decides
---------------

The style that suits the width, and which letter or colour stands for which
server; what of a cloud can not be (``cloud.conflicts``).

What it never does
------------------

It asks nobody about the host, and writes to no terminal and no file: text goes
back to the caller.  Names are others' text: what a terminal or a browser would
obey in them is escaped.

Public names
------------

``text.host``, ``svg.svg``, ``terminal.for_encoding`` and ``pages.size``;
``cloud.Cloud``, ``Host``, ``Server``, ``Cell`` and ``Change``;
``overview.overview`` and ``to_json``; ``page.page`` and ``report``.

Reading order
-------------

1. ``text``: both styles in text, with the order of cores.
2. ``terminal``: characters that a terminal has.
3. ``svg``: the same as a drawing.
4. ``pages``: pages of a node in words.
5. ``cloud``: the values of a whole cloud, and its sums.
6. ``overview``: a line a host.
7. ``page``: HTML files, of a cloud and of a report; ``page-assets/`` has the
   parts of their scripts: ``data.js``, ``parts.js`` and ``details.js`` of
   both, ``app.js`` and ``report.js`` of one each.
"""

__all__ = ('cloud', 'overview', 'page', 'pages', 'svg', 'terminal', 'text')
