"""From ids to text as they come, for one row: whole characters, and nothing that a stop string would take back.

The pieces together are what the tokenizer makes of all ids at once, less what it makes of the prompt's: a decoder that
looks at what came before (Llama 2's leaves out the space before a text, and no other) finds the prompt there. Broken
bytes become U+FFFD, as the tokenizer has them. Half a character waits for its rest, and is left out if none comes.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gemmule.base.errors import RequestError
from gemmule.tokenize.tokenizer import byte_level_bytes

if TYPE_CHECKING:
    from gemmule.tokenize.tokenizer import Tokenizer

CONTEXT, LONGEST = 4, 32  # ids that stay before those to come, and when the others are let go
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # a token of one byte, in SentencePiece's kind
REPLACEMENT = "\ufffd"


class TextStream:
    """Turns ids into pieces of text. `ended` once a stop string has come; the text ends before it.

    `prompt` are the ids that it goes on from, and not given back.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), prompt: Iterable[int] = ()) -> None:
        if "" in stops:
            raise RequestError("stop = '': an empty stop string would end every text at once")
        self.ended = False
        self._inner, self._stops = tokenizer.inner, stops
        self._silent = set(tokenizer.control.values())
        self._decoder = _decoder(tokenizer, [number for number in prompt if self._is_text(number)])
        self._held = ""  # decoded, and the beginning of a stop string, perhaps

    def add(self, number: int) -> str:
        """The text that is certain now that the id `number` has come; often empty."""
        return "" if self.ended or not self._is_text(number) else self._until_a_stop(self._decoder.add(number))

    def finish(self) -> str:
        """What was held back, when no more ids come."""
        if self.ended:
            return ""
        text = self._until_a_stop(self._decoder.finish())
        held, self._held = self._held, ""
        return text + held

    def _is_text(self, number: int) -> bool:
        return number not in self._silent and self._inner.id_to_token(number) is not None

    def _until_a_stop(self, piece: str) -> str:
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.ended, self._held = True, ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        certain, self._held = text[: len(text) - held], text[len(text) - held :]
        return certain


def continuation(tokenizer: Tokenizer, prompt: Iterable[int], ids: Iterable[int]) -> str:
    """The text of `ids` as it goes on from that of `prompt`."""
    stream = TextStream(tokenizer, prompt=prompt)
    return "".join([*map(stream.add, ids), stream.finish()])


class _Decoder(Protocol):
    def add(self, number: int) -> str:
        """The text that is certain now that this id has come."""
        ...

    def finish(self) -> str:
        """What is left of it when no more ids come."""
        ...


def _decoder(tokenizer: Tokenizer, prompt: list[int]) -> _Decoder:
    decoder = tokenizer.inner.decoder
    steps = set(_types(json.loads(decoder.__getstate__()))) if decoder is not None else set()
    return _OfBytes(tokenizer) if steps == {"ByteLevel"} else _InContext(tokenizer, prompt, steps)


def _types(decoder: Any) -> Iterable[str]:
    """The types of the decoders in a sequence of them; of one by itself, its own."""
    inner = decoder.get("decoders")
    return [decoder["type"]] if inner is None else [kind for entry in inner for kind in _types(entry)]


class _OfBytes:
    """Tokens that are bytes, each for itself (GPT-2's kind): the text is that of all bytes in a row."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._inner = tokenizer.inner
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, number: int) -> str:
        return self._characters.decode(byte_level_bytes(self._inner.id_to_token(number) or ""))

    def finish(self) -> str:
        return ""


class _InContext:
    """Any other decoder: what an id adds to the text of the few ids before it."""

    def __init__(self, tokenizer: Tokenizer, prompt: list[int], steps: set[str]) -> None:
        self._tokenizer = tokenizer
        self._byte_fallback, self._byte_level = "ByteFallback" in steps, "ByteLevel" in steps
        self._ids = prompt  # those to come are appended; the first ones are let go at times
        self._given = tokenizer.decode(prompt)  # of the text of `_ids`
        self._new = len(prompt)  # of `_ids`, the first whose text is not given
        self._let_go()

    def add(self, number: int) -> str:
        self._ids.append(number)
        if self._is_byte(number):  # a row of bytes is text or broken as a whole
            return ""
        text = self._tokenizer.decode(self._ids)
        piece = self._beyond(self._whole(text))
        if len(self._given) == len(text) and len(self._ids) > LONGEST:
            self._let_go()
        return piece

    def finish(self) -> str:
        new = b"".join(map(self._byte, self._ids[self._new :]))
        return self._beyond(self._whole(self._tokenizer.decode(self._ids[: len(self._ids) - _half(new)])))

    def _whole(self, text: str) -> str:
        """Without what may be half a character, among the bytes of other decoders."""
        return text.rstrip(REPLACEMENT) if self._byte_level else text

    def _beyond(self, text: str) -> str:
        """What `text` adds to what is given; of the new ids alone where it would change that."""
        if not text.startswith(self._given):
            if self._given.startswith(text):
                return ""
            text = self._given + self._tokenizer.decode(self._ids[self._new :])
        piece, self._given, self._new = text[len(self._given) :], text, len(self._ids)
        return piece

    def _let_go(self) -> None:
        """Lets go of the ids given, but for a few whose text shows the next ones that they are within one."""
        start = max(0, len(self._ids) - CONTEXT)
        while start and self._is_byte(self._ids[start]):
            start -= 1
        if text := self._tokenizer.decode(self._ids[start:]):
            self._ids, self._given = self._ids[start:], text
            self._new = len(self._ids)

    def _is_byte(self, number: int) -> bool:
        return self._byte_fallback and BYTE.fullmatch(self._name(number)) is not None

    def _byte(self, number: int) -> bytes:
        """The byte of a token that is one; of others what is no part of a character."""
        return bytes.fromhex(self._name(number)[3:5]) if self._is_byte(number) else b" "

    def _name(self, number: int) -> str:
        return self._tokenizer.inner.id_to_token(number) or ""


def _half(text: bytes) -> int:
    """How many bytes at the end of `text` begin a character that more could complete."""
    for length in (3, 2, 1):
        try:
            text[-length:].decode()
        except UnicodeDecodeError as error:
            if error.start == 0 and error.reason == "unexpected end of data":
                return min(length, len(text))
    return 0


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
