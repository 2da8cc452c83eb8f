"""The values that keys of a recipe take: counts, names, places; each with its bounds and its messages."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gemmule.base.errors import RequestError
from gemmule.base.limits import LARGEST, LARGEST_CAP
from gemmule.base.vocabulary import SMALLEST_VOCABULARY
from gemmule.recipe import generation as settings

SUFFIXES = {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
LONGEST_PROMPT = 65536  # characters


def parse_count(value: Any) -> Any:
    """ "4M" -> 4000000; numbers pass through. Suffixes k, M, B, T are decimal."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([kMBT]?)\s*", value)
    if match is None or len(value) > 40:
        raise ValueError('must be a whole number, or one with a suffix k, M, B or T, as in "4M"')
    count = float(match[1].replace("_", "")) * SUFFIXES.get(match[2], 1)
    if count != int(count):
        raise ValueError("must be a whole number")
    return int(count)


def check_name(name: str) -> str:
    """A name that can be a folder's, on any system. Raises ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError("must be letters, digits, . _ and -, at most 100 of them, a letter or digit first")
    if name.endswith(".") or name.partition(".")[0].lower() in DEVICES:
        raise ValueError("can't be a folder's name on Windows: choose another")
    return name


def _no_control_characters(text: str, allowed: str = "") -> str:
    for odd in text:
        if (odd < " " or odd == "\x7f") and odd not in allowed:
            raise ValueError(f"holds a control character, {odd!r}: take it out")
    return text


def _temperature(value: float) -> float:
    try:
        settings.check("temperature", value)
    except RequestError as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    return value


def _prompt(text: str) -> str:
    return _no_control_characters(text, "\t\n\r")


# Every number has bounds that no real use reaches: so a slip is refused before work, and not by what it breaks.
TOKENS = 10**15
BATCH_TOKENS = 10**8
SEQUENCE_LENGTH = 2**20
VOCABULARY_SIZE = 10**6
STEPS = 10**9
LARGEST_RATE = 1e10  # of learning rates and decays, which guards watch

Count = Annotated[int, BeforeValidator(parse_count), Field(ge=1, le=TOKENS)]
BatchTokens = Annotated[int, BeforeValidator(parse_count), Field(ge=1, le=BATCH_TOKENS)]
VocabularySize = Annotated[int, BeforeValidator(parse_count), Field(ge=SMALLEST_VOCABULARY, le=VOCABULARY_SIZE)]
Steps = Annotated[int, Field(ge=1, le=STEPS)]
Seeds = Annotated[int, Field(ge=1, le=100)]  # how many trainings, each with its own
TopK = Annotated[int, Field(ge=1, le=LARGEST["vocabulary_size"])]
Cap = Annotated[float, Field(ge=0, le=LARGEST_CAP)]
Tracking = Literal["none", "wandb", "trackio"]
Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, AfterValidator(check_name)]
Place = Annotated[str, AfterValidator(_no_control_characters), Field(min_length=1, max_length=4096)]  # or a field
Temperature = Annotated[float, AfterValidator(_temperature), Field(ge=0, le=settings.TEMPERATURE[1])]
Prompt = Annotated[str, AfterValidator(_prompt), Field(max_length=LONGEST_PROMPT)]
