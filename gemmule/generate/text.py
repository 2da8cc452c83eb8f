"""From ids to text as they come, for one row: whole characters, and nothing that a stop string would take back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers.decoders import DecodeStream

from gemmule.errors import RequestError

if TYPE_CHECKING:
    from gemmule.tokenizer.load import Tokenizer


class TextStream:
    """Turns ids into pieces of text. `ended` once a stop string has come; the text ends before it."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise RequestError("stop = '': an empty stop string would end every text at once")
        self.ended = False
        self._inner, self._stops = tokenizer.inner, stops
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._held = ""  # decoded, and the beginning of a stop string, perhaps

    def add(self, number: int) -> str:
        """The text that is certain now that the id `number` has come; often empty."""
        text = self._held + (self._decoder.step(self._inner, number) or "")
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.ended, self._held = True, ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        certain, self._held = text[: len(text) - held], text[len(text) - held :]
        return certain

    def finish(self) -> str:
        """What was held back, when no more ids come."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
