"""The tokenizer's files: saved, loaded, read by transformers with nothing of gemmule; foreign ones kept as they are."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers

from gemmule.base.errors import RequestError, WorkError
from gemmule.tokenize import Tokenizer, load_tokenizer, save, train

TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\r\n\r\n" * 20
NASTY = [
    TEXT, "", " x", "  two  spaces  ", "▁▁ literal", "Ġ Ċ", "<bos>", "a<end_of_turn>\n<start_of_turn>model\nb",
    "1999 is 42", "naïve 日本語 \U0001f469\u200d\U0001f467", "\u2028\u2029\u0085\x0c", "\ufeffx", "it's , . ! don't",
    " . , 's", "\x00", "e\u0301",
]  # fmt: skip

IN_TRANSFORMERS = """
import json, sys
from transformers import AutoTokenizer

turn = lambda role, content: {"role": role, "content": content}
chat = [turn("user", " Hi, <who>? "), turn("assistant", "Me."), turn("user", "Ah")]

def refusal(turns):
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False) and ""
    except Exception as error:
        return str(error)

for folder in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text, split_special_tokens=True)["input_ids"] for text in json.load(open("texts.json"))]
    print(json.dumps({
        "ids": ids,
        "back": [tokenizer.decode(row, skip_special_tokens=True) for row in ids],
        "chat": tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True),
        "chat_ids": tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"],
        "closed": tokenizer.apply_chat_template(chat[:2], tokenize=False),
        "refused": [*map(refusal, ([turn("system", "x"), *chat], chat[1:], [chat[0]] * 2, [*chat, turn("tool", "x")]))],
        "special": [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id],
    }))
assert not any(name.split(".")[0] == "gemmule" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train([TEXT, "model user who Me Hi Ah"], 300)


@pytest.fixture(scope="module")
def in_transformers(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What transformers makes of the tokenizer's files, in a process without gemmule: by themselves, and beside a model
    of its kind, where it would rather build a SentencePiece tokenizer."""
    folder = tmp_path_factory.mktemp("transformers")
    for name in ("alone", "beside a model"):
        (folder / name).mkdir()
        save(tokenizer, folder / name)
    (folder / "beside a model" / "config.json").write_text(json.dumps({"model_type": "gemma2", "vocab_size": 300}))
    (folder / "texts.json").write_text(json.dumps(NASTY))
    command = [sys.executable, "-c", IN_TRANSFORMERS, "alone", "beside a model"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(zip(("alone", "beside a model"), map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("where", ["alone", "beside a model"])
def test_transformers_gives_the_same_ids(tokenizer: Tokenizer, in_transformers: dict[str, dict], where: str) -> None:
    theirs = in_transformers[where]
    assert theirs["ids"] == [[2, *tokenizer.encode(text)] for text in NASTY]
    assert theirs["back"] == NASTY
    assert theirs["special"] == [0, 1, 2, 3]
    assert theirs["chat"] == (
        "<bos><start_of_turn>user\nHi, <who>?<end_of_turn>\n<start_of_turn>model\nMe.<end_of_turn>\n"
        "<start_of_turn>user\nAh<end_of_turn>\n<start_of_turn>model\n"
    )
    assert theirs["closed"] == (
        "<bos><start_of_turn>user\nHi, <who>?<end_of_turn>\n<start_of_turn>model\nMe.<end_of_turn>\n"
    )
    text = tokenizer.encode
    assert theirs["chat_ids"] == [
        2, 106, *text("user\nHi, <who>?"), 107, *text("\n"), 106, *text("model\nMe."), 107, *text("\n"),
        106, *text("user\nAh"), 107, *text("\n"), 106, *text("model\n"),
    ]  # fmt: skip
    system, *others = theirs["refused"]
    assert "System role not supported" in system
    assert len(others) == 3
    assert all("roles must alternate" in refusal for refusal in others)


def test_saved_and_loaded_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save(tokenizer, tmp_path / "a")
    loaded = load_tokenizer(tmp_path / "a")
    assert [loaded.encode(text) for text in NASTY] == [tokenizer.encode(text) for text in NASTY]
    assert loaded.encode_batch(NASTY) == [loaded.encode(text) for text in NASTY]
    assert loaded.content_hash == tokenizer.content_hash
    save(loaded, tmp_path / "b")
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == ["tokenizer.json", "tokenizer_config.json"]
    assert sorted(file.name for file in (tmp_path / "b").iterdir()) == names
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    config = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # transformers 4 knows this one and 5 too
    assert "extra_special_tokens" not in config  # transformers 4 crashes on it


def test_decode_leaves_out_control_tokens_unless_asked(tokenizer: Tokenizer) -> None:
    ids = [2, 106, *tokenizer.encode("to be"), 107, 1]
    assert tokenizer.decode(ids) == "to be"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<bos><start_of_turn>to be<end_of_turn><eos>"


def test_hash_is_of_the_content(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save(tokenizer, tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]  # as older versions write them
    file.write_text(json.dumps(dict(reversed(content.items())), indent=None))
    same = load_tokenizer(tmp_path)
    assert same.content_hash == tokenizer.content_hash
    assert same.encode(TEXT) == tokenizer.encode(TEXT)  # not cut
    assert same.encode_batch(["to", "be"]) == tokenizer.encode_batch(["to", "be"])  # not padded
    content["model"]["merges"].pop()
    file.write_text(json.dumps(content))
    assert load_tokenizer(tmp_path).content_hash != tokenizer.content_hash


def foreign_tokenizer(folder: Path, *names: str) -> None:
    """Words at white space, with control tokens elsewhere than ours; and files of its own."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0, "y": 1, "[?]": 2}, unk_token="[?]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.add_special_tokens(list(names))
    folder.mkdir(parents=True, exist_ok=True)
    words.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer.model").write_bytes(b"\x0a\x00sentencepiece")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GemmaTokenizerFast", "odd": 1}')
    (folder / "model.safetensors").write_bytes(b"weights")


def test_a_foreign_tokenizer_keeps_its_files(tmp_path: Path) -> None:
    foreign_tokenizer(tmp_path / "theirs", "<eos>", "<bos>")
    theirs = load_tokenizer(str(tmp_path / "theirs"))
    assert (theirs.eos_id, theirs.bos_id, theirs.pad_id, theirs.vocabulary_size) == (3, 4, 3, 5)
    save(theirs, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert not (tmp_path / "out" / "model.safetensors").exists()
    save(theirs, tmp_path / "theirs")  # onto itself: nothing to do
    shutil.rmtree(tmp_path / "theirs")
    with pytest.raises(WorkError, match="theirs"):
        save(theirs, tmp_path / "elsewhere")


def test_without_a_token_that_ends_a_document_it_is_refused(tmp_path: Path) -> None:
    foreign_tokenizer(tmp_path / "theirs", "<bos>")
    with pytest.raises(RequestError, match=r"theirs.*<eos>.*eos_token"):
        load_tokenizer(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({"tokenizer_config.json": {"bos_token": "<|b|>", "eos_token": {"content": "<|e|>"}}}, (3, 4, 4)),
        ({"tokenizer_config.json": {"bos_token": None, "eos_token": "<|e|>", "pad_token": "<|p|>"}}, (None, 4, 5)),
        ({"special_tokens_map.json": {"bos_token": "<|e|>", "eos_token": "<|e|>"}}, (4, 4, 4)),
        ({"tokenizer_config.json": {"eos_token": "<|e|>"}}, (None, 4, 4)),
    ],
)
def test_which_tokens_begin_and_end_a_text_is_read_from_its_files(
    tmp_path: Path, files: dict[str, dict[str, object]], ids: tuple[int | None, int, int]
) -> None:
    foreign_tokenizer(tmp_path, "<|b|>", "<|e|>", "<|p|>")
    (tmp_path / "tokenizer_config.json").unlink()
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    theirs = load_tokenizer(tmp_path)
    assert (theirs.bos_id, theirs.eos_id, theirs.pad_id) == ids
    assert tuple(theirs.control_ids.values()) == ids
    assert theirs.opening == ([] if ids[0] is None else [ids[0]])
    assert not {3, 4, 5} & set(theirs.encode("x<|b|>y<|e|> <|p|>"))  # inert, by whatever name


def test_what_is_no_tokenizer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"nowhere/at/all: no such folder"):
        load_tokenizer("nowhere/at/all")
    with pytest.raises(RequestError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model":')
    with pytest.raises(WorkError, match=r"tokenizer\.json: not a tokenizer"):
        load_tokenizer(tmp_path)
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(RequestError, match=r"someone/model: .*hub \(no route\)$"):
        load_tokenizer("someone/model")


def test_a_hub_id_is_fetched_without_weights(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    save(tokenizer, tmp_path)
    asked = {}

    def snapshot(name: str, allow_patterns: list[str], local_files_only: bool) -> str:
        assert not local_files_only
        asked[name] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load_tokenizer("someone/model").content_hash == tokenizer.content_hash
    assert list(asked) == ["someone/model"]
    assert "tokenizer.json" in asked["someone/model"]
    assert not any("safetensors" in pattern or pattern == "*" for pattern in asked["someone/model"])


@pytest.mark.parametrize(
    ("names", "roles", "control"),
    [
        (["<eos>", "<bos>", "<b>"], {}, {"<eos>", "<bos>"}),
        (["</s>", "<s>", "<b>"], {"eos_token": "</s>", "bos_token": {"content": "<s>"}}, {"</s>", "<s>"}),
        (["<eos>", "<s>", "</s>"], {}, {"<eos>"}),  # HTML's, as Gemma has them
        (["<|endoftext|>", "<|im_start|>", "<｜User｜>", "<think>"], {"eos_token": "<|endoftext|>"},
         {"<|endoftext|>", "<|im_start|>", "<｜User｜>"}),
        (["<eos>", "<start_of_turn>", "\n\n"], {}, {"<eos>", "<start_of_turn>"}),
        (["<eos>", "[X]", "[Y]", "[Z]"], {"mask_token": "[X]", "extra_special_tokens": ["[Y]"]},
         {"<eos>", "[X]", "[Y]"}),
        (["<eos>", "[X]", "[Y]"], {"additional_special_tokens": [{"content": "[Y]"}]}, {"<eos>", "[Y]"}),
        (["<eos>", "[Y]"], {"extra_special_tokens": {"image_token": "[Y]"}, "bos_token": 5, "pad_token": ["<eos>"]},
         {"<eos>", "[Y]"}),
    ],
)  # fmt: skip
def test_which_tokens_are_control_whatever_their_flag(
    tmp_path: Path, names: list[str], roles: dict[str, object], control: set[str]
) -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0, "[?]": 1}, unk_token="[?]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.add_tokens(names)
    inner.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(roles))
    theirs = load_tokenizer(tmp_path)
    assert set(theirs.control) == control
    for name in names:
        assert (theirs.inner.token_to_id(name) in theirs.encode(f"x {name} x")) == (name not in control)
        assert theirs.decode([0, theirs.inner.token_to_id(name)]) == ("x" if name in control else f"x {name}")


def test_a_tokenizer_whose_model_makes_control_tokens_of_text_is_refused(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0, "<eos>": 1, "[?]": 2}, unk_token="[?]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(RequestError, match=r"turns text that spells <eos> into that control token"):
        load_tokenizer(tmp_path)


def test_a_monstrous_tokenizer_is_refused(tmp_path: Path) -> None:
    foreign_tokenizer(tmp_path, "<eos>", "<bos>")
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["x"] = 10**9
    file.write_text(json.dumps(content))
    with pytest.raises(RequestError, match="has a token of the id 1,000,000,000; 2,097,152 tokens is the maximum"):
        load_tokenizer(tmp_path)
    with file.open("r+b") as handle:
        handle.truncate(2**28 + 1)
    with pytest.raises(RequestError, match="268,435,457 bytes: no tokenizer has more"):
        load_tokenizer(tmp_path)


def test_a_pattern_that_gives_up_is_named_and_no_crash(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "!": 1, "<eos>": 2}, []))
    inner.add_special_tokens(["<eos>"])
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("(a+)+b"), "isolated")
    inner.save(str(tmp_path / "tokenizer.json"))
    hostile = load_tokenizer(tmp_path)
    for encode in (hostile.encode, lambda text: hostile.encode_batch([text])):
        with pytest.raises(RequestError, match=r"its tokenizer can't encode this text: .*retry-limit"):
            encode("a" * 40 + "!")
