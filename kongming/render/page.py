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

"""A whole cloud, or a host's report, as one HTML file that needs no network.

What is known goes into the file as JSON; a script that is in it draws what is
seen of it.  Nothing of the data is ever markup: the characters that could end
the JSON's element are escaped, the script writes text only, and the policy in
the file's head (Content Security Policy, by hashes) runs no other script,
loads nothing and sends nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
import hashlib
import html
from importlib import resources
import json
import re
from typing import Any

from kongming import exception
from kongming.host import topology
from kongming.host import usage
from kongming.render import cloud as cloud_mod

#: Of the layout of the data; the script knows one.
LAYOUT = 1
#: In this order they are one script, with one of the pages' own at the end.
_SCRIPTS = ('data.js', 'parts.js', 'details.js')
#: What could end the element, or begin a comment in it (HTML, 13.2.5.15 ff.);
#: in JSON it can stand in strings only.
_ESCAPES = {ord('<'): '\\u003c', ord('>'): '\\u003e', ord('&'): '\\u0026'}


def page(cloud: cloud_mod.Cloud) -> str:
    """The file, as text of nothing but ASCII."""
    return _file('page.html', 'app.js', cloud.name,
                 _Content(cloud).content())


def report(cloud: cloud_mod.Cloud, found: Mapping[str, Any]) -> str:
    """The same of one host and who was on its owned pCPUs.

    :param cloud: of that host alone; its servers are named by their domains
    :param found: as :func:`kongming.interference.text.document` has it
    """
    return _file('report.html', 'report.js', cloud.name,
                 {**_Content(cloud).content(), 'report': _all_shown(found)})


def _file(skeleton: str, own_script: str, name: str, content: Any) -> str:
    style = _asset('page.css')
    script = '\n'.join(map(_asset, (*_SCRIPTS, own_script)))
    policy = (f"default-src 'none'; script-src '{_digest(script)}'; "
              f"style-src '{_digest(style)}'; base-uri 'none'; "
              f"form-action 'none'")
    parts = {'policy': html.escape(policy, quote=True),
             'title': _ascii(html.escape(exception.printable(name))),
             'style': style, 'script': script, 'data': _json(content)}
    # In one pass, so that no name is taken for a mark.
    return re.sub('@([a-z]+)@', lambda mark: parts[mark[1]],
                  _asset(skeleton))


def _asset(name: str) -> str:
    return resources.files('kongming.render').joinpath(
        'page-assets', name).read_text(encoding='utf-8')


def _ascii(text: str) -> str:
    """So that it does not matter which encoding the file is written in."""
    return text.encode('ascii', 'xmlcharrefreplace').decode('ascii')


def _digest(text: str) -> str:
    """As a Content Security Policy names what may be in the file."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest())
    return f'sha256-{digest.decode()}'


def _json(content: Any) -> str:
    return json.dumps(content, separators=(',', ':')).translate(_ESCAPES)


class _Table:
    """What stands often is kept once, and known by its number."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, row: Any) -> int:
        key = json.dumps(row)
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(row)
        return self._numbers[key]


class _Content:
    """What the script is given; ``data.js`` reads it."""

    def __init__(self, cloud: cloud_mod.Cloud) -> None:
        self._cloud = cloud
        self._layouts, self._nodes = _Table(), _Table()
        self._words = _Table()
        #: of the states of nodes, which hosts that are alike share; these
        #: are kept with it, so that no other has the same id
        self._known: dict[int, tuple[usage.NodeState, int]] = {}

    def content(self) -> dict[str, Any]:
        cloud = self._cloud
        servers = cloud.by_host()
        hosts = [[_shown(host.name), _shown(host.uuid), host.obeys,
                  _shown(host.live), host.zones and _shown(host.zones),
                  [self._node(node) for node in host.state.nodes],
                  [*map(_shown, cloud_mod.conflicts(
                      host, servers[host.name]))]]
                 for host in cloud.hosts]
        return {
            'layout': LAYOUT, 'name': _shown(cloud.name),
            'moment': _seconds(cloud.moment), 'hosts': hosts,
            'servers': [self._server(server, number)
                        for number, host in enumerate(cloud.hosts)
                        for server in servers[host.name]],
            'leftovers': [[_shown(name), _shown(why)]
                          for name, why in cloud.leftovers],
            'doubts': [*map(_shown, cloud.doubts)],
            'history': cloud.with_history,
            'layouts': self._layouts.rows, 'nodes': self._nodes.rows,
            'words': self._words.rows}

    def _node(self, node: usage.NodeState) -> int:
        if id(node) not in self._known:
            layout = self._layouts.number([
                node.id, [*map(list, node.cores())],
                *map(topology.format_cpu_list, (
                    node.dedicated, node.shared, node.offline()))])
            self._known[id(node)] = node, self._nodes.number([
                layout, topology.format_cpu_list(node.taken),
                topology.format_cpu_list(cloud_mod.stranded(node)),
                [*cloud_mod.sums((node,))],
                node.memory_mib - node.memory_used_mib, node.shared_used])
        return self._known[id(node)][1]

    def _server(self, server: cloud_mod.Server, host: int) -> list[Any]:
        def word(text: str) -> int:
            return self._words.number(_shown(text))

        return [
            _shown(server.id), _shown(server.name), host, word(server.project),
            word(server.status), word(server.flavor),
            None if server.profile is None else word(server.profile),
            server.has_template,
            None if server.cells is None else [*map(_cell, server.cells)],
            [*map(_shown, server.drift)],
            [[moment, cloud_mod.RESULTS.index(change.result),
              word(change.details)]
             for change in server.changes
             if (moment := _seconds(change.started)) is not None]]


def _cell(cell: cloud_mod.Cell) -> list[Any]:
    pins = sorted(cell.pins.items())
    return [cell.node, cell.memory_mib, cell.page_kib, cell.floating,
            _flat(pins),
            topology.format_cpu_list(cell.pcpus.difference(
                cell.pins.values()))]


def _flat(pairs: Iterable[Sequence[int]]) -> list[int]:
    return [number for pair in pairs for number in pair]


def _shown(text: str) -> str:
    """Without what a browser would obey: direction marks, line ends."""
    return exception.printable(text)


def _all_shown(value: Any) -> Any:
    """The same with all of its texts as :func:`_shown` has them."""
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, Mapping):
        return {key: _all_shown(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [*map(_all_shown, value)]
    return value


def _seconds(moment: str) -> int | None:
    """Of the Unix clock; None where it is no moment."""
    try:
        found = datetime.datetime.fromisoformat(moment)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    return int(found.timestamp())
