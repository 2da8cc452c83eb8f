"""How training is stopped from outside: Ctrl-C, or SIGTERM, finish the step and save."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gemmule.progress import say


@contextmanager
def interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether Ctrl-C was pressed; a second press raises KeyboardInterrupt at once."""
    pressed = False

    def press(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        say("finishing this step, then saving; Ctrl-C again stops at once")

    try:
        before = signal.signal(signal.SIGINT, press)
    except ValueError:  # not in the main thread: signals go elsewhere
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
