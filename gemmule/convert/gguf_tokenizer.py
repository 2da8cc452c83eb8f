"""A tokenizer as GGUF metadata, and back.

llama.cpp rebuilds a tokenizer from its vocabulary and the name of a kind, so only what it knows can go: BPE on bytes
behind a split pattern that it has a name for, or SentencePiece's BPE on characters, with bytes to fall back to. What
differs from these is refused, because llama.cpp would take another pattern and say nothing.

- Control tokens are marked as such: their text is matched only where the caller of llama.cpp asks for it.
- SentencePiece's kind has scores in place of merges: any two tokens that make a third may merge, the best score first.
- Rows of the table beyond the tokenizer get tokens that no text has, which llama.cpp never samples.

As llama.cpp's own converter has it (convert_hf_to_gguf.py, and src/llama-vocab.cpp for what is made of it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import gguf
from gguf import TokenType

from gemmule.base.errors import RequestError
from gemmule.base.vocabulary import CONTROL_TOKENS
from gemmule.convert.gguf_read import Reader, value
from gemmule.tokenize.tokenizer import Tokenizer
from gemmule.tokenize.training import SPLIT_PATTERN, assemble

ON_BYTES, ON_CHARACTERS = "gpt2", "llama"  # llama.cpp's names
OWN = (ON_BYTES, "qwen2")
SUPPRESSED = "tokenizer.ggml.suppress_tokens"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # as Llama 3 and Qwen write them; ours spells both cases out
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    SPLIT_PATTERN: "qwen2",
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST: "qwen2",
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST: "llama-bpe",
}
TURN_ENDS = ("<end_of_turn>", "<|eot_id|>", "<|im_end|>")


def check_exportable(tokenizer: Tokenizer) -> None:
    """Raises RequestError if llama.cpp would tokenize otherwise than `tokenizer`."""
    _kind(tokenizer)


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, rows: int, chat_template: str | None) -> None:
    """Writes `tokenizer` into the metadata, its vocabulary filled up to the `rows` of the model's table."""
    model, pattern = _kind(tokenizer)
    vocabulary = tokenizer.inner.get_vocab(with_added_tokens=True)
    merges = _content(tokenizer)["model"]["merges"]
    names = {number: name for name, number in vocabulary.items()}
    tokens = [names.get(number, f"<unused{number}>") for number in range(rows)]
    types = [TokenType.NORMAL if number in names else TokenType.UNUSED for number in range(rows)]
    for number, token in tokenizer.inner.get_added_tokens_decoder().items():
        types[number] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pattern)
    writer.add_token_list(tokens)
    if model == ON_BYTES:
        writer.add_token_merges([f"{left} {right}" for left, right in merges])
    else:
        for byte in range(256):
            types[vocabulary[f"<0x{byte:02X}>"]] = TokenType.BYTE
        order = {name: place for place, name in enumerate(dict.fromkeys(left + right for left, right in merges))}
        writer.add_token_scores([float(-order.get(token, len(order))) for token in tokens])
    writer.add_token_types(types)
    if tokenizer.bos_id is not None:
        writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    for name in ("<unk>", *TURN_ENDS):
        if name in vocabulary:
            (writer.add_unk_token_id if name == "<unk>" else writer.add_eot_token_id)(vocabulary[name])
    writer.add_add_bos_token(tokenizer.bos_id is not None)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(_puts_a_space_first(_content(tokenizer)["normalizer"]))
    unused = [number for number in range(rows) if number not in names]
    if unused:
        writer.add_array(SUPPRESSED, unused)
    if chat_template:
        writer.add_chat_template(chat_template)


def read_tokenizer(reader: Reader) -> Tokenizer | None:
    """The tokenizer in a GGUF file that gemmule wrote; None where it is of another kind."""
    if (value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre")) != OWN:
        return None
    tokens, types, merges = (value(reader, f"tokenizer.ggml.{key}", []) for key in ("tokens", "token_type", "merges"))
    kinds = dict(zip(tokens, types, strict=False))
    control = {token: number for number, token in enumerate(tokens) if kinds[token] == TokenType.CONTROL}
    if control != CONTROL_TOKENS or len(kinds) != len(tokens):
        return None
    vocabulary = {token: number for number, token in enumerate(tokens) if kinds[token] != TokenType.UNUSED}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        return Tokenizer(assemble(vocabulary, pairs))
    except Exception:  # tokenizers raises nothing narrower; a merge of what is no token
        return None


def _content(tokenizer: Tokenizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.inner.to_str())
    return content


def _kind(tokenizer: Tokenizer) -> tuple[str, str]:
    """llama.cpp's names of the model and of the split pattern. Raises RequestError naming what it has no name for."""
    content = _content(tokenizer)
    model = content["model"]
    if model["type"] != "BPE":
        raise _refusal(tokenizer, f"a {model['type']} tokenizer is not byte-pair encoding (BPE)")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix") or model.get("dropout"):
        raise _refusal(tokenizer, "its model marks where words begin or end, or drops merges")
    if model["byte_fallback"]:
        if difference := next(_differences_from_sentencepiece(content), None):
            raise _refusal(tokenizer, difference)
        return ON_CHARACTERS, "default"
    pattern = _pattern(content["pre_tokenizer"])
    if pattern is None:
        raise _refusal(tokenizer, "its pre_tokenizer splits text by a pattern that llama.cpp has no name for")
    if (content["normalizer"] or {}).get("type", "NFC") != "NFC":  # NFC, Qwen's: llama.cpp leaves it out
        raise _refusal(tokenizer, f"its normalizer ({content['normalizer']['type']}) is unknown there")
    if model["ignore_merges"] != (pattern == "llama-bpe"):
        raise _refusal(tokenizer, f"its model's ignore_merges is not that of {pattern}")
    if content["decoder"]["type"] != "ByteLevel":
        raise _refusal(tokenizer, "its decoder is not that of bytes")
    return ON_BYTES, pattern


def _refusal(tokenizer: Tokenizer, reason: str) -> RequestError:
    name = tokenizer.folder or "this tokenizer"
    return RequestError(f"{name}: {reason}; llama.cpp would tokenize otherwise, so it can't be exported to GGUF")


def _pattern(pre_tokenizer: Any) -> str | None:
    """llama.cpp's name of a split pattern on bytes, None if it has none."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return "gpt-2"
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return PATTERNS.get(regex)
    return None


def _differences_from_sentencepiece(content: dict[str, Any]) -> Iterator[str]:
    model = content["model"]
    steps = _steps(content["normalizer"])
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if [step for step in steps if step["type"] != "Prepend"] != [spaces] or len(steps) > 2:
        yield "its normalizer is not SentencePiece's (a space becomes U+2581)"
    # Gemma's splits at spaces, of which the normalizer leaves none
    if content["pre_tokenizer"] and content["pre_tokenizer"].get("pattern") != {"String": " "}:
        yield "its pre_tokenizer is not SentencePiece's"
    vocabulary = model["vocab"].keys() | {token["content"] for token in content["added_tokens"]}
    merges = {(left, right) for left, right in model["merges"]}
    products = [left + right for left, right in model["merges"]]
    if sum(a != b for a, b in pairwise(products)) + 1 != len(set(products)):
        yield "its merges do not follow the order of the tokens that they make"
    matched_first = {token["content"] for token in content["added_tokens"] if not token["special"]}
    for name in vocabulary - matched_first:
        for cut in range(1, len(name)):
            left, right = name[:cut], name[cut:]
            made = (left in vocabulary or cut == 1) and (right in vocabulary or len(right) == 1)
            if made and (left, right) not in merges:
                yield f"it does not merge {left!r} and {right!r}, which make a token"


def _steps(normalizer: Any) -> list[dict[str, Any]]:
    if not normalizer:
        return []
    steps: list[dict[str, Any]] = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    return steps


def _puts_a_space_first(normalizer: Any) -> bool:
    return any(step["type"] == "Prepend" for step in _steps(normalizer))
