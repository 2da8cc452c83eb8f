"""A teacher behind an OpenAI-compatible completions server, as vLLM's: its top k at every token of a prompt.

- Ids are sent as ids, so nothing is tokenized there. `prompt_logprobs = k` (vLLM's extension) gives for each token of
  the prompt the k likeliest at its place, and the token itself where it is not among them, which is left out here.
- That is all that is known of a distribution: the rest of the mass is one bucket (`SparseDistributions.rest`).
- The server's `max_logprobs` is respected: where it refuses k, its largest is taken, and this is said once.
- A server is not trusted: an answer is read up to a size and a time, then checked (`answers.py`), and taken whole or
  not at all: there are no holes.
- What may pass is tried again, and said, with exponential back-off and jitter: a refused or lost connection, a
  timeout, 408, 425, 429 (after what its Retry-After asks for), 5xx. For half a minute where the server was never
  reached, for ten minutes once it was, so that it can be started again; an answer cut short five times. All else fails
  at once: other statuses, redirections, TLS, and whatever is no answer.
- The key comes from the environment variable GEMMULE_API_KEY.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import re
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gemmule.base import addresses
from gemmule.base.errors import RequestError, WorkError, first_line, shown
from gemmule.base.progress import say
from gemmule.teach.teachers import answers
from gemmule.teach.teachers.kinds import Facts, Kind, Needs, Record, Source
from gemmule.teach.teachers.teacher import Teacher

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gemmule.losses.targets import SparseDistributions
    from gemmule.recipe import Model
    from gemmule.tokenize.tokenizer import Tokenizer

API_KEY = "GEMMULE_API_KEY"
TOP_K = 20  # what vLLM allows where its --max-logprobs is not set
PATIENCE, FIRST_PATIENCE = 600.0, 30.0  # seconds in which a request is tried again; the first one of all
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds
TIMEOUT = 300.0  # seconds to wait for an answer, and again for all of it to come
CUT_SHORT = 5  # answers cut short in a row, after which no more are asked for
SMALL_ANSWER, ENTRY = 2**23, 512  # bytes: what any answer may have, and what a named token may take beside that
PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses that may be others a moment later
REFUSED_K = re.compile(r"greater than max allowed: (\d{1,6})")  # in vLLM's words


class _Hindrance(NamedTuple):
    """Why there is no answer, although there may be one a moment later."""

    reason: str
    cut_short: bool = False  # in the middle of an answer
    pause: float = 0.0  # seconds that the server asks for


class ServedTeacher(Teacher):
    """What a server's model expects, as its top k; `url` ends in /v1.

    Raises RequestError where the server refuses, WorkError where it stays away or its answers can't be.
    """

    def __init__(
        self,
        url: str,
        vocabulary_size: int,
        device: torch.device,
        top_k: int = TOP_K,
        patience: float | None = None,
    ) -> None:
        self.url, self.vocabulary_size, self.device = url.rstrip("/"), vocabulary_size, device
        self.top_k: int = top_k
        self._http = _library()
        self._client = self._http.Client(
            # as it is: a compressed body would be unpacked before its size is known
            headers=_authorization() | {"Accept-Encoding": "identity"},
            timeout=self._http.Timeout(TIMEOUT, connect=10.0),
        )
        self.patience = FIRST_PATIENCE if patience is None else patience
        self.name = answers.model_name(self._request("GET", "/models", SMALL_ANSWER), self.url)
        self.patience = PATIENCE if patience is None else patience

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> SparseDistributions:
        import torch

        from gemmule.losses.targets import SparseDistributions

        if documents is not None:
            raise RequestError(f"{self.url}: a server can't keep documents apart; leave data.separate_documents out")
        # The distribution after a prompt's last token stands at the place of one more; any token will do.
        prompts = torch.cat([ids, ids[:, :1]], dim=1).tolist()
        # what can't come (a log-probability of minus infinity) is not stored
        rows = [
            [(number, p) for number, value in row if (p := math.exp(value)) > torch.finfo(torch.float32).tiny]
            for row in self._ask(prompts)
        ]
        counts = torch.tensor([len(row) for row in rows])
        entries = [entry for row in rows for entry in row]
        return SparseDistributions(
            offsets=torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
            ids=torch.tensor([number for number, _ in entries]),
            probabilities=torch.tensor([p for _, p in entries]),
            rest=True,
        ).to(self.device)

    def _ask(self, prompts: list[list[int]]) -> list[answers.Row]:
        """For each prompt and each of its tokens after the first, its top k as (id, log-probability)."""
        request = {
            "model": self.name,
            "prompt": prompts,
            "max_tokens": 1,
            "temperature": 1.0,
            "add_special_tokens": False,
        }
        largest = SMALL_ANSWER + sum(map(len, prompts)) * (self.top_k + 2) * ENTRY
        answer = self._request("POST", "/completions", largest, request)
        return answers.read(answer, prompts, self.top_k, self.vocabulary_size, self.url)

    def _request(self, method: str, path: str, largest: int, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """The server's answer, of at most `largest` bytes; tried again while what hinders it may pass."""
        started, pause, cut_short = time.monotonic(), FIRST_PAUSE, 0
        while True:
            hindrance = self._try(method, path, largest, request)
            if isinstance(hindrance, bytes):
                return answers.parse(hindrance, self.url)
            if hindrance is None:  # with another k
                continue
            cut_short = cut_short + 1 if hindrance.cut_short else 0
            waited = time.monotonic() - started
            # jitter: many workers must not come back at once
            delay = max(hindrance.pause, pause * random.uniform(0.5, 1.0))
            if waited + delay > self.patience or cut_short >= CUT_SHORT:
                raise WorkError(
                    f"{self.url}: no response in {waited:.0f} s ({hindrance.reason}); start the server again, "
                    "and the same command resumes"
                )
            say(f"{self.url}: {hindrance.reason}; trying again in {delay:.1f} s, for {self.patience:.0f} s in all")
            time.sleep(delay)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _try(self, method: str, path: str, largest: int, request: dict[str, Any] | None) -> bytes | _Hindrance | None:
        """One request: its answer's body, or what hindered it; None where it is to be made again with another k.

        Raises RequestError or WorkError where trying again would not help.
        """
        body = None if request is None else request | {"prompt_logprobs": self.top_k}
        begun = False
        try:
            with self._client.stream(method, self.url + path, json=body) as response:
                begun = True
                if response.status_code == 200:
                    return self._body(response, largest)
                said = next(response.iter_raw(2**12), b"")
        except (self._http.TransportError, self._http.InvalidURL) as error:
            if _is_final(error, self._http):
                raise WorkError(f"{self.url}: {shown(first_line(error))}") from error
            return _Hindrance(shown(first_line(error)), cut_short=begun)
        if response.status_code in PASSING:
            pause = _retry_after(response.headers)
            asks = f", asks for {pause:.0f} s" if pause else ""
            return _Hindrance(f"status {response.status_code}{asks}", pause=pause)
        self._give_in(response, said)
        return None

    def _body(self, response: Any, largest: int) -> bytes:
        """An answer's bytes. Raises WorkError where these are too many, too slow or compressed."""
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise WorkError(f"{self.url}: sent a compressed response ({shown(encoding, 40)}), which was not requested")
        started, parts, size = time.monotonic(), [], 0
        for part in response.iter_raw():
            parts.append(part)
            size += len(part)
            if size > largest:
                raise WorkError(
                    f"{self.url}: its response is larger than {largest:,} bytes, the most that is needed; it begins "
                    f"{shown(b''.join(itertools.islice(parts, 4)))}"
                )
            if time.monotonic() - started > TIMEOUT:
                raise WorkError(f"{self.url}: sent {size:,} bytes of its response in {TIMEOUT:.0f} s: giving up")
        return b"".join(parts)

    def _give_in(self, response: Any, body: bytes) -> None:
        """Takes a smaller k if that is what the server wants; else raises RequestError with what it said."""
        said = shown(" ".join(body.decode("utf-8", "backslashreplace").split()), 300)
        largest = REFUSED_K.search(said)
        if largest and 0 < int(largest[1]) < self.top_k:
            say(
                f"{self.url}: gives the top {largest[1]} at most, and not {self.top_k} (vLLM's --max-logprobs); "
                "taking those"
            )
            self.top_k = int(largest[1])
            return
        hint = f" (the key is read from {API_KEY})" if response.status_code in (401, 403) else ""
        if 300 <= response.status_code < 400:
            hint = f" (to {shown(response.headers.get('location', 'nowhere'))}: name the address itself)"
        raise RequestError(f"{self.url}: refused with status {response.status_code}{hint}: {said}")


def _authorization() -> dict[str, str]:
    key = os.environ.get(API_KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise RequestError(f"{API_KEY}: contains characters that are not allowed in a key")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _is_final(error: BaseException | None, http: Any) -> bool:
    """Whether an error of the transport stays what it is, however long one waits: TLS, an unknown name, an address."""
    while error is not None:
        if isinstance(error, ssl.SSLError | http.InvalidURL | http.UnsupportedProtocol | http.LocalProtocolError):
            return True
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(headers: Any) -> float:
    """The seconds that a server asks to wait; 0 where it doesn't say, or says a date."""
    asked = headers.get("retry-after", "")
    return float(asked) if asked.isdecimal() and len(asked) < 6 else 0.0


def _library() -> Any:
    try:
        import httpx2
    except ImportError:
        raise RequestError("a served teacher needs httpx2: pip install 'gemmule[served]'") from None
    return httpx2


@dataclass(frozen=True)
class ServedRecord(Record):
    model: str | None = None  # what the server calls it
    top_k: int | None = None


class Server(Kind):
    name = "served"
    noun, described_as = "a server", "served"
    record_type = ServedRecord
    keeps_documents_apart = has_tokenizer = has_weights = False

    def top_k(self, section: Model) -> int:
        return section.top_k or TOP_K

    def recognises(self, source: Source) -> bool:
        return addresses.is_url(source)

    def identify(self, address: str, key: str) -> str:
        addresses.check_address(address, key)
        return f"server: {address}"

    def needs(self, source: Source) -> Needs:
        return Needs("served", ("httpx2",))

    def facts(self, source: Source) -> Facts:
        """Its tokenizer is that of the folder or hub id by which the server calls its model."""
        import torch

        name = ServedTeacher(str(source), 2**31, torch.device("cpu"), patience=5.0).name
        return Facts(name, name, top_k=TOP_K)

    def make_record(self, record: Record, section: Model, tokenizer: Tokenizer) -> ServedRecord:
        import torch

        served = ServedTeacher(record.source, tokenizer.vocabulary_size, torch.device("cpu"), self.top_k(section))
        served.expect(torch.tensor([[tokenizer.eos_id, tokenizer.eos_id]]))  # whether it gives what is needed
        return ServedRecord(record.source, self.name, model=served.name, top_k=served.top_k)

    def load(
        self, source: Source, device: torch.device, *, record: Record, key: str, section: Model, tokenizer: Path
    ) -> ServedTeacher:
        from gemmule.tokenize.tokenizer import load_tokenizer

        served = ServedTeacher(str(source), load_tokenizer(tokenizer).vocabulary_size, device, self.top_k(section))
        recorded = record.model if isinstance(record, ServedRecord) else None
        if served.name != (recorded or served.name):
            raise RequestError(
                f"{key} = {str(source)!r}: serves {served.name!r} now, and served {recorded!r} when this run was begun"
            )
        return served


KIND = Server()
