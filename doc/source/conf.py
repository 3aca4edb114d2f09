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

import pathlib
import shutil
import sys

from docutils import nodes
from kongming.template import schema
from sphinx import errors

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import chinese  # noqa: E402
import packages  # noqa: E402
import private  # noqa: E402
import sequence  # noqa: E402

project = 'KongMing'
author = 'KongMing contributors'
extensions = ['openstackdocstheme', 'cliff.sphinxext',
              'oslo_config.sphinxext', 'sphinx.ext.autodoc',
              'sphinx.ext.graphviz']
openstackdocs_repo_name = 'kongming'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
version = release = ''
html_theme = 'openstackdocs'
graphviz_output_format = 'svg'
autoprogram_cliff_application = 'openstack'
exclude_patterns = []
# Options are to be copied as they are: two hyphens are no dash.
smartquotes = False

_HERE = pathlib.Path(__file__).parent
#: The folder of the Chinese pages.
_CHINESE = 'zh_CN/'


def _write_keys():
    """The table of the template's keys, out of its JSON Schema."""

    lines = ['.. list-table::', '   :header-rows: 1',
             '   :widths: 28 30 42', '', '   * - key', '     - examples',
             '     - meaning']
    for key in schema.keys():
        name = key.name
        for placeholder in key.placeholders:
            name = name.replace(f'{{{placeholder}}}', {
                'profile': 'NAME'}.get(placeholder, 'N'))
        lines += [f'   * - ``{name}``', '     - ' + ', '.join(
            f'``{example}``' for example in key.examples),
            f'     - {key.description}']
    (_HERE / 'keys.inc').write_text('\n'.join(lines) + '\n')


def _draw_way():
    """The picture of the way of a server, out of its text."""
    folder = _HERE / 'contributor'
    drawn = sequence.svg((folder / 'way.txt').read_text(encoding='utf-8'))
    (folder / 'way.svg').write_text(drawn, encoding='utf-8')


def _draw_packages():
    """The pictures of packages and arrows, out of the imports in the code."""
    folder = _HERE / 'contributor'
    (folder / 'library.dot').write_text(packages.library())
    (folder / 'nova_side.dot').write_text(packages.nova_side())


def _write_private():
    """The tables of Nova's private parts, out of the list in the code."""
    (_HERE / 'contributor/private.inc').write_text(private.page())


def _join_lines(app, doctree):
    """A Chinese page has no blank where a line ends."""
    if not app.env.docname.startswith(_CHINESE):
        return
    for node in list(doctree.findall(nodes.Text)):
        if not isinstance(node.parent, nodes.FixedTextElement):
            node.parent.replace(node, nodes.Text(
                chinese.joined(node.astext())))


def _set_language(_app, pagename, _templatename, context, _doctree):
    """Browsers choose glyphs by the language: many Han differ in Japan."""
    if pagename.startswith(_CHINESE):
        context['language'] = 'zh-CN'


def setup(app):
    if shutil.which('dot') is None:
        raise errors.ConfigError(
            "'dot' is not installed. It draws the pictures of packages; on "
            "Debian and Ubuntu it is in the package 'graphviz' (bindep.txt, "
            "profile 'docs')")
    app.connect('doctree-read', _join_lines)
    app.connect('html-page-context', _set_language)


_write_keys()
_draw_way()
_draw_packages()
_write_private()
