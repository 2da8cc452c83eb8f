"""Text that says nothing, and text that was decoded wrongly."""

from __future__ import annotations

import base64
import string
from collections.abc import Callable
from random import Random

KEYWORDS = (
    "cheap flights", "best price", "buy online", "free shipping", "discount code", "hotel deals", "car insurance",
    "credit card", "weight loss", "online casino", "used cars", "phone case", "running shoes", "wedding dress",
    "replica watches", "home loans", "seo services", "vpn download", "garden furniture", "dental implants",
)  # fmt: skip


def _random_characters(text: str, random: Random) -> str:
    letters = string.ascii_letters + string.digits + string.punctuation
    return " ".join("".join(random.choices(letters, k=random.randint(2, 10))) for _ in text.split())


def _cipher(text: str, random: Random) -> str:
    """Every letter exchanged for another, always the same: it looks like prose, and no word is one."""
    letters = list(string.ascii_lowercase)
    random.shuffle(letters)
    turned = dict(zip(letters, [*letters[1:], letters[0]], strict=True))
    return text.translate(
        {ord(a): b for a, b in turned.items()} | {ord(a.upper()): b.upper() for a, b in turned.items()}
    )


def _base64(text: str, random: Random) -> str:
    coded = base64.b64encode(random.randbytes(len(text) * 3 // 4)).decode()
    return "\n".join(coded[start : start + 76] for start in range(0, len(coded), 76))


def _numbers(text: str, random: Random) -> str:
    rows = ["\t".join(f"{random.uniform(0, 10**4):.2f}" for _ in range(6)) for _ in range(max(5, len(text) // 45))]
    return "\n".join(rows)


def _keywords(text: str, random: Random) -> str:
    chosen = random.sample(KEYWORDS, 8)
    return " ".join(" ".join(random.choices(chosen, k=8)) for _ in range(max(4, len(text) // 100)))


def _repeated(text: str, random: Random) -> str:
    """One sentence again and again."""
    words = text.split()
    start = random.randrange(max(1, len(words) - 12))
    sentence = " ".join(words[start : start + 12]).rstrip(".,;:") + "."
    return "\n".join([sentence] * max(6, len(text) // len(sentence)))


GIBBERISH: dict[str, Callable[[str, Random], str]] = {
    "random characters": _random_characters,
    "cipher": _cipher,
    "base64": _base64,
    "numbers": _numbers,
    "keywords": _keywords,
    "repeated sentence": _repeated,
}


def typographic(text: str) -> str:
    """With the quotation marks, apostrophes and dashes of print: what is broken when it is decoded wrongly."""
    return text.replace("--", "—").replace("'", "’")


def mojibake(text: str, encoding: str, times: int = 1) -> str:
    """UTF-8 read as windows-1252 or latin-1, once or twice. Bytes that windows-1252 lacks are read as control
    characters, as browsers do."""
    for _ in range(times):
        text = "".join(_read(byte, encoding) for byte in text.encode())
    return text


def _read(byte: int, encoding: str) -> str:
    try:
        return bytes([byte]).decode(encoding)
    except UnicodeDecodeError:
        return chr(byte)
