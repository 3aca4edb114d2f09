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

project = 'KongMing'
author = 'KongMing contributors'
extensions = ['openstackdocstheme', 'cliff.sphinxext',
              'oslo_config.sphinxext', 'sphinx.ext.autodoc']
openstackdocs_repo_name = 'kongming'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
version = release = ''
html_theme = 'openstackdocs'
autoprogram_cliff_application = 'openstack'
exclude_patterns = []


def _write_keys():
    """The table of the template's keys, out of its JSON Schema."""
    import pathlib

    from kongming import schema

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
    (pathlib.Path(__file__).parent / 'keys.inc').write_text(
        '\n'.join(lines) + '\n')


_write_keys()
