"""The tokenizer that every later step uses, and its files.

- Text in, ids out, always inert: a control token written in text (`<bos>`, `<end_of_turn>`) is encoded as its
  characters, whether its file marks it as special or not. Who wants a control token puts its id.
- Saved as a Hugging Face folder: transformers' AutoTokenizer reads it with nothing of gemmule installed.
- A tokenizer loaded from elsewhere (Gemma's own) keeps its own files when saved.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property, partial
from importlib import resources
from pathlib import Path
from typing import Any

import tokenizers

from gemmule.base.artifact import verify_files, write_json
from gemmule.base.errors import RequestError, WorkError, first_line, naming, shown
from gemmule.base.hub import find_folder
from gemmule.tokenize.parts import groups, parts

# What a tokenizer may consist of, in a model folder that holds other things too.
FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
# Of these, those that say which tokens are control tokens; the last one counts.
NAMING = ("special_tokens_map.json", "tokenizer_config.json")
CONTROL_NAMES = {"bos_token", "eos_token", "pad_token"}
TURNS = ["<start_of_turn>", "<end_of_turn>"]
# Control tokens by their looks, beside those that a folder's files name: <|im_start|>, DeepSeek's <｜User｜>, Gemma's.
# Not <s> and </s>: Gemma has them for HTML's struck-out text.
CONTROL = re.compile(r"<[|｜].*[|｜]>|<(bos|eos|pad|unk|mask|start_of_turn|end_of_turn)>", re.DOTALL)
LARGEST_FILE, LARGEST_VOCABULARY = 2**28, 2**21  # bytes; tokens: larger ones are damaged, or an attack on memory


class Tokenizer:
    """A `tokenizers.Tokenizer` (`.inner`) with the ids that gemmule needs.

    Which tokens begin and end a text is said by `names` (`bos_token`, `eos_token`, `pad_token`, as Hugging Face's files
    have them); what is not named there is `<bos>`, `<eos>` and `<pad>`. `bos_id` is None where texts begin with no
    token of their own (Qwen); `pad_id` is `eos_id` where there is none (padding is never learned from, so any id
    serves). `vocabulary_size` is one more than the largest id.

    `control` are the control tokens and their ids: those marked as special, in `names` or in `more_control`, and those
    that look like one. None of them can come of text.

    Raises RequestError if `inner` has no token that ends a document, or makes a control token of text all the same.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        folder: Path | None = None,
        names: Mapping[str, str | None] | None = None,
        more_control: Iterable[str] = (),
    ) -> None:
        self.folder = folder  # where its files lie, if it was loaded
        self.names: dict[str, str | None] = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
        self.names |= names or {}
        self.inner = inner = _with_control({*self.names.values(), *more_control}, inner)
        added = inner.get_added_tokens_decoder().items()
        self.control: dict[str, int] = {token.content: number for number, token in added if token.special}
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True  # control tokens written in text are text
        self.vocabulary_size: int = max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos_id, eos_id, pad_id = (
            None if name is None else inner.token_to_id(name) for name in self.names.values()
        )
        if eos_id is None:
            raise RequestError(
                f"{folder or 'this tokenizer'}: its tokenizer has no {self.names['eos_token'] or '<eos>'} to end a "
                "document; name the token that does as eos_token in its tokenizer_config.json"
            )
        if self.vocabulary_size > LARGEST_VOCABULARY:
            raise RequestError(
                f"{folder or 'this tokenizer'}: has a token of the id {self.vocabulary_size - 1:,}; "
                f"{LARGEST_VOCABULARY:,} tokens is the maximum"
            )
        self.eos_id: int = eos_id
        self.pad_id: int = eos_id if pad_id is None else pad_id

    @property
    def opening(self) -> list[int]:
        """What stands before a text: `<bos>`, or nothing."""
        return [] if self.bos_id is None else [self.bos_id]

    @property
    def control_ids(self) -> dict[str, int | None]:
        """As a model's config.json has them."""
        return {"bos_token_id": self.bos_id, "eos_token_id": self.eos_id, "pad_token_id": self.pad_id}

    def check_inert(self) -> Tokenizer:
        """Itself. Raises RequestError where entries of the model make a control token of text: no flag helps there."""
        for name in filter(None, self.names.values()):
            number = self.inner.token_to_id(name)
            if number is not None and number in self.encode(name):
                raise RequestError(
                    f"{self.folder or 'this tokenizer'}: turns text that spells {name} into that "
                    "control token, so any text could end a document: it can't be trained with"
                )
        return self

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without `<bos>`; a long one is encoded in parts.

        Raises RequestError for a lone surrogate, which is no character, or where the tokenizer's pattern gives up.
        """
        return [number for part in parts(text, self._encode_part) for number in self._encode_part(part)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        found: list[list[int]] = []
        for some in groups(texts):
            if len(some) == 1:
                found.append(self.encode(some[0]))
                continue
            # the fast variant doesn't keep track of where in the text each token came from
            encodings = self._encoded(partial(self.inner.encode_batch_fast, some, add_special_tokens=False), some)
            found += [encoding.ids for encoding in encodings]
        return found

    def _encode_part(self, text: str) -> list[int]:
        encoding = self._encoded(lambda: self.inner.encode(text, add_special_tokens=False), [text])
        ids: list[int] = encoding.ids
        return ids

    def _encoded(self, encode: Callable[[], Any], texts: Sequence[str]) -> Any:
        try:
            return encode()
        except TypeError:
            _refuse_surrogates(texts)
            raise
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Rust's, which is no Exception
                raise
            raise RequestError(
                f"{self.folder or 'this tokenizer'}: its tokenizer can't encode this text: {first_line(error)}"
            ) from error

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids` (a list, array or tensor); half a character at an end becomes U+FFFD."""
        numbers: list[int] = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        text: str = self.inner.decode(numbers, skip_special_tokens=skip_special_tokens)
        return text

    @cached_property
    def content_hash(self) -> str:
        """sha256 of what turns text into ids: tokenizer.json as canonical JSON, less its padding and truncation."""
        file = self.folder / "tokenizer.json" if self.folder else None
        content = _read_json(file) if file else json.loads(self.inner.to_str())
        for key in ("padding", "truncation"):
            content.pop(key, None)
        merges = content.get("model", {}).get("merges")
        if merges and isinstance(merges[0], str):  # written "a b" before tokenizers 0.20, ["a", "b"] since
            content["model"]["merges"] = [merge.split(" ") for merge in merges]
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_tokenizer(source: str | Path) -> Tokenizer:
    """The tokenizer in a folder (a model folder, a tokenizer artifact) or of a hub id ("owner/name").

    Raises RequestError if there is none or it has no token that ends a document, WorkError if its file is damaged.
    """
    folder = find_folder(source, FILES)
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise RequestError(f"{source}: no tokenizer there: it has no tokenizer.json")
    if file.stat().st_size > LARGEST_FILE:
        raise RequestError(f"{file}: {file.stat().st_size:,} bytes: no tokenizer has more than {LARGEST_FILE:,}")
    verify_files(folder, ("tokenizer.json", *NAMING))
    try:
        inner = tokenizers.Tokenizer.from_file(str(file))
    except BaseException as error:  # tokenizers raises nothing narrower; PanicException where Rust stumbles
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise WorkError(f"{file}: not a tokenizer, or damaged ({shown(first_line(error))})") from None
    return Tokenizer(inner, folder, *_control_names(folder)).check_inert()


def from_gguf(file: Path) -> Tokenizer:
    """The tokenizer in a GGUF file of any architecture, as transformers rebuilds it.

    Raises RequestError where it can't.
    """
    try:
        import gguf  # noqa: F401
        from transformers import AutoTokenizer
    except ImportError:
        raise RequestError(f"{file}: to read its tokenizer: pip install 'gemmule[gguf,huggingface]'") from None
    try:
        theirs = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
        inner = theirs.backend_tokenizer
    except Exception as error:  # transformers raises what it comes across
        raise RequestError(f"{file}: transformers can't read its tokenizer: {first_line(error)}") from error
    return Tokenizer(inner, names={key: getattr(theirs, key) for key in CONTROL_NAMES}).check_inert()


def _control_names(folder: Path) -> tuple[dict[str, str | None], set[str]]:
    """What a folder's files say of its control tokens.

    Those that begin, end and fill up a text, by their roles (null there is None here); and all of any role.
    """
    names: dict[str, str | None] = {}
    more: set[str] = set()
    for file in NAMING:
        if not (folder / file).is_file():
            continue
        content = _read_json(folder / file)
        for key, entry in content.items():
            if key in CONTROL_NAMES and (entry is None or _name(entry) is not None):
                names[key] = _name(entry)
            if key.endswith("_token"):
                more.add(_name(entry) or "")
            elif key in ("additional_special_tokens", "extra_special_tokens"):
                entries = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
                more.update(_name(token) or "" for token in entries)
    return names, more - {""}


def _name(entry: Any) -> str | None:
    """A token as Hugging Face's files have it: its text, or that and its properties."""
    name = entry.get("content") if isinstance(entry, dict) else entry
    return name if isinstance(name, str) else None


def _with_control(names: set[str | None], inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """`inner` with its control tokens marked as special, which only then are text where they are written."""
    added = inner.get_added_tokens_decoder().values()
    unmarked = {token.content for token in added if not token.special}
    unmarked = {name for name in unmarked if name in names or CONTROL.fullmatch(name)}
    if not unmarked:
        return inner
    content = json.loads(inner.to_str())
    for token in content["added_tokens"]:
        token["special"] |= token["content"] in unmarked
    return tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


@cache
def _bytes_by_letter() -> dict[str, int]:
    """The byte that each letter of the byte-level alphabet stands for: what prints stands for itself (GPT-2)."""
    alphabet = set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    prints = {chr(byte): byte for byte in range(256) if chr(byte) in alphabet}
    others = (byte for byte in range(256) if chr(byte) not in prints)
    return prints | {chr(256 + place): byte for place, byte in enumerate(others)}


def byte_level_bytes(token: str) -> bytes:
    """The bytes that a byte-level tokenizer's token stands for: by its letters, or its own text if it has others."""
    letters = _bytes_by_letter()
    return bytes(map(letters.__getitem__, token)) if letters.keys() >= set(token) else token.encode()


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the tokenizer's files into `folder`, beside whatever is there: its own if it was loaded, else ours.

    Raises WorkError if the files that it was loaded from are gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer.folder is None:
        write_inner(tokenizer.inner, folder)
        write_json(folder / "tokenizer_config.json", _transformers_config(tokenizer))
        return
    if not (tokenizer.folder / "tokenizer.json").is_file():
        raise WorkError(f"{tokenizer.folder / 'tokenizer.json'}: gone since the tokenizer was loaded from there")
    for name in FILES:
        file = tokenizer.folder / name
        if file.is_file() and file.resolve() != (folder / name).resolve():
            shutil.copyfile(file, folder / name)


def write_inner(inner: tokenizers.Tokenizer, folder: Path) -> None:
    """As `inner.save` does, which tells neither path nor reason of a full disk."""
    with naming(folder / "tokenizer.json") as file:
        file.write_text(inner.to_str(pretty=True), encoding="utf-8")


def _transformers_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """What transformers needs to know. Turns of a conversation only where it has tokens for them.

    The class must be said, and be this one: without it, transformers rebuilds a SentencePiece tokenizer beside
    `model_type: gemma2`. `additional_special_tokens`: transformers 4 crashes on a list under `extra_special_tokens`.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **tokenizer.names,
        "unk_token": "<unk>" if tokenizer.inner.token_to_id("<unk>") is not None else None,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
    }
    if all(tokenizer.inner.token_to_id(turn) is not None for turn in TURNS):
        config["additional_special_tokens"] = TURNS
        config["chat_template"] = (
            resources.files("gemmule.tokenize").joinpath("chat_template.jinja").read_text(encoding="utf-8")
        )
    return config


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkError(f"{file}: can't be read ({error})") from None
    if not isinstance(content, dict):
        raise WorkError(f"{file}: not a tokenizer")
    return content


def _refuse_surrogates(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"text holds a lone surrogate, U+{ord(text[error.start]):04X} at character {error.start}, "
                "which is no character: remove it"
            ) from None
