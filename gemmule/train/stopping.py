"""How training is stopped from outside: Ctrl-C, SIGTERM and SIGHUP all finish the step and save (`signals.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gemmule.base.progress import say
from gemmule.base.signals import Stop, handled


@contextmanager
def stop_flag() -> Iterator[Callable[[], Stop | None]]:
    """Gives a function that says what to raise once the step is saved; None while nobody wants it to stop.

    A second signal raises at once.
    """
    wanted: Stop | None = None

    def ask(reason: Stop) -> None:
        nonlocal wanted
        if wanted is not None:
            raise reason
        wanted = reason
        again = "Ctrl-C again" if reason is KeyboardInterrupt else "a second signal"
        say(f"finishing this step, then saving ({again} stops at once)")

    with handled(ask):
        yield lambda: wanted
