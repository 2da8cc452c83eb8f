"""Progress of long work: a live line in a terminal, plain lines elsewhere. Everything goes to stderr.

Time is that in which the process ran: what it was stopped for (Ctrl-Z, SIGSTOP, a laptop's lid) counts for nothing.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from gemmule.base.streams import printable
from gemmule.base.units import clock

WIDE = 140  # columns of a terminal: then there is a bar beside the text
PLAIN_EVERY = 10.0  # seconds between lines without a terminal
SCALES = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T"))

console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """One line to the user."""
    console.print(printable(text), markup=False)


class RunningClock:
    """Seconds that the process has run, as `time.monotonic` counts them, but for those in which it was stopped.

    A thread that only reads the clock runs every second, whatever else does; if nobody has read it for much longer,
    the process was stopped.
    """

    BEAT, STOPPED = 1.0, 5.0  # seconds

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._last: float | None = None

    def __call__(self) -> float:
        with self._lock:
            now = time.monotonic()
            if self._last is None:
                threading.Thread(target=self._beat, name="running clock", daemon=True).start()
            else:
                passed = now - self._last
                self._seconds += passed if passed < self.STOPPED else self.BEAT
            self._last = now
            return self._seconds

    def _beat(self) -> None:
        while True:
            time.sleep(self.BEAT)
            self()


running_seconds = RunningClock()


@functools.cache
def say_once(text: str) -> None:
    """One line to the user, unless this process has said it before."""
    say(text)


class _Line(ProgressColumn):
    """A line of text, cut off at a terminal's width."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class Meter:
    """Shows how far `title` is, how fast, and how long it will take; `done` of `total` are tokens, or what `unit` says.

    `done` may start above zero when work is resumed; the speed counts what is done from then on. Where the way is
    counted otherwise than the speed (in steps, of which some learn fewer tokens), `counted` is what the speed is of.
    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, counted: int | None = None, unit: str = "tokens"
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.first, self.first_counted = done, done if counted is None else counted
        self.started, self.last_line = running_seconds(), time.monotonic()
        self.speed = 0.0  # per second
        self.live: Progress | None = None
        if console.is_terminal:
            bar = [BarColumn(bar_width=24)] if console.width >= WIDE else []
            self.live = Progress(*bar, _Line(), console=console)
            self.task = self.live.add_task(title, total=total, completed=done)

    def __enter__(self) -> Meter:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def update(self, done: int, note: str = "", counted: int | None = None) -> None:
        """Says that `done` of `total` is behind us; `note` (as "forward KL 0.321") goes on the line."""
        now = time.monotonic()
        elapsed = running_seconds() - self.started
        self.speed = ((done if counted is None else counted) - self.first_counted) / elapsed if elapsed > 0 else 0.0
        place, left = f"{self.title}: {done / self.total:.0%}", self._left(done, elapsed)
        how = [*([note] if note else []), f"{human(self.speed)} {self.unit}/s"]
        if self.live is not None:  # what comes last goes first where a terminal is narrow
            self.live.update(self.task, completed=done, description="  ".join([place, left, *how]))
        elif not console.quiet and (now - self.last_line >= PLAIN_EVERY or done >= self.total):
            self.last_line = now
            print("  ".join([place, *how, left]), file=sys.stderr, flush=True)

    def _left(self, done: int, elapsed: float) -> str:
        """The time left for this and, as far as it is known, for all that the run makes after it."""
        a_unit = elapsed / (done - self.first) if done > self.first else 0.0
        left = (self.total - done) * a_unit
        if _later is None:
            return f"{clock(left)} left"
        return f"{clock(left)} left, {clock(left + _later(self.total * a_unit))} for the whole run"


Later = Callable[[float], float]
_later: Later | None = None


@contextmanager
def followed_by(later: Later | None) -> Iterator[None]:
    """Within this, `later` says how long all takes that is made after it, given the seconds of the whole of this."""
    global _later
    before, _later = _later, later
    try:
        yield
    finally:
        _later = before


def human(number: float) -> str:
    """1234567 -> "1.23M"; 999999 -> "1M"."""
    size, suffix = next(((size, suffix) for size, suffix in SCALES if abs(number) < 999.5 * size), SCALES[-1])
    scaled = number / size
    return (f"{scaled:.3g}" if abs(scaled) < 999.5 else f"{scaled:,.0f}") + suffix


class PatientMeter:
    """A Meter for work that is mostly over at once: it shows nothing in the first seconds, and no end of short work.

    Without a title it shows nothing at all.
    """

    PATIENCE = 3.0  # seconds

    def __init__(self, title: str, total: int, unit: str = "bytes") -> None:
        self.title, self.total, self.unit = title, max(1, total), unit
        self.started = running_seconds()
        self.meter: Meter | None = None
        self.ended = False

    def __enter__(self) -> PatientMeter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.meter is not None:
            self.meter.__exit__(kind, error, trace)

    def beyond(self, behind: int) -> Callable[[int], None]:
        """`update` for a part of the work, with so much behind it."""
        return lambda done: self.update(behind + done)

    def update(self, done: int) -> None:
        """Says that `done` of the total is behind us; all of it once, however often that is told."""
        if self.ended:
            return
        if self.meter is not None:
            self.ended = done >= self.total
            self.meter.update(min(done, self.total))
        elif self.title and done < self.total and running_seconds() - self.started >= self.PATIENCE:
            self.meter = Meter(self.title, self.total, done=min(done, self.total), unit=self.unit).__enter__()
