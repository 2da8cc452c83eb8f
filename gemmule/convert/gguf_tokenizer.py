"""A tokenizer as GGUF metadata, and back.

Only tokenizers of gemmule's kind: byte-level BPE behind the pattern that llama.cpp calls `qwen2`, without which it
takes another pattern and says nothing. Control tokens are marked as such: their text is matched only where the caller
of llama.cpp asks for it. Rows of the table beyond the tokenizer get tokens that no text has, which llama.cpp never
samples.
"""

from __future__ import annotations

import json
from typing import Any

import gguf
from gguf import TokenType

from gemmule.convert.gguf_read import Reader, value
from gemmule.errors import RequestError
from gemmule.tokenizer.load import Tokenizer
from gemmule.tokenizer.train import CONTROL_TOKENS, assemble

MODEL, PATTERN = "gpt2", "qwen2"  # what llama.cpp calls byte-level BPE, and our split pattern
SUPPRESSED = "tokenizer.ggml.suppress_tokens"


def check_exportable(tokenizer: Tokenizer) -> None:
    """Raises RequestError if llama.cpp would tokenize otherwise than `tokenizer`."""
    ours = _pipeline(Tokenizer(assemble(*_vocabulary(tokenizer))))
    theirs = _pipeline(tokenizer)
    for part, expected in ours.items():
        if theirs[part] != expected:
            raise RequestError(
                f"{tokenizer.folder or 'this tokenizer'}: its {part} is not that of gemmule's tokenizers (byte-level "
                "BPE); llama.cpp would tokenize otherwise, so it can't be exported to GGUF"
            )


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, rows: int, chat_template: str | None) -> None:
    """Writes `tokenizer` into the metadata, its vocabulary filled up to the `rows` of the model's table."""
    vocabulary, merges = _vocabulary(tokenizer)
    names = {number: name for name, number in vocabulary.items()}
    tokens = [names.get(number, f"<unused{number}>") for number in range(rows)]
    types = [TokenType.NORMAL if number in names else TokenType.UNUSED for number in range(rows)]
    for number, token in tokenizer.inner.get_added_tokens_decoder().items():
        types[number] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    writer.add_tokenizer_model(MODEL)
    writer.add_tokenizer_pre(PATTERN)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    if tokenizer.bos_id is not None:
        writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    for name, add in (("<unk>", writer.add_unk_token_id), ("<end_of_turn>", writer.add_eot_token_id)):
        if name in vocabulary:
            add(vocabulary[name])
    writer.add_add_bos_token(tokenizer.bos_id is not None)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    unused = [number for number in range(rows) if number not in names]
    if unused:
        writer.add_array(SUPPRESSED, unused)
    if chat_template:
        writer.add_chat_template(chat_template)


def read_tokenizer(reader: Reader) -> Tokenizer | None:
    """The tokenizer in a GGUF file that gemmule wrote; None where it is of another kind."""
    if (value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre")) != (MODEL, PATTERN):
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


def _vocabulary(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Every token's id, and the merges in their order."""
    model = json.loads(tokenizer.inner.to_str())["model"]
    if model.get("type") != "BPE":
        raise RequestError(
            f"{tokenizer.folder or 'this tokenizer'}: a {model.get('type')} tokenizer; only gemmule's own kind "
            "(byte-level BPE) can be exported to GGUF"
        )
    return tokenizer.inner.get_vocab(with_added_tokens=True), [(left, right) for left, right in model["merges"]]


def _pipeline(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a tokenizer does besides its vocabulary, by part."""
    content = json.loads(tokenizer.inner.to_str())
    model = {f"model's {key}": entry for key, entry in content["model"].items() if key not in ("vocab", "merges")}
    return model | {part: content[part] for part in ("normalizer", "pre_tokenizer", "decoder")}
