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

"""How far long work is: a bar in a terminal, a line a step elsewhere.

Work that is short as a rule is told of once it takes longer than a second.
"""

from __future__ import annotations

from collections.abc import Callable
import shutil
import threading
import time
from types import TracebackType
from typing import Self
from typing import TextIO

#: For so many seconds nothing is shown of what is short as a rule.
PATIENCE = 1.0
_WIDTH = 24
_FULL, _EMPTY = '█', '░'
#: Erase the line (ECMA-48), and go back to its beginning.
_CLEAR = '\033[2K\r'


def bar(done: int, total: int, seconds: float, text: str,
        columns: int) -> str:
    """One line: how much is done, what is being done and for how long."""
    full = _WIDTH * done // max(total, 1)
    line = (f'{_FULL * full}{_EMPTY * (_WIDTH - full)} {text} '
            f'({seconds:.0f} s)')
    # The last column stays free, or a terminal would go to the next line.
    return line if len(line) < columns else line[:columns - 2] + '…'


class _Ticking:
    """A context in which something is drawn again and again.

    :param stream: where it goes, standard error as a rule
    :param pause: from one time to the next, in seconds
    """

    def __init__(self, stream: TextIO, pause: float,
                 clock: Callable[[], float]) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._clock = clock
        self._since = clock()
        self._pause = pause
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._end.set()
        self._ticker.join()
        if self._terminal and (left := self._left()) is not None:
            self._stream.write(f'{_CLEAR}{left}')
            self._stream.flush()

    def _tick(self) -> None:
        while not self._end.wait(self._pause):
            with self._lock:
                self._draw()

    def _left(self) -> str | None:
        """What stays in a terminal; None where nothing was shown."""
        raise NotImplementedError

    def _draw(self) -> None:
        raise NotImplementedError


class Progress(_Ticking):
    """A context; :meth:`step` is called with a line before each step.

    :param stream: where it goes, standard error as a rule
    :param total: number of steps
    """

    def __init__(self, stream: TextIO, total: int,
                 clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, 1, clock)
        self._total = total
        self._started = -1
        self._text = ''

    def _left(self) -> str | None:
        # What was being done stays to be read, above an error's line.
        return f'{self._text}\n' if self._text else None

    def step(self, line: str) -> None:
        """The next step begins."""
        with self._lock:
            if self._terminal and self._text:
                self._stream.write(f'{_CLEAR}{self._text}\n')
            elif not self._terminal:
                self._stream.write(f'{line}\n')
            self._started += 1
            self._text, self._since = line, self._clock()
            self._draw()

    def _draw(self) -> None:
        from kongming.render import terminal
        if self._terminal and self._text:
            self._stream.write(_CLEAR + terminal.for_encoding(bar(
                self._started, self._total, self._clock() - self._since,
                self._text, shutil.get_terminal_size().columns),
                self._stream.encoding))
        self._stream.flush()


class Waiting(_Ticking):
    """A context; what :meth:`say` was called with last is shown after a while.

    In a terminal it goes again, elsewhere each is a line.

    :param stream: where it goes, standard error as a rule
    :param text: what is being done
    """

    def __init__(self, stream: TextIO, text: str,
                 clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, PATIENCE, clock)
        self._text = text
        self._shown = ''

    def _left(self) -> str | None:
        return '' if self._shown else None

    def say(self, text: str) -> None:
        """What is being done now."""
        with self._lock:
            self._text = text

    def _draw(self) -> None:
        if self._terminal:
            self._shown = f'{self._text} ({self._clock() - self._since:.0f} s)'
            columns = shutil.get_terminal_size().columns
            self._stream.write(_CLEAR + self._shown[:columns - 1])
        elif self._shown != self._text:
            self._shown = self._text
            self._stream.write(f'{self._text} ...\n')
        self._stream.flush()
