# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A contract for import-linter: private modules stay in their package.

The public modules of a package are those that its ``__init__`` names in
``__all__``.  Whoever is outside of the package imports these and no others.
A package without ``__all__`` has public modules only.
"""

import ast
import importlib.util
import pathlib

from importlinter import Contract
from importlinter import ContractCheck
from importlinter import output


def public_modules(package):
    """What a package names in ``__all__``; None where it has none.

    :param package: a full name, such as ``kongming.host``
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return None
    for node in ast.parse(pathlib.Path(spec.origin).read_text()).body:
        if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == '__all__'
                for target in node.targets):
            return {f'{package}.{name}'
                    for name in ast.literal_eval(node.value)}
    return None


class PrivateContract(Contract):
    """Imports of another package's modules that are not in ``__all__``."""

    type_name = 'private'

    def check(self, graph, verbose):
        broken = []
        for imported in sorted(graph.modules):
            package = imported.rpartition('.')[0]
            public = public_modules(package) if package else None
            if public is None or imported in public:
                continue
            for importer in sorted(graph.find_modules_that_directly_import(
                    imported)):
                if not f'{importer}.'.startswith(f'{package}.'):
                    broken.append((importer, imported))
        return ContractCheck(kept=not broken, metadata={'broken': broken})

    def render_broken_contract(self, check):
        for importer, imported in check.metadata['broken']:
            package, _dot, name = imported.rpartition('.')
            output.print_error(
                f'{importer} imports {imported}, and {name} is not in '
                f'__all__ of {package}', bold=False)
