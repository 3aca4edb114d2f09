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

"""The template: all that is asked for one server, and its flat encoding.

Flavor extra specs and server metadata hold a template as flat keys under
``kongming:``.  A value may be 255 characters at most there, so a pin map that
is longer goes on in ``kongming:pin.N.1``, ``kongming:pin.N.2`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import re
from typing import Any

from kongming import exception
from kongming.template import choices
from kongming.template import grammar
from kongming.template import tuning
from kongming.template import when as when_mod

PREFIX = 'kongming:'

#: What Nova stores of a key and of a value (nova/db/api/models.py,
#: FlavorExtraSpecs; nova/db/main/models.py, InstanceMetadata).
MAX_LENGTH = 255

#: More cells than a guest can have nodes for.
MAX_CELL = grammar.MAX_NODE
MAX_IOTHREAD = 1023

#: A profile's name that stands for "whatever the windows say".
AUTO = 'auto'

PinMaps = Mapping[int, tuple[grammar.Pin, ...]]


@dataclasses.dataclass(frozen=True)
class Profile:
    """A named overlay on the template.

    :ivar when: windows in which it is active and conditions on the server's
        load; none: by request only
    :ivar pins: cell -> map that replaces the cell's own; here a dedicated
        vCPU may float, over what its server owns and the shared set
    :ivar lend: whether others may use, meanwhile, what this leaves of the
        pCPUs that the server owns
    :ivar power: what becomes of these pCPUs where nobody uses them: ``low``,
        a low governor, or ``off``, offline; None: they stay as they are
    """

    when: when_mod.When = ()
    pins: PinMaps = dataclasses.field(default_factory=dict)
    emulator: grammar.Threads | None = None
    sched: tuple[tuning.Sched, ...] = ()
    qos: tuple[tuning.Qos, ...] = ()
    cache: tuple[tuning.Cache, ...] = ()
    lend: bool = False
    power: str | None = None


@dataclasses.dataclass(frozen=True)
class Template:
    """All that is asked for one server.

    :ivar nodes: cell -> host node
    :ivar pins: cell -> its pin map
    :ivar memory: cell -> ``strict`` or ``preferred``
    :ivar emulator: where the emulator threads run; None: as Nova decides
    :ivar iothreads: I/O thread, from 1 -> where it runs
    :ivar profiles: name -> overlay
    :ivar borrow: whether shared vCPUs use what others lend as well: on their
        own ``node``, on the whole ``host``, or not at all
    :ivar balance: ``node`` where the host may have cells whose place is left
        open go to another of its nodes, by what it measures
    :ivar grant: what the server's metadata may ask for
    """

    nodes: Mapping[int, int] = dataclasses.field(default_factory=dict)
    pins: PinMaps = dataclasses.field(default_factory=dict)
    memory: Mapping[int, str] = dataclasses.field(default_factory=dict)
    emulator: grammar.Threads | None = None
    iothreads: Mapping[int, grammar.Threads] = dataclasses.field(
        default_factory=dict)
    sched: tuple[tuning.Sched, ...] = ()
    qos: tuple[tuning.Qos, ...] = ()
    cache: tuple[tuning.Cache, ...] = ()
    profiles: Mapping[str, Profile] = dataclasses.field(default_factory=dict)
    borrow: str | None = None
    balance: str | None = None
    grant: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.pins or self.nodes or self.profiles or self.qos
                    or self.cache or self.sched or self.emulator
                    or self.iothreads or self.memory or self.borrow
                    or self.balance or self.grant)

    @property
    def cells(self) -> list[int]:
        """The cells that the template says anything of, ascending."""
        return sorted({*self.nodes, *self.pins, *self.memory, *(
            cell for profile in self.profiles.values()
            for cell in profile.pins)})

    def is_open(self, cell: int) -> bool:
        """Whether it leaves a cell's place to its host: it names neither the
        node nor a pCPU of it, in no profile either.

        What a profile says of pCPUs that vCPUs own goes with the cell.
        """
        return cell not in self.nodes and not self.pins.get(cell) and all(
            isinstance(target, grammar.OfVcpus)
            for profile in self.profiles.values()
            for pin in profile.pins.get(cell, ()) for target in pin.targets)

    @property
    def goes_by_zones(self) -> bool:
        """Whether a window depends on a database of time zones."""
        return any(clause.window and clause.window.zone not in (None, 'UTC')
                   for profile in self.profiles.values()
                   for clause in profile.when)


def has_template(specs: Mapping[str, str]) -> bool:
    """Whether any key is KongMing's: the one question native servers ask."""
    for key in specs:
        if key.startswith(PREFIX):
            return True
    return False


def ours(specs: Mapping[str, str]) -> dict[str, str]:
    """The keys that are KongMing's."""
    return {key: value for key, value in specs.items()
            if key.startswith(PREFIX)}


# The keys.  Each is a field of Template or Profile; a numbered one is an entry
# of that field.

def _join(entries: Iterable[Any]) -> str:
    return ' '.join(map(str, entries))


@dataclasses.dataclass(frozen=True)
class _Key:
    """A kind of key.

    :ivar stem: its name, without a number
    :ivar field: of Template or Profile
    :ivar most: the largest number, where there is one (``stem.N``)
    :ivar least: the smallest
    :ivar long: whether a value may go on in ``stem.N.1``, ``stem.N.2`` ...
    """

    stem: str
    field: str
    parse: Callable[[str], Any]
    format: Callable[[Any], str] = str
    most: int | None = None
    least: int = 0
    long: bool = False


_PIN = _Key('pin', 'pins', grammar.parse_pins, _join, MAX_CELL, long=True)
_EMULATOR = _Key('emulator', 'emulator', grammar.parse_threads,
                 grammar.format_threads)
_SCHED = _Key('sched', 'sched', tuning.parse_sched, _join)
_QOS = _Key('qos', 'qos', tuning.parse_qos, _join)
_CACHE = _Key('cache', 'cache', tuning.parse_cache, _join)
_OVERLAY = dataclasses.replace(_PIN, parse=grammar.parse_overlay)
_LEND = _Key('lend', 'lend', choices.parse_flag, choices.format_flag)
_POWER = _Key('power', 'power', choices.parse_power)
_WHEN = _Key('when', 'when', when_mod.parse, when_mod.format_when)

TEMPLATE_KEYS = {key.stem: key for key in (
    _Key('node', 'nodes', choices.parse_node, str, MAX_CELL), _PIN,
    _Key('memory', 'memory', choices.parse_memory, str, MAX_CELL), _EMULATOR,
    _Key('iothread', 'iothreads', grammar.parse_threads,
         grammar.format_threads, MAX_IOTHREAD, least=1),
    _SCHED, _QOS, _CACHE, _Key('borrow', 'borrow', choices.parse_borrow),
    _Key('balance', 'balance', choices.parse_balance),
    _Key('grant', 'grant', choices.parse_grant, choices.format_grant))}
PROFILE_KEYS = {key.stem: key for key in (
    _WHEN, _OVERLAY, _EMULATOR, _SCHED, _QOS, _CACHE, _LEND, _POWER)}

_PROFILE_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_-]{0,31}')
_PROFILE_FORM = ('a letter and up to 31 more letters, digits, - or _ make '
                 'the name of a profile')


def _known(keys: Mapping[str, _Key]) -> str:
    return ', '.join(key.stem if key.most is None else f'{key.stem}.N'
                     for key in keys.values())


class _Reader:
    """Collects the fields of one Template or Profile, and what is wrong."""

    def __init__(self, prefix: str, keys: Mapping[str, _Key],
                 hint: str) -> None:
        self.prefix = prefix
        self.keys = keys
        self.hint = hint
        self.fields: dict[str, Any] = {}
        self.problems: list[exception.Problem] = []
        self._parts: dict[tuple[str, int], dict[int, str]] = {}

    def read(self, key: str, value: str) -> None:
        """Take one key, without the prefix."""
        stem, dot, rest = key.partition('.')
        kind = self.keys.get(stem)
        try:
            if kind is None or (kind.most is None) == bool(dot):
                raise grammar.Malformed(
                    0, f'there is no such key; {self.hint}')
            if kind.most is None:
                self.fields[kind.field] = kind.parse(value)
                return
            number, dot, part = rest.partition('.')
            index = _number(number, kind.least, kind.most)
            if kind.long:
                place = _number(part, 1, 999) if dot else 0
                self._parts.setdefault((stem, index), {})[place] = value
            elif dot:
                raise grammar.Malformed(
                    0, f'there is no such key; {self.hint}')
            else:
                self.fields.setdefault(kind.field, {})[index] = kind.parse(
                    value)
        except grammar.Malformed as exc:
            self.problems.append(exception.Problem(
                self.prefix + key, value, exc.column, exc.reason))

    def finish(self) -> dict[str, Any]:
        """The fields; values that were in parts are read now."""
        for (stem, index), parts in sorted(self._parts.items()):
            kind = self.keys[stem]
            key = f'{self.prefix}{stem}.{index}'
            try:
                self.fields.setdefault(kind.field, {})[index] = _join_parts(
                    key, parts, kind.parse)
            except _Misplaced as exc:
                self.problems.append(exc.problem)
        self._across_cells(self.fields.get('pins', {}))
        return self.fields

    def _across_cells(self, pins: PinMaps) -> None:
        """vCPUs and pCPUs that two cells claim."""
        vcpus: dict[int, int] = {}
        pcpus: dict[int, int] = {}
        for cell, entries in sorted(pins.items()):
            for entry in entries:
                owned = [] if entry.floats else [
                    p for target in entry.targets
                    if isinstance(target, grammar.Range)
                    for p in target.ids()]
                # Of many, the first one: a tenant can make thousands.
                taken = next((
                    f'vCPU {v} stands in cell {vcpus[v]} already'
                    for v in entry.vcpu_ids()
                    if vcpus.get(v, cell) != cell), None) or next((
                        f'pCPU {p} is given to cell {pcpus[p]} already'
                        for p in owned if pcpus.get(p, cell) != cell), None)
                if taken:
                    self.problems.append(exception.Problem(
                        f'{self.prefix}pin.{cell}', str(entry), 0,
                        f'{taken}; give each once'))
                vcpus.update(dict.fromkeys(entry.vcpu_ids(), cell))
                pcpus.update(dict.fromkeys(owned, cell))


def _number(digits: str, least: int, most: int) -> int:
    if (not re.fullmatch('0|[1-9][0-9]{0,3}', digits)
            or not least <= int(digits) <= most):
        raise grammar.Malformed(
            0, f"'{digits}' in the key is no number from {least} to {most}")
    return int(digits)


class _Misplaced(Exception):
    def __init__(self, problem: exception.Problem) -> None:
        self.problem = problem


def _join_parts(key: str, parts: Mapping[int, str],
                parse: Callable[[str], Any]) -> Any:
    """Read one value from its parts; an error names the part."""
    names = {part: f'{key}.{part}' if part else key for part in parts}
    for expected, part in enumerate(sorted(parts)):
        if part != expected:
            missing = f'{key}.{expected}' if expected else key
            raise _Misplaced(exception.Problem(
                names[part], parts[part], 0,
                f'it continues {missing}, which is missing'))
    joined, starts = '', []
    for part in range(len(parts)):
        starts.append(len(joined))
        joined += parts[part] + ' '
    try:
        return parse(joined)
    except grammar.Malformed as exc:
        offset = exc.column - 1
        part = max(p for p, start in enumerate(starts) if start <= offset)
        raise _Misplaced(exception.Problem(
            names[part], parts[part],
            min(offset - starts[part], len(parts[part])) + 1,
            exc.reason)) from exc


def decode(specs: Mapping[str, str]) -> Template:
    """Read a template from extra specs or metadata; other keys are skipped.

    :raises kongming.exception.InvalidTemplate: with every problem found
    """
    top = _Reader(PREFIX, TEMPLATE_KEYS,
                  f'the keys are {_known(TEMPLATE_KEYS)}, and '
                  f'profile.NAME.KEY with {_known(PROFILE_KEYS)}')
    profiles: dict[str, _Reader] = {}
    for full_key in sorted(specs):
        if not full_key.startswith(PREFIX):
            continue
        key, value = full_key[len(PREFIX):], specs[full_key]
        stem, _dot, rest = key.partition('.')
        if stem != 'profile':
            top.read(key, value)
            continue
        name, _dot, inner = rest.partition('.')
        if not _PROFILE_NAME.fullmatch(name) or name == AUTO:
            top.problems.append(exception.Problem(
                full_key, value, 0, f"'{name}' is no name for a profile; "
                                    f'{_PROFILE_FORM} ({AUTO} is taken)'))
            continue
        reader = profiles.setdefault(name, _Reader(
            f'{PREFIX}profile.{name}.', PROFILE_KEYS,
            f'a profile has {_known(PROFILE_KEYS)}'))
        reader.read(inner, value)
    fields = top.finish()
    if profiles:
        fields['profiles'] = {name: Profile(**reader.finish())
                              for name, reader in profiles.items()}
    problems = [p for reader in (top, *profiles.values())
                for p in reader.problems]
    problems.extend(
        exception.Problem(
            f'{PREFIX}profile.{name}.power', profile.power, 1,
            'what a profile lends is used by others, and stays on; say one '
            'of lend and power')
        for name, profile in fields.get('profiles', {}).items()
        if profile.lend and profile.power)
    if problems:
        raise exception.InvalidTemplate(problems)
    return Template(**fields)


def encode(template: Template,
           most: int | None = MAX_LENGTH) -> dict[str, str]:
    """The flat keys of a template; :func:`decode` gives it back.

    :param most: how long a value may be; None keeps them whole
    :raises kongming.exception.InvalidTemplate: where a value is longer than
        that, and can't go on in a second one
    """
    specs = _encode_fields(PREFIX, TEMPLATE_KEYS, template, most)
    for name, profile in template.profiles.items():
        specs.update(_encode_fields(f'{PREFIX}profile.{name}.', PROFILE_KEYS,
                                    profile, most))
    too_long = [exception.Problem(
        key, value, most + 1, f'it has {len(value)} characters and Nova '
                              f'keeps {most}; ranges (0-7) make it shorter')
                for key, value in specs.items() if most and len(value) > most]
    if too_long:
        raise exception.InvalidTemplate(too_long)
    return dict(sorted(specs.items()))


def _encode_fields(prefix: str, keys: Mapping[str, _Key],
                   source: Template | Profile,
                   most: int | None) -> dict[str, str]:
    specs: dict[str, str] = {}
    for key in keys.values():
        value = getattr(source, key.field)
        if not value:
            continue
        if key.most is None:
            specs[prefix + key.stem] = key.format(value)
            continue
        for number, entry in value.items():
            stem = f'{prefix}{key.stem}.{number}'
            chunks = (_chunks(entry, most) if key.long and most
                      else [key.format(entry)])
            for part, text in enumerate(chunks):
                specs[f'{stem}.{part}' if part else stem] = text
    return specs


def check_entry(key: str, value: str) -> None:
    """Check one key by itself, as nova-api hands them over.

    :param key: with its ``kongming:`` prefix
    :raises kongming.exception.InvalidTemplate: naming key, value and column
    """
    match = re.fullmatch(r'(.*pin\.[0-9]+)\.[0-9]+', key)
    # A continuation is checked as the map that it continues.
    decode({match[1] if match else key: value})


def _chunks(entries: Iterable[Any], most: int) -> list[str]:
    """Entries packed into as few values as fit, in their order."""
    values = ['']
    for entry in map(str, entries):
        if values[-1] and len(values[-1]) + 1 + len(entry) > most:
            values.append('')
        values[-1] = f'{values[-1]} {entry}'.lstrip()
    return values
