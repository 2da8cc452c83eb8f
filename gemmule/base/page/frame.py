"""The template engine of a page. Everything is escaped, and a name that is not there is an error."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2

from gemmule.base import units

# Control characters but for newline and tab, what turns the direction of text or breaks lines unseen.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def environment(folder: Path) -> jinja2.Environment:
    """For the templates in `folder`, which may extend `layout.html.jinja` and include `page.css`."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"visible": visible, "count": units.count, "size": units.size, "decimals": units.decimals}
    made.filters |= {"percent": units.percent, "share": units.share, "perplexity": units.perplexity}
    made.filters |= {"duration": units.duration, "capital": lambda text: text[:1].upper() + text[1:]}
    return made


def visible(text: str) -> str:
    """`text` with what can't be seen as signs, so that nothing in it vanishes or turns what stands beside it.

    Control characters are their pictures (␛), others their code points in brackets; newline and tab remain.
    """
    return UNSEEN.sub(lambda found: _sign(ord(found[0])), text)


def _sign(code: int) -> str:
    return chr(0x2400 + code) if code < 32 else "␡" if code == 0x7F else f"[U+{code:04X}]"
