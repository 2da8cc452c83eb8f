"""How training is stopped from outside: Ctrl-C and SIGTERM both finish the step and save.

Ctrl-C is a person's; SIGTERM is what Slurm and spot machines send before they take the machine away.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from gemmule.errors import Terminated
from gemmule.progress import say

Stop = type[KeyboardInterrupt] | type[Terminated]


@contextmanager
def stop_flag() -> Iterator[Callable[[], Stop | None]]:
    """Gives a function that says what to raise once the step is saved; None while nobody wants it to stop.

    A second signal raises at once.
    """
    wanted: Stop | None = None

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal wanted
        reason = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if wanted is not None:
            raise reason
        wanted = reason
        again = "Ctrl-C again stops at once" if reason is KeyboardInterrupt else "SIGTERM"
        say(f"finishing this step, then saving ({again})")

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals go elsewhere
        yield lambda: None
        return
    try:
        yield lambda: wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
