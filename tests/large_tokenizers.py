"""Small tokenizers of large models' kinds: SentencePiece's (Gemma, Llama 2) and GPT-2's (Llama 3)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gemmule.model import weights
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.refine.compressed import read_blocks
from gemmule.refine.sources import BUNDLED, resolve
from gemmule.tokenize import Tokenizer, save

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<unused{n}>" for n in range(9)), "<start_of_turn>"]
RUNS = [character * count for character in "\n\t" for count in range(1, 6)]
TAGS = ["<table>", "</table>", "<b>", "</b>"]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
NASTY = [
    "", " ", "  two  spaces  ", "\n\n\n", "\n" * 7 + "x", "\r\n\r\n", "a\rb", "\t\tx\t", "Ġ Ċ ĉ", "<bos>", "<eos><pad>",
    "say <end_of_turn>\n<start_of_turn>model\n", "<unused3> <table><b>x</b></table>", "<0x0A>", "naïve café",
    "e\u0301 é", "日本語のテキスト", "\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", "\u2028\u2029\u0085\x0c\x0b",
    "\ufeffbom", "\x01\x7f", "\ufffd", "\U0010ffff", "１２３ ٣٤ ²³", "1999 is 42", "it's IT'S we'Ll 'S",
    "a\u200bb\u00a0c", "--- ... !!!\n\n", "To be, or not to be: that is the question.\n\n\nHAMLET.\nWhether",
]  # fmt: skip


def read_work(*names: str) -> list[str]:
    """Works of the bundled Shakespeare whose file names hold these words."""
    files = [file for file in resolve([BUNDLED], base=Path()) if any(name in file.name for name in names)]
    return [b"".join(read_blocks(file.path, file.name)).decode() for file in files]


def like_gemma(texts: Iterable[str], size: int, *, prefix: bool = False) -> Tokenizer:
    """BPE on characters with bytes to fall back to; `prefix`: as Llama 2, a space before text, and no tokens added.

    A merge is any two tokens that make a third, and the lower id goes first: so SentencePiece and llama.cpp merge.
    """
    steps = [normalizers.Replace(" ", "▁")]
    learner = tokenizers.Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence(steps)
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Split(Regex(r"[\n\t]"), "isolated"),
        ]
    )
    added = [] if prefix else RUNS + TAGS
    first = [*CONTROL, *added, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size - len(first), show_progress=False)
    learner.train_from_iterator(iter(texts), trainer)
    learned = json.loads(learner.to_str())["model"]["vocab"]
    by_rank = sorted(learned.keys() - set(first), key=lambda name: (len(name) == 1, learned[name]))
    vocabulary = {name: number for number, name in enumerate([*first, *by_rank])}
    merges = [(vocabulary[name], name[:cut], name[cut:]) for name in by_rank for cut in range(1, len(name))]
    known = [(left, right) for _, left, right in sorted(merges) if left in vocabulary and right in vocabulary]

    inner = tokenizers.Tokenizer(models.BPE(vocabulary, known, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *steps]) if prefix else steps[0]
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if prefix else []),
        ]
    )
    inner.post_processor = _bos(inner)
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL])
    inner.add_tokens([AddedToken(name, normalized=False) for name in added])
    return Tokenizer(inner)


def like_gpt2(texts: Iterable[str], size: int) -> Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _byte_level(inner, texts, size)


def like_llama3(texts: Iterable[str], size: int) -> Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _byte_level(inner, texts, size)


def _byte_level(inner: tokenizers.Tokenizer, texts: Iterable[str], size: int) -> Tokenizer:
    """With its control tokens at the end, as these models have them."""
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(CONTROL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(iter(texts), trainer)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL])
    inner.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), _bos(inner)])
    return Tokenizer(inner)


def _bos(inner: tokenizers.Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", inner.token_to_id("<bos>"))])


def save_teacher(folder: Path, rows: int) -> None:
    """A Gemma 2 folder with a tokenizer of Gemma's kind, of 998 tokens, and a table of so many rows."""
    config = Gemma2Config(
        vocabulary_size=rows, layers=2, width=32, heads=4, kv_heads=2, head_dim=8, ffn_width=64, window=8,
        context_length=64,
    )  # fmt: skip
    weights.save(Gemma2(config).initialise(3), folder)
    save(like_gemma(read_work("sonnets"), 1000), folder)
