"""A teacher behind an OpenAI-compatible completions server, as vLLM's: its top k at every token of a prompt.

- Ids are sent as ids, so nothing is tokenized there. `prompt_logprobs = k` (vLLM's extension) gives for each token of
  the prompt the k likeliest at its place, and the token itself where it is not among them, which is left out here.
- That is all that is known of a distribution: the rest of the mass is one bucket (`SparseDistributions.rest`).
- The server's `max_logprobs` is respected: where it refuses k, its largest is taken, and this is said once.
- What may pass (a timeout, a lost connection, 429, 5xx) is tried again with exponential back-off and jitter, for ten
  minutes at most; then the work fails. An answer is taken whole or not at all: there are no holes.
- The key comes from the environment variable GEMMULE_API_KEY.
"""

from __future__ import annotations

import math
import os
import random
import re
import time
from typing import Any

import torch
from torch import Tensor

from gemmule.errors import RequestError, WorkError, first_line
from gemmule.model.head import SparseDistributions
from gemmule.progress import say

API_KEY = "GEMMULE_API_KEY"
TOP_K = 20  # what vLLM allows where its --max-logprobs is not set
PATIENCE = 600.0  # seconds in which a request is tried again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds
TIMEOUT = 300.0  # seconds for one answer
PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses that may be others a moment later
REFUSED_K = re.compile(r"greater than max allowed: (\d+)")  # in vLLM's words


class ServedTeacher:
    """What a server's model expects, as its top k; `url` ends in /v1.

    Raises RequestError where the server refuses, WorkError where it stays away.
    """

    def __init__(
        self,
        url: str,
        vocabulary_size: int,
        device: torch.device,
        top_k: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.url, self.vocabulary_size, self.device = url.rstrip("/"), vocabulary_size, device
        self.top_k = top_k or TOP_K
        self.patience = patience
        key = os.environ.get(API_KEY)
        self._http = _library()
        self._client = self._http.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self._http.Timeout(TIMEOUT, connect=10.0),
        )
        models = self._request("GET", "/models").get("data")
        if not isinstance(models, list) or not models:
            raise RequestError(
                f"{self.url}/models: names no model; is this the address of an OpenAI-compatible server?"
            )
        self.name: str = models[0]["id"]

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> SparseDistributions:
        if documents is not None:
            raise RequestError(f"{self.url}: a server can't keep documents apart; leave data.separate_documents out")
        # The distribution after a prompt's last token stands at the place of one more; any token will do.
        prompts = torch.cat([ids, ids[:, :1]], dim=1).tolist()
        rows = [row for answer in self._ask(prompts) for row in answer]
        counts = torch.tensor([len(row) for row in rows])
        entries = [entry for row in rows for entry in row]
        return SparseDistributions(
            offsets=torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
            ids=torch.tensor([number for number, _ in entries]),
            probabilities=torch.tensor([math.exp(value) for _, value in entries]),
            rest=True,
        ).to(self.device)

    def _ask(self, prompts: list[list[int]]) -> list[list[list[tuple[int, float]]]]:
        """For each prompt and each of its tokens after the first, its top k as (id, log-probability)."""
        wish = {"model": self.name, "prompt": prompts, "max_tokens": 1, "temperature": 1.0, "add_special_tokens": False}
        answer = self._request("POST", "/completions", wish)
        choices = sorted(answer.get("choices", ()), key=lambda choice: choice["index"])
        if len(choices) != len(prompts):
            raise WorkError(f"{self.url}: answered {len(choices)} of {len(prompts)} prompts")
        return [
            self._read(choice.get("prompt_logprobs"), len(prompt))
            for choice, prompt in zip(choices, prompts, strict=True)
        ]

    def _read(self, places: Any, length: int) -> list[list[tuple[int, float]]]:
        if not isinstance(places, list):
            raise RequestError(
                f"{self.url}: its answers have no prompt_logprobs: vLLM gives them, llama.cpp's server does not"
            )
        if len(places) != length or not all(places[1:]):
            raise WorkError(
                f"{self.url}: gave log-probabilities for {sum(map(bool, places))} of a prompt's {length - 1} places; "
                "start vLLM with --no-enable-prefix-caching"
            )
        rows = []
        for place in places[1:]:
            entries = [(int(number), float(entry["logprob"])) for number, entry in place.items()]
            entries = sorted(entries, key=lambda entry: -entry[1])[: self.top_k]  # without the prompt's own token
            largest = max(number for number, _ in entries)
            if largest >= self.vocabulary_size:
                raise RequestError(
                    f"{self.url}: names token {largest} of a vocabulary of {self.vocabulary_size}: tokenizer.from is "
                    f"not the tokenizer of {self.name}"
                )
            rows.append(sorted(entries))
        return rows

    def _request(self, method: str, path: str, wish: dict[str, Any] | None = None) -> dict[str, Any]:
        """The server's answer; tried again while what hinders it may pass."""
        started, pause = time.monotonic(), FIRST_PAUSE
        while True:
            body = None if wish is None else wish | {"prompt_logprobs": self.top_k}
            try:
                response = self._client.request(method, self.url + path, json=body)
                if response.status_code == 200:
                    answer: dict[str, Any] = response.json()
                    return answer
                hindrance = f"status {response.status_code}"
                if response.status_code not in PASSING:
                    self._give_in(response)
                    continue
            except (self._http.TransportError, ValueError) as error:  # ValueError: an answer cut short
                hindrance = first_line(error)
            waited = time.monotonic() - started
            if waited + pause > self.patience:
                raise WorkError(
                    f"{self.url}: no answer in {waited:.0f} s ({hindrance}); start the server again, "
                    "and the same command goes on"
                )
            delay = pause * random.uniform(0.5, 1.0)  # jitter: many workers must not come back at once
            say(f"{self.url}: {hindrance}; trying again in {delay:.1f} s")
            time.sleep(delay)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _give_in(self, response: Any) -> None:
        """Takes a smaller k if that is what the server wants; else raises RequestError with what it said."""
        said = " ".join(response.text.split())[:300]
        largest = REFUSED_K.search(said)
        if largest and 0 < int(largest[1]) < self.top_k:
            say(
                f"{self.url}: gives the top {largest[1]} at most, and not {self.top_k} (vLLM's --max-logprobs); "
                "taking those"
            )
            self.top_k = int(largest[1])
            return
        hint = f" (the key is read from {API_KEY})" if response.status_code in (401, 403) else ""
        raise RequestError(f"{self.url}: refused with status {response.status_code}{hint}: {said}")


def _library() -> Any:
    try:
        import httpx2
    except ImportError:
        raise RequestError("a served teacher is asked through httpx2: pip install 'gemmule[served]'") from None
    return httpx2
