"""Archives: a cut or damaged one is an error that names the file, never a shorter corpus (datasets#3060)."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.base.artifact import publish
from gemmule.base.errors import WorkError
from gemmule.refine.compressed import zstd
from gemmule.refine.documents import Reading, write_documents
from gemmule.refine.sources import SourceFile, read_documents


def frame(content: bytes) -> bytes:
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": frame}
TEXTS = [" ".join(random.Random(number).choices(["so", "much", "depends", "upon"], k=200)) for number in range(60)]
RECORDS = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


def read(path: Path) -> list[str]:
    return [document.text for document in read_documents(SourceFile(path, path.name))]


@pytest.mark.parametrize("suffix", ARCHIVES)
@pytest.mark.parametrize("kind", [".jsonl", ".txt", ".parquet"])
@pytest.mark.parametrize("missing", [1, 3, 4, 8, 9, 100, 1000])
def test_a_cut_archive_is_named(tmp_path: Path, suffix: str, kind: str, missing: int) -> None:
    """Cut inside the last frame's checksum (1 to 4 bytes), gzip's trailer (1 to 8), the data."""
    content = RECORDS
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "a.parquet")
        content = (tmp_path / "a.parquet").read_bytes()
    path = tmp_path / f"half{kind}{suffix}"
    whole = ARCHIVES[suffix](content)
    assert len(whole) > 1500
    path.write_bytes(whole)
    assert read(path)
    path.write_bytes(whole[:-missing])
    with pytest.raises(WorkError, match=rf"^half{kind}{suffix}: cut short"):
        read(path)


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_nothing_is_published_from_a_cut_archive(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "whole.jsonl").write_bytes(RECORDS)
    (tmp_path / f"half.jsonl{suffix}").write_bytes(ARCHIVES[suffix](RECORDS)[:-100])
    files = [SourceFile(tmp_path / name, name) for name in ("whole.jsonl", f"half.jsonl{suffix}")]
    with (
        pytest.raises(WorkError, match=f"half.jsonl{suffix}") as caught,
        publish(tmp_path / "documents", "documents") as folder,
    ):
        write_documents(Reading(files), 0.1, folder)
    assert caught.value.exit_status == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"half.jsonl{suffix}", "whole.jsonl"]


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_every_record_of_every_frame(tmp_path: Path, suffix: str) -> None:
    half = len(RECORDS) // 2  # in the middle of a line
    frames = [ARCHIVES[suffix](part) for part in (RECORDS[:half], b"", RECORDS[half:])]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(b"".join(frames))
    assert read(path) == TEXTS
    for missing in (1, 100, len(frames[2]) - 1, len(frames[2]) - 3):  # into the last frame, up to its first bytes
        path.write_bytes(b"".join(frames)[:-missing])
        with pytest.raises(WorkError, match=rf"^a\.jsonl{suffix}: "):
            read(path)


def test_skippable_frames_and_padding_are_passed_over(tmp_path: Path) -> None:
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(skippable + frame(RECORDS) + skippable)
    assert read(path) == TEXTS
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(RECORDS) + bytes(512))  # as tapes pad them
    assert read(path) == TEXTS


def test_a_frame_of_a_long_window(tmp_path: Path) -> None:
    """`zstd --long=31` asks for more than the usual 128 MB at most; such a file is whole."""
    options = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(compressor.compress(RECORDS) + compressor.flush())
    assert read(path) == TEXTS


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_a_damaged_archive_is_named(tmp_path: Path, suffix: str) -> None:
    whole = bytearray(ARCHIVES[suffix](RECORDS))
    path = tmp_path / f"a.jsonl{suffix}"
    for place in (0, len(whole) // 2, len(whole) - 3):
        damaged = whole.copy()
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(WorkError, match=rf"^a\.jsonl{suffix}: "):
            read(path)
    path.write_bytes(whole + b"<html>404")
    with pytest.raises(WorkError, match=rf"^a\.jsonl{suffix}: damaged"):
        read(path)
    path.write_bytes(RECORDS)
    with pytest.raises(WorkError, match=rf"^a\.jsonl{suffix}: damaged, or not compressed as its name says"):
        read(path)


def test_a_damaged_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path, write_page_checksum=True)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:-100], whole[:100], b"PAR1", b"{}", b""):
        path.write_bytes(content)
        with pytest.raises(WorkError, match=r"^a\.parquet: "):
            read(path)
    column = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(whole)).metadata.row_group(0).column(0)
    start = column.dictionary_page_offset
    for place in (start, start + column.total_compressed_size // 2, start + column.total_compressed_size - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(WorkError, match=r"^a\.parquet: "):
            read(path)
