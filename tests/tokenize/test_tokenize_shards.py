"""Token shards: what is written is what the tokenizer gave, by position, and damage is named."""

import errno
import json
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmule.base.artifact import publish
from gemmule.base.errors import WorkError
from gemmule.refine.documents import Reading, write_documents
from gemmule.refine.sources import resolve
from gemmule.tokenize import Tokenizer, save, train
from gemmule.tokenize import shards as module
from gemmule.tokenize.shards import TokenShards, write_shards

EOS = 1


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(["the quick brown fox jumps over the lazy dog " * 3], 290)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return ["the quick brown fox", "", "naïve 123\r\n\u2028", "the <eos> dog <bos>", "x" * 100]


@pytest.fixture(scope="module")
def stream(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    return [number for text in texts for number in [*tokenizer.encode(text), EOS]]


@pytest.mark.parametrize("shard_tokens", [1, 7, 64, 2**26])
def test_stream_is_documents_each_followed_by_eos(
    tokenizer: Tokenizer, texts: list[str], stream: list[int], tmp_path: Path, shard_tokens: int
) -> None:
    write_shards(iter(texts), tokenizer, tmp_path, shard_tokens=shard_tokens)
    shards = TokenShards(str(tmp_path))
    assert len(shards) == len(stream)
    assert shards[:].tolist() == stream
    assert shards[:].dtype == np.int64
    assert shards.document_starts.tolist() == [
        0,
        *(place + 1 for place, number in enumerate(stream[:-1]) if number == EOS),
    ]
    assert shards.text_bytes == sum(len(text.encode()) for text in texts)
    assert shards.vocabulary_size == 290
    assert shards.mask(3, 9).tolist() == [True] * 6
    assert len(list(tmp_path.glob("tokens-*.npy"))) == -(-len(stream) // shard_tokens)
    assert not list(tmp_path.glob("mask-*"))
    ends = [*shards.document_starts[1:].tolist(), len(shards)]
    back = [
        tokenizer.decode(shards[start : end - 1])
        for start, end in zip(shards.document_starts.tolist(), ends, strict=True)
    ]
    assert back == texts


def test_indexing_is_as_of_a_list(tokenizer: Tokenizer, texts: list[str], stream: list[int], tmp_path: Path) -> None:
    shards = write_shards(texts, tokenizer, tmp_path, shard_tokens=10)
    bound = st.none() | st.integers(-len(stream) - 5, len(stream) + 5)

    @settings(max_examples=300, deadline=None)
    @given(bound, bound, st.none() | st.integers(-12, 12).filter(bool))
    def slices_agree(start: int | None, stop: int | None, step: int | None) -> None:
        assert shards[start:stop:step].tolist() == stream[start:stop:step]
        assert len(shards.mask(start, stop)) == len(stream[start:stop])

    slices_agree()
    for place in (0, 9, 10, 11, len(stream) - 1, -1, -len(stream)):
        assert shards[place] == stream[place]
    for place in (len(stream), -len(stream) - 1):
        with pytest.raises(IndexError):
            shards[place]
    shards[0:5][:] = 0  # what is given is the caller's own
    assert shards[:5].tolist() == stream[:5]


def test_pieces_carry_their_mask(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Before, between and after whole texts; each piece tokenized by itself; <eos> as the last piece."""
    documents = ["the fox", [("the dog ", False), ("jumps", True)], "lazy", [("dog", True), (" over", False)], []]
    shards = write_shards(documents, tokenizer, tmp_path, shard_tokens=5)
    expected: list[tuple[int, bool]] = []
    for document in [[("the fox", True)], documents[1], [("lazy", True)], documents[3]]:
        for text, learned in document:
            expected += [(number, learned) for number in tokenizer.encode(text)]
        expected.append((EOS, document[-1][1]))
    expected.append((EOS, True))
    assert shards[:].tolist() == [number for number, _ in expected]
    assert shards.mask(0, len(shards)).tolist() == [learned for _, learned in expected]
    assert shards.mask(-4, len(shards)).tolist() == [learned for _, learned in expected][-4:]
    assert False in shards.mask(0, len(shards))


def test_a_mask_that_begins_late_covers_what_was_before(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemmule.tokenize.shards.BATCH_CHARACTERS", 10)
    shards = write_shards([*["the fox"] * 9, [("dog", False)]], tokenizer, tmp_path, shard_tokens=6)
    masked = len(tokenizer.encode("dog")) + 1
    assert shards.mask(0, len(shards)).tolist() == [True] * (len(shards) - masked) + [False] * masked


@pytest.mark.parametrize(("size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32), (70_000, np.uint32)])
def test_ids_never_wrap_round(tmp_path: Path, size: int, dtype: type) -> None:
    """transformers#2825: ids stored in 16 bits. 1 MB with a vocabulary on either side of 65,536."""
    words = {f"w{number}": number for number in range(size - 2)} | {"<bos>": size - 2, "<eos>": size - 1}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(["<bos>", "<eos>"])
    tokenizer = Tokenizer(inner)
    assert tokenizer.vocabulary_size == size
    drawn = np.random.default_rng(0).integers(0, size - 2, 150_000)
    drawn[:6] = [65_530, 65_531, 65_532, 65_533, 0, size - 3]
    text = " ".join(f"w{number}" for number in drawn.tolist() if number < size - 2)
    assert len(text) > 990_000
    shards = write_shards([text, "w0"], tokenizer, tmp_path)
    assert shards[:].tolist() == [*inner.encode(text).ids, size - 1, 0, size - 1]
    assert shards[:].max() == size - 1
    assert np.load(tmp_path / "tokens-00000.npy").dtype == dtype


def test_bytes_depend_on_the_content_alone(tokenizer: Tokenizer, texts: list[str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shards(texts, tokenizer, tmp_path / name, shard_tokens=9)
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert "tokens-00000.npy" in files


def test_no_documents_is_no_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shards = write_shards([], tokenizer, tmp_path)
    assert (len(shards), shards[:].tolist(), shards.text_bytes, shards.document_starts.tolist()) == (0, [], 0, [])


@pytest.mark.parametrize(
    "name", ["tokens-00001.npy", "mask-00000.npy", "checksums.npy", "document_starts.npy", "info.json"]
)
@pytest.mark.parametrize("damage", ["cut", "missing", "empty", "another length"])
def test_damage_is_named(tokenizer: Tokenizer, tmp_path: Path, name: str, damage: str) -> None:
    write_shards(["1234567890", [("12345", False)]], tokenizer, tmp_path, shard_tokens=10)  # 17 tokens
    file = tmp_path / name
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-1] if name != "info.json" else content[:-9])
    elif damage == "missing":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif name == "info.json":
        file.write_text(json.dumps(json.loads(content) | {"tokens": 11}))
        name = "tokens-00001.npy"  # it holds more than the one token that would be left for it
    else:
        np.save(file, np.load(file)[:-1])
    with pytest.raises(WorkError, match=name if damage != "missing" or name != "info.json" else "no token shards"):
        TokenShards(tmp_path)


def flip(file: Path, place: int) -> None:
    """One bit of the byte at `place`, counted from the end if negative."""
    content = bytearray(file.read_bytes())
    content[place] ^= 0x10
    file.write_bytes(content)


@pytest.fixture
def masked(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """85 tokens with a mask: shards of 20, in blocks of 8."""
    monkeypatch.setattr(module, "BLOCK", 8)
    documents = ["0123456789" * 4, [("0123456789", False), ("01234567890123456789012345678901", True)]]
    assert len(write_shards(documents, tokenizer, tmp_path / "tokens", shard_tokens=20)) == 84
    return tmp_path / "tokens"


def test_the_checksums_are_those_of_the_files(masked: Path) -> None:
    """By zlib's CRC-32 of what numpy reads from them."""
    expected = [
        zlib.crc32(np.load(file)[start : start + 8].tobytes())
        for stem in ("tokens", "mask")
        for file in sorted(masked.glob(f"{stem}-*.npy"))
        for start in range(0, len(np.load(file)), 8)
    ]
    assert len(expected) == 2 * (4 * 3 + 1)
    assert np.load(masked / "checksums.npy").tolist() == expected


@pytest.mark.parametrize(
    ("name", "byte", "first", "last"),
    [("tokens-00000.npy", -1, 16, 19), ("tokens-00002.npy", -2 * 20, 40, 47), ("mask-00003.npy", -12, 68, 75),
     ("tokens-00004.npy", -8, 80, 83)],
)  # fmt: skip
def test_a_flipped_bit_is_found_where_it_is_and_nowhere_else(
    masked: Path, name: str, byte: int, first: int, last: int
) -> None:
    whole = TokenShards(masked)[:].tolist()
    flip(masked / name, byte)
    shards = TokenShards(masked)
    where = rf"{name}: tokens {first} to {last} are not what was written.*make the tokens again"

    def read(start: int, stop: int) -> list[int]:
        shards.mask(start, stop)
        return shards[start:stop].tolist()

    assert read(0, first) + read(last + 1, 84) == whole[:first] + whole[last + 1 :]
    assert shards.damage(0, first) is None
    for start, stop in [(first, first + 1), (last, last + 1), (0, 84), (first - 1, first + 1)]:
        for _ in range(2):  # it is not forgotten
            with pytest.raises(WorkError, match=where):
                read(start, stop)
        assert f"{name}: tokens {first} to {last}" in (shards.damage(start, stop) or "")
    if name.startswith("tokens"):
        with pytest.raises(WorkError, match=where):
            shards[last]


def test_each_block_is_checked_once(masked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = TokenShards(masked)
    checked: list[int] = []
    real = zlib.crc32
    monkeypatch.setattr(module.zlib, "crc32", lambda content: checked.append(len(content)) or real(content))
    assert shards[3] == shards[:8][3]
    assert checked == [8]
    for _ in range(3):
        shards[0:40], shards.mask(16, 24)
    assert checked == [8, 8, 4, 8, 8, 4, 4, 8]  # the ids' blocks, then the two of the mask


def test_document_starts_that_changed_are_named(masked: Path) -> None:
    assert TokenShards(masked).document_starts.tolist() == [0, 41]
    flip(masked / "document_starts.npy", -8)
    with pytest.raises(WorkError, match=r"document_starts.npy: not what was written"):
        _ = TokenShards(masked).document_starts


def test_a_folder_of_an_earlier_version_is_named_as_such(masked: Path) -> None:
    info = json.loads((masked / "info.json").read_text())
    del info["document_starts_checksum"]
    (masked / "info.json").write_text(json.dumps(info))
    with pytest.raises(WorkError, match=r"info.json: .*made by an earlier gemmule; make the tokens again"):
        TokenShards(masked)


def test_reading_needs_no_torch(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards(["the quick brown fox"], tokenizer, tmp_path)
    program = (
        "import sys; from gemmule.tokenize.shards import TokenShards; from gemmule.tokenize.windows import Windows;"
        f"Windows(TokenShards({str(tmp_path)!r}), 4, 2, 0).batch(0, 2);"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can grow past 100 kB: as on a full disk, writing fails in the middle of a file."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize(("texts", "name"), [(["the quick brown fox " * 10_000] * 5, "tokens-00000.npy"),
                                             ([""] * 20_000, "document_starts.npy")])  # fmt: skip
def test_a_full_disk_is_named_with_path_and_reason(
    tokenizer: Tokenizer, tmp_path: Path, full_disk: None, texts: list[str], name: str
) -> None:
    with pytest.raises(OSError, match="File too large") as raised:
        write_shards(texts, tokenizer, tmp_path)
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / name))


def test_a_full_disk_while_documents_or_a_tokenizer_are_written(tmp_path: Path, full_disk: None) -> None:
    draw = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(draw.bytes(40_000).hex())
    files = resolve(["*.txt"], tmp_path)
    with (
        pytest.raises(WorkError, match=r"out.*: can't be written: .*File too large"),
        publish(tmp_path / "out", "documents") as folder,
    ):
        write_documents(Reading(files), 0.1, folder)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    large = train([" ".join("".join(draw.choice(letters, 8)) for _ in range(2000))], 3000)
    with pytest.raises(OSError, match="File too large") as raised:
        save(large, tmp_path / "tokenizer")
    assert raised.value.filename == str(tmp_path / "tokenizer" / "tokenizer.json")
