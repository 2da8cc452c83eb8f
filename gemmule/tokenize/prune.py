"""Prunes a large tokenizer to the tokens that a text uses: for a small student of a teacher with 262,144 tokens.

- Kept: every token of the text, every control token, every byte, and whatever BPE goes through on its way to a kept
  token. So the text tokenizes as before, and any other text still comes back whole, in more and smaller tokens.
- A token's way is that of its own string alone: had a merge reached over its edge, it would not have become this token.
- Added tokens that are not control tokens (Gemma's runs of line ends, its HTML tags) are tokens like others. They are
  matched leftmost and longest, so dropping one that the text lacks moves no match in it.
- Ids are dense, in the order of the old ones: `<pad> <eos> <bos> <unk>` stay 0 to 3 where they were.

For byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) that reaches every text: on bytes (GPT-2, Llama 3,
Qwen), or on characters with bytes to fall back to (SentencePiece's kind: Llama 2, Gemma).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import pre_tokenizers

from gemmule.base.artifact import write_json
from gemmule.base.errors import RequestError, WorkError
from gemmule.tokenize.tokenizer import Tokenizer, write_inner

TEXTS = 64  # encoded at once
FILLER = re.compile(r"unused|reserved", re.IGNORECASE)  # control tokens without a meaning: Gemma has 6,242 of them
CONFIG_KEYS = (
    "unk_token", "mask_token", "chat_template", "model_max_length", "padding_side",
)  # fmt: skip
Merge = tuple[str, str]


def used_ids(texts: Iterable[str], tokenizer: Tokenizer) -> set[int]:
    """The ids that occur in the texts. They are read once and not kept."""
    used: set[int] = set()
    remaining = iter(texts)
    while some := list(islice(remaining, TEXTS)):
        used.update(*tokenizer.encode_batch(some))
    return used


def prune(tokenizer: Tokenizer, used: Iterable[int], folder: Path) -> Tokenizer:
    """Writes into `folder` a tokenizer of the `used` ids and what they need, and loads it.

    The id in `tokenizer` of each of its tokens is that of the same string (`vocabulary.align`).

    Raises RequestError if `tokenizer` is not of a kind that can be pruned.
    """
    content: dict[str, Any] = json.loads(tokenizer.inner.to_str())
    _check_kind(content, tokenizer)
    model = content["model"]
    old: dict[str, int] = tokenizer.inner.get_vocab(with_added_tokens=True)
    merges: list[Merge] = [(left, right) for left, right in model["merges"]]
    kept = _closure(_wanted(content, tokenizer, used), merges)
    names = sorted((name for name in old if name in kept), key=old.__getitem__)
    new = {name: number for number, name in enumerate(names)}

    model["vocab"] = {name: new[name] for name in names if name in model["vocab"]}
    model["merges"] = [[a, b] for a, b in merges if a in new and b in new and a + b in new]
    added = [token for token in content["added_tokens"] if token["content"] in new]
    content["added_tokens"] = [token | {"id": new[token["content"]]} for token in added]
    content["post_processor"] = _renumber(content["post_processor"], new)

    inner = tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    if inner.get_vocab(with_added_tokens=True) != new:
        raise WorkError(f"{tokenizer.folder or 'this tokenizer'}: its added tokens are not numbered like its others")
    folder.mkdir(parents=True, exist_ok=True)
    write_inner(inner, folder)
    write_json(folder / "tokenizer_config.json", _config(tokenizer, added))
    if tokenizer.folder and (template := tokenizer.folder / "chat_template.jinja").is_file():
        (folder / template.name).write_bytes(template.read_bytes())
    return Tokenizer(inner, folder, tokenizer.names)


def reaches_every_text(content: Mapping[str, Any]) -> list[str]:
    """The tokens of a tokenizer.json of which any text can be made: those of the bytes. Empty if it has none."""
    vocabulary = content["model"]["vocab"]
    if content["model"].get("byte_fallback"):
        names = [f"<0x{byte:02X}>" for byte in range(256)]
    elif '"ByteLevel"' in json.dumps(content["pre_tokenizer"]):
        names = pre_tokenizers.ByteLevel.alphabet()
    else:
        return []
    return sorted(names) if all(name in vocabulary for name in names) else []


def _check_kind(content: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    model, name = content["model"], tokenizer.folder or "this tokenizer"
    if model["type"] != "BPE":
        raise RequestError(f"{name}: a {model['type']} tokenizer can't be pruned, only byte-pair encoding (BPE)")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise RequestError(f"{name}: a tokenizer that marks where words begin or end can't be pruned")
    if not reaches_every_text(content):
        raise RequestError(f"{name}: it lacks tokens for some bytes, without which pruned text would be lost")


def _wanted(content: Mapping[str, Any], tokenizer: Tokenizer, used: Iterable[int]) -> set[str]:
    """What must be kept by itself: the used tokens, the bytes, and the control tokens that mean something."""
    control = {token["content"] for token in content["added_tokens"] if token["special"]}
    ids = {*used, *tokenizer.opening, tokenizer.eos_id, tokenizer.pad_id}
    fillers = {name for name in control if FILLER.search(name)} - _named(content["post_processor"])
    names = {name for name, number in tokenizer.inner.get_vocab(with_added_tokens=True).items() if number in ids}
    unknown = {content["model"]["unk_token"]} - {None}
    return (control - fillers) | unknown | names | set(reaches_every_text(content))


def _closure(wanted: set[str], merges: list[Merge]) -> set[str]:
    """`wanted`, and every token on the way to one of them."""
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    made = {left + right for left, right in merges}
    return wanted.union(*(_way(name, ranks) for name in wanted & made))


def _way(name: str, ranks: Mapping[Merge, int]) -> set[str]:
    """The tokens that BPE makes, from single characters on, on its way to `name`."""
    symbols, seen = list(name), set(name)
    while len(symbols) > 1:
        pairs = list(pairwise(symbols))
        place = min(range(len(pairs)), key=lambda i: ranks.get(pairs[i], len(ranks)))
        if pairs[place] not in ranks:
            break
        symbols[place : place + 2] = ["".join(pairs[place])]
        seen.add(symbols[place])
    return seen


def _named(processor: Any) -> set[str]:
    """The tokens that a post-processor puts around a text."""
    if not processor:
        return set()
    return set(processor.get("special_tokens") or {}).union(*(_named(part) for part in processor.get("processors", [])))


def _renumber(processor: Any, new: Mapping[str, int]) -> Any:
    """A post-processor with the new ids of its tokens."""
    if not processor:
        return processor
    if processor["type"] == "Sequence":
        return processor | {"processors": [_renumber(part, new) for part in processor["processors"]]}
    if processor["type"] == "TemplateProcessing":
        tokens = processor["special_tokens"]
        return processor | {
            "special_tokens": {
                key: token | {"ids": [new[name] for name in token["tokens"]]} for key, token in tokens.items()
            }
        }
    if processor["type"] == "ByteLevel":
        return processor
    raise RequestError(f"a tokenizer with a {processor['type']} post-processor can't be pruned")


def _config(tokenizer: Tokenizer, added: list[dict[str, Any]]) -> dict[str, Any]:
    """What transformers needs to know. The class must be said, or it rebuilds a tokenizer of the model's family."""
    file = tokenizer.folder / "tokenizer_config.json" if tokenizer.folder else None
    theirs: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
    config = {key: theirs[key] for key in CONFIG_KEYS if theirs.get(key) is not None} | tokenizer.names
    config["pad_token"] = tokenizer.inner.id_to_token(tokenizer.pad_id)
    roles = {str(value.get("content") if isinstance(value, dict) else value) for value in config.values()}
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["clean_up_tokenization_spaces"] = False
    config["additional_special_tokens"] = [
        token["content"] for token in added if token["special"] and token["content"] not in roles
    ]
    return config
