"""Numbers as people read them, a unit never on another line than its number. A figure that does not apply is a dash."""

from __future__ import annotations

import math

DASH = "–"
SPACE = "\u00a0"  # unbreakable
Number = float | int | None


def is_number(value: object) -> bool:
    """Whether `value` is a finite number, and so can be shown or drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimals(value: Number, places: int) -> str:
    """1234.5 with one place is "1,234.5"."""
    return f"{value:,.{places}f}" if value is not None and is_number(value) else DASH


def percent(value: Number) -> str:
    """0.0193 is "1.9%"."""
    return f"{100 * value:.1f}%" if value is not None and is_number(value) else DASH


def share(part: float, whole: float) -> str:
    """`part` of `whole` as "11.8%": something is never "0.0%", and not all is never "100.0%"."""
    if not whole:
        return DASH
    if 0 < part / whole < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= part / whole < 1 else percent(part / whole)


def perplexity(value: Number) -> str:
    """Three to four digits: 8.41, 60.3, 1,204; a model that knows nothing at all may pass a million: 1.2e+09."""
    if value is None or not is_number(value):
        return DASH
    if value >= 1e6:
        return f"{value:.1e}"
    return decimals(value, 2 if value < 9.995 else 1 if value < 999.95 else 0)


def count(value: Number) -> str:
    """Decimal suffixes, as in recipes: 850, 12.3k, 3.7M, 123M, 2.6B."""
    if value is None or not is_number(value):
        return DASH
    return _scaled(value, ("", "k", "M", "B", "T"), joint="") or f"{value:.1e}"


def flops(value: Number) -> str:
    """Floating-point operations: 12.3 TFLOP."""
    if value is None or not is_number(value):
        return DASH
    return _scaled(value, _PREFIXES, joint="FLOP") or f"{value:.1e}{SPACE}FLOP"


def duration(seconds: Number) -> str:
    """0.4 s, 48 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    if seconds is None or not is_number(seconds):
        return DASH
    if seconds < 9.95:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min{SPACE}{whole % 60:02d}{SPACE}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}{SPACE}h{SPACE}{minutes % 60:02d}{SPACE}min"
    hours = round(seconds / 3600)
    return f"{hours // 24}{SPACE}d{SPACE}{hours % 24}{SPACE}h"


def clock(seconds: float) -> str:
    """As a clock shows it, in a line that changes every second: 75 is "1:15", 3,700 is "1:01:40"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def size(value: Number) -> str:
    """Bytes, decimal: 5.4 MB."""
    if value is None or not is_number(value):
        return DASH
    return _scaled(value, _PREFIXES, joint="B") or f"{value:.1e}{SPACE}B"


def plain(text: str) -> str:
    """For a terminal or a file: with spaces that break as others do."""
    return text.replace(SPACE, " ")


_PREFIXES = tuple(f"{SPACE}{prefix}" for prefix in ("", "k", "M", "G", "T", "P", "E", "Z", "Y"))


def _scaled(value: float, prefixes: tuple[str, ...], joint: str) -> str | None:
    """`value` divided by the thousands that leave it below 1000 as rounded; None if it is beyond the prefixes."""
    for power, prefix in enumerate(prefixes):
        scaled = value / 1000**power
        if abs(scaled) < 999.5:
            whole = power == 0 and float(value).is_integer()
            places = 0 if whole or abs(scaled) >= 99.95 else 1
            number = f"{scaled:.{places}f}"
            return f"{number.removesuffix('.0')}{prefix}{joint}"
    return None
