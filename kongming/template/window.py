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

"""Windows of wall-clock time: ``Mon-Fri 22:00-06:00 Asia/Shanghai``.

Membership is decided from local time, so that daylight saving needs no case of
its own: an hour that is skipped is in no window, one that is repeated is in
its window twice.  A window that crosses midnight belongs to the day on which
it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import datetime
import re
import zoneinfo

from kongming.template import grammar
from kongming.template import zones

DAYS = ('Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun')
_WHOLE_DAY = 24 * 60

_DAY = datetime.timedelta(days=1)
#: How far ahead a change is looked for.  A year has every change of a zone's
#: offset, and two years have it on other days of the week.
_DAYS_AHEAD = 2 * 366

_FORM = 'write [days] HH:MM-HH:MM [zone], such as Mon-Fri 22:00-06:00 UTC'
_TIMES = re.compile(r'([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})')


@dataclasses.dataclass(frozen=True)
class Window:
    """Recurring hours.

    :ivar days: of the week, 0 being Monday; None for every day
    :ivar start: minutes since midnight, local time
    :ivar end: likewise, exclusive; not after ``start`` means the next day
    :ivar zone: IANA name; None stands for UTC
    """

    days: tuple[grammar.Range, ...] | None
    start: int
    end: int
    zone: str | None = None

    def __str__(self) -> str:
        parts = [f'{_clock(self.start)}-{_clock(self.end)}']
        if self.days is not None:
            parts.insert(0, ','.join(
                DAYS[r.low] if r.low == r.high
                else f'{DAYS[r.low]}-{DAYS[r.high]}' for r in self.days))
        if self.zone is not None:
            parts.append(self.zone)
        return ' '.join(parts)

    @property
    def tzinfo(self) -> zoneinfo.ZoneInfo:
        return zones.zone(self.zone or 'UTC')

    def contains(self, moment: datetime.datetime) -> bool:
        """Whether a moment, aware of its time zone, is inside."""
        local = moment.astimezone(self.tzinfo)
        minute = local.hour * 60 + local.minute
        today = local.weekday()
        if self.end > self.start:
            return self._on(today) and self.start <= minute < self.end
        return ((self._on(today) and minute >= self.start)
                or (self._on((today - 1) % 7) and minute < self.end))

    def edges(self, day: datetime.date) -> Iterator[datetime.datetime]:
        """Where its hours begin and end on a local day, in UTC.

        Both moments where an hour is repeated, and some moment where it is
        skipped.
        """
        midnight = datetime.datetime.combine(day, datetime.time())
        for minutes in (self.start, self.end):
            local = midnight + datetime.timedelta(minutes=minutes)
            for fold in (0, 1):
                yield local.replace(tzinfo=self.tzinfo, fold=fold).astimezone(
                    datetime.timezone.utc)

    def _on(self, day: int) -> bool:
        return self.days is None or any(
            day in r.ids() if r.low <= r.high
            else day >= r.low or day <= r.high for r in self.days)


def _clock(minutes: int) -> str:
    return f'{minutes // 60:02}:{minutes % 60:02}'


def parse_window(words: list[tuple[int, str]], offset: int,
                 length: int) -> Window:
    """One window.

    :param words: with their columns
    :param offset: of its text in the value
    :param length: of its text
    :raises kongming.template.grammar.Malformed: with the column
    """
    words = list(words)
    if not words:
        raise grammar.Malformed(offset + 1, f'a window is empty; {_FORM}')
    days = None
    if not words[0][1][:1].isdigit():
        column, word = words.pop(0)
        days = _parse_days(word, column)
    if not words:
        raise grammar.Malformed(offset + length, f'no hours; {_FORM}')
    column, word = words.pop(0)
    match = _TIMES.fullmatch(word)
    if match is None:
        raise grammar.Malformed(column, f"'{word}' are no hours; {_FORM}")
    start = _minutes(match[1], match[2], column)
    end = _minutes(match[3], match[4], column + 6)
    if start == _WHOLE_DAY:
        raise grammar.Malformed(column, 'a window can not begin at 24:00; '
                                        'write 00:00')
    if start == end:
        raise grammar.Malformed(column, f"'{word}' is an empty window; "
                                        f'00:00-24:00 is the whole day')
    zone = None
    if words:
        column, zone = words.pop(0)
        _check_zone(zone, column)
    if words:
        raise grammar.Malformed(
            words[0][0], f"'{words[0][1]}' is one word too many; {_FORM}, "
                         f'a semicolon between windows')
    return Window(days, start, end, zone)


def active(windows: tuple[Window, ...], moment: datetime.datetime) -> bool:
    """Whether any of the windows contains the moment."""
    return any(window.contains(moment) for window in windows)


def next_change(windows: tuple[Window, ...],
                moment: datetime.datetime) -> datetime.datetime | None:
    """The next moment at which :func:`active` changes.

    Between two edges of the windows, and changes of their zones' offsets, it
    is constant; so it is asked at each of these in turn.  While no offset
    changes, a week is as the week before.

    :param moment: aware of its time zone
    :returns: after ``moment``, in UTC; None where nothing changes within two
        years
    """
    moment = moment.astimezone(datetime.timezone.utc)
    now = active(windows, moment)
    zones = {window.tzinfo for window in windows}
    begin = moment.replace(microsecond=0)
    steady = 0
    for _ in range(_DAYS_AHEAD if windows else 0):
        end = begin + _DAY
        candidates = {_shift(zone, begin, end) for zone in zones
                      if _offset(zone, begin) != _offset(zone, end)}
        steady = 0 if candidates else steady + 1
        if steady <= 8:
            for window in windows:
                # Where offsets go back, local time may begin a day before.
                today = begin.astimezone(window.tzinfo).date()
                for days in (-1, 0, 1, 2):
                    candidates.update(window.edges(today + days * _DAY))
            for candidate in sorted(candidates):
                if (moment < candidate <= end
                        and active(windows, candidate) != now):
                    return candidate
        begin = end
    return None


def _offset(zone: zoneinfo.ZoneInfo,
            moment: datetime.datetime) -> datetime.timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _shift(zone: zoneinfo.ZoneInfo, begin: datetime.datetime,
           end: datetime.datetime) -> datetime.datetime:
    """The first second with another offset than ``begin`` has."""
    before = _offset(zone, begin)
    low, high = 0, int((end - begin).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, begin + datetime.timedelta(seconds=middle)) == before:
            low = middle
        else:
            high = middle
    return begin + datetime.timedelta(seconds=high)


def _parse_days(text: str, column: int) -> tuple[grammar.Range, ...]:
    ranges = []
    for part in text.split(','):
        low, dash, high = part.partition('-')
        for name in (low, high) if dash else (low,):
            if name not in DAYS:
                raise grammar.Malformed(
                    column, f"'{name}' is not a day; {', '.join(DAYS)} are")
        ranges.append(grammar.Range(DAYS.index(low),
                                    DAYS.index(high if dash else low)))
        column += len(part) + 1
    return tuple(ranges)


def _minutes(hours: str, minutes: str, column: int) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _WHOLE_DAY:
        raise grammar.Malformed(column, f"'{hours}:{minutes}' is not a time; "
                                        f'00:00 to 24:00 is')
    return total


def _check_zone(name: str, column: int) -> None:
    try:
        zones.zone(name)
    except zoneinfo.ZoneInfoNotFoundError as exc:
        raise grammar.Malformed(
            column, f"'{name}' is not a time zone; an IANA name is, such as "
                    f'Asia/Shanghai or UTC') from exc
