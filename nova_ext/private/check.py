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

"""Whether the private parts of the installed Nova look as they are used.

The check reads classes and signatures and calls nothing, so that it can't
harm a host.  It sees that a name is gone, or that it is called by others
than we call it by.  It does not see that a function does something else.
"""

import dataclasses
import dis
import importlib
import inspect
import types
import typing

#: What a difference has for consequence: the hook is not loaded; no running
#: server is changed; it is reported in the scheduler's log.
HOOK, LIVE, SCHEDULER = 'hook', 'live', 'scheduler'


class Taken(typing.NamedTuple):
    """A method of Nova's that a method of ours stands before.

    :ivar parameters: that ours names, without ``self``
    :ivar rest: whether ours passes on whatever follows them
    """

    parameters: tuple[str, ...]
    rest: bool = False

    def problem(self, owner, name):
        found = tuple(_signature(owner, name).parameters)[1:]
        if self.rest:
            found = found[:len(self.parameters)]
        if found != self.parameters:
            return (f'takes ({", ".join(found)}) and not '
                    f'({", ".join(self.parameters)})')
        return None


class Called(typing.NamedTuple):
    """What we call.

    :ivar positional: how many arguments, without ``self``
    :ivar keywords: names of further ones
    """

    positional: int
    keywords: tuple[str, ...] = ()

    def problem(self, owner, name):
        signature = _signature(owner, name)
        is_method = isinstance(owner, type) and isinstance(
            inspect.getattr_static(owner, name), types.FunctionType)
        try:
            signature.bind(*[None] * (self.positional + is_method),
                           **dict.fromkeys(self.keywords))
        except TypeError as exc:
            return f'can not be called as before: {exc}'
        return None


class Set(typing.NamedTuple):
    """An attribute that a class gives its objects."""

    def problem(self, owner, name):
        if not any(_sets(cls, name) for cls in owner.__mro__):
            return 'is set by none of its methods'
        return None


class Fields(typing.NamedTuple):
    """Fields of a named tuple or of a versioned object."""

    names: tuple[str, ...]

    def problem(self, owner, name):
        cls = getattr(owner, name)
        fields = getattr(cls, 'fields', getattr(cls, '_fields', ()))
        lacking = [each for each in self.names if each not in fields]
        return f'lacks {", ".join(lacking)}' if lacking else None


class Value(typing.NamedTuple):
    """A constant."""

    value: object

    def problem(self, owner, name):
        found = getattr(owner, name)
        if found != self.value:
            return f'is {found!r} and not {self.value!r}'
        return None


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A private part of Nova.

    :ivar module: e.g. ``nova.virt.libvirt.driver``
    :ivar owner: its class; empty for what is the module's own
    :ivar name: its name
    :ivar form: how it has to look
    :ivar need: HOOK, LIVE or SCHEDULER
    :ivar why: what we use it for
    :ivar change: what would happen if it changed and nobody noticed
    """

    module: str
    owner: str
    name: str
    form: Taken | Called | Set | Fields | Value
    need: str
    why: str
    change: str

    @property
    def file(self):
        return self.module.replace('.', '/') + '.py'

    @property
    def label(self):
        return '.'.join(filter(None, (self.owner, self.name)))

    def problem(self):
        """How the installed Nova differs; None where it does not."""
        try:
            owner = importlib.import_module(self.module)
            if self.owner:
                owner = getattr(owner, self.owner)
            return self.form.problem(owner, self.name)
        except ImportError:
            return 'is gone with its module'
        except AttributeError:
            return 'is gone'
        except Exception as exc:
            # Whatever it is by now, it does not look as it did.
            return f'can not be read: {exc!r}'


class Difference(typing.NamedTuple):
    """A private part of Nova that does not look as it is used."""

    symbol: Symbol
    problem: str

    def __str__(self):
        return f'{self.symbol.label} ({self.symbol.file}) {self.problem}'


def differences(symbols):
    """What of the installed Nova looks different.

    :param symbols: an iterable of Symbol
    :returns: [Difference]
    """
    return [Difference(symbol, problem) for symbol in symbols
            if (problem := symbol.problem()) is not None]


def _signature(owner, name):
    return inspect.signature(getattr(owner, name))


def _sets(cls, name):
    """Whether a method of a class sets an attribute of that name."""
    for found in vars(cls).values():
        if not isinstance(found, types.FunctionType):
            continue
        function = inspect.unwrap(found)
        if name in function.__code__.co_names and any(
                each.opname == 'STORE_ATTR' and each.argval == name
                for each in dis.get_instructions(function)):
            return True
    return False
