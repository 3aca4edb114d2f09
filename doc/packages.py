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

"""A picture of packages and arrows, drawn from the imports in the code.

``python doc/packages.py`` prints both pictures in the language of ``dot``
(https://graphviz.org); the documentation draws them whenever it is built.
The imports are read by grimp, the library beneath import-linter; layers come
from ``.importlinter``.
"""

import configparser
import pathlib

TOP = pathlib.Path(__file__).parents[1]
ROOTS = ('kongming', 'nova_ext', 'osc_plugin')
#: All packages import these, so no arrows are drawn to them.
SHARED = ('kongming.exception', 'kongming.conf')
_EDGE, _PURE = '#fde2c4', '#dbeafe'
_HEAD = '''\
digraph {
  graph [bgcolor=transparent, nodesep=0.3, ranksep=0.35]
  node [shape=box, style=filled, color="#59616b", fontname="sans-serif",
        fontsize=11, height=0.3, target="_parent"]
  edge [color="#59616b", arrowsize=0.6]
'''


def library():
    """The packages of the library, below those that use it."""
    layers = [['osc_plugin', 'nova_ext'], *_layers('layers')]
    return dot(layers, _imports(layers), _lines('decisions', 'source_modules'))


def nova_side():
    """What is in ``nova_ext``."""
    layers = _layers('nova_layers')
    return dot(layers, _imports(layers), ())


def dot(layers, imports, pure):
    """A picture in the language of dot.

    :param layers: lists of names, the top one first
    :param imports: name -> names that it imports
    :param pure: names of those that do no I/O
    """
    lines = []
    for layer in layers:
        lines += [
            f'  "{name}" [fillcolor="{_PURE if name in pure else _EDGE}"'
            + (f', URL="packages/{name}.html"' if _is_package(name) else '')
            + ']' for name in layer]
        lines.append('  {rank=same; ' + '; '.join(
            f'"{name}"' for name in layer) + '}')
    for above, below in zip(layers, layers[1:]):
        lines += [f'  "{name}" -> "{below[0]}" [style=invis]'
                  for name in above]
    for name, others in sorted(reduced(imports).items()):
        lines += [f'  "{name}" -> "{other}"' for other in sorted(others)]
    return _HEAD + '\n'.join(lines) + '\n}\n'


def reduced(imports):
    """The arrows without those that follow from others.

    :param imports: name -> names that it imports, without circles
    """
    def below(name):
        found = set(imports.get(name, ()))
        return found.union(*map(below, found))

    return {
        name: {other for other in others
               if not any(other in below(third) for third in others)}
        for name, others in imports.items()}


def _imports(layers):
    import grimp
    graph = grimp.build_graph(*ROOTS, cache_dir=None)
    units = {name for layer in layers for name in layer}
    found = {name: set() for name in units}
    for module in graph.modules:
        importer = _unit(module, units)
        for imported in graph.find_modules_directly_imported_by(module):
            other = _unit(imported, units)
            if importer and other and other != importer:
                found[importer].add(other)
    return found


def _unit(module, units):
    while module and module not in units:
        module = module.rpartition('.')[0]
    return module


def _is_package(name):
    return (TOP / name.replace('.', '/') / '__init__.py').exists()


def _layers(contract):
    container, = _lines(contract, 'containers')
    layers = ([f'{container}.{name.strip()}' for name in line.split('|')]
              for line in _lines(contract, 'layers'))
    return [layer for layer in layers if not set(layer) & set(SHARED)]


def _lines(contract, key):
    parser = configparser.ConfigParser()
    parser.read(TOP / '.importlinter')
    return parser[f'importlinter:contract:{contract}'][key].split('\n')[1:]


if __name__ == '__main__':
    print(library() + nova_side(), end='')
