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

"""A Nova without one of its private parts."""

import contextlib
import importlib
import inspect
import types

from nova_ext.private import check


@contextlib.contextmanager
def taken_away(symbol):
    """Nova without a symbol, or with one that looks different."""
    owner = importlib.import_module(symbol.module)
    if symbol.owner:
        owner = getattr(owner, symbol.owner)
    if isinstance(symbol.form, check.Set):
        changed = []
        for cls in owner.__mro__:
            for found in vars(cls).values():
                function = inspect.unwrap(found)
                if isinstance(function, types.FunctionType) and (
                        symbol.name in function.__code__.co_names):
                    changed.append((function, function.__code__))
                    function.__code__ = function.__code__.replace(
                        co_names=tuple(
                            'gone' if name == symbol.name else name
                            for name in function.__code__.co_names))
        try:
            yield
        finally:
            for function, code in changed:
                function.__code__ = code
        return
    found = inspect.getattr_static(owner, symbol.name)
    if isinstance(symbol.form, check.Fields) and hasattr(found, 'fields'):
        fields = found.fields
        found.fields = dict(fields)
        del found.fields[symbol.form.names[-1]]
        try:
            yield
        finally:
            found.fields = fields
        return
    owners = [each for each in getattr(owner, '__mro__', [owner])
              if each is not object and symbol.name in vars(each)]
    found = [vars(each)[symbol.name] for each in owners]
    for each in owners:
        delattr(each, symbol.name)
    try:
        yield
    finally:
        for each, was in zip(owners, found):
            setattr(each, symbol.name, was)


@contextlib.contextmanager
def changed(symbol):
    """Nova with a function that wants an argument more."""
    owner = importlib.import_module(symbol.module)
    if symbol.owner:
        owner = getattr(owner, symbol.owner)
    with taken_away(symbol):
        setattr(owner, symbol.name, lambda self, *, wanted, **others: None)
        try:
            yield
        finally:
            delattr(owner, symbol.name)
