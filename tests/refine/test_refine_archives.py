"""Archives: what is read of a zip and a tar, as what, and which tricks are refused."""

import gzip
import io
import json
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmule.base.errors import GemmuleError, RequestError, WorkError
from gemmule.estimate.text import sample
from gemmule.init.fields import text_fields
from gemmule.plan.origins import digest
from gemmule.refine import compressed, source_file
from gemmule.refine.compressed import zstd
from gemmule.refine.formats import archives
from gemmule.refine.sources import SourceFile, Tally, read_documents, resolve

KINDS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst"]


def zipped(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def tarred(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name) if isinstance(text, bytes) else text
            info.size = len(text) if isinstance(text, bytes) else 0
            archive.addfile(info, io.BytesIO(text) if isinstance(text, bytes) else None)
    return content.getvalue()


PACK: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    ".zip": zipped,
    ".tar": tarred,
    ".tar.gz": lambda files: gzip.compress(tarred(files)),
    ".tgz": lambda files: gzip.compress(tarred(files)),
    ".tar.zst": lambda files: zstd.compress(tarred(files), options={zstd.CompressionParameter.checksum_flag: 1}),
}


def archive(folder: Path, kind: str, files: Mapping[str, bytes]) -> SourceFile:
    (folder / f"a{kind}").write_bytes(PACK[kind](files))
    return SourceFile(folder / f"a{kind}", f"a{kind}")


def found(file: SourceFile, tally: Tally | None = None, skip_bad: bool = False) -> list[tuple[str, int, str]]:
    documents = read_documents(file, tally=tally, skip_bad=skip_bad)
    return [(document.source, document.position, document.text) for document in documents]


def rows(texts: list[str]) -> bytes:
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), content)
    return content.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_a_known_format_is_read_under_its_own_name(tmp_path: Path, kind: str) -> None:
    files = {
        "./b.txt": b"b",
        "inner/a.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
        "inner/deep/c.txt.gz": gzip.compress(b"c"),
        "d.parquet": rows(["three", "four"]),
        "picture.png": b"\x89PNG",
        "meta.json": b'{"rights": "none"}',
        ".hidden.txt": b"x",
        "__MACOSX/._b.txt": b"x",
        "e.TXT": "so ☃".encode(),
    }
    tally = Tally()
    assert found(archive(tmp_path, kind, files), tally) == [
        (f"a{kind}/b.txt", 0, "b"),
        (f"a{kind}/inner/a.jsonl", 1, "one"),
        (f"a{kind}/inner/a.jsonl", 2, "two"),
        (f"a{kind}/inner/deep/c.txt.gz", 0, "c"),
        (f"a{kind}/d.parquet", 0, "three"),
        (f"a{kind}/d.parquet", 1, "four"),
        (f"a{kind}/e.TXT", 0, "so ☃"),
    ]
    assert tally.left_out == f"a{kind}/meta.json (next to other texts)"


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_read_where_there_is_nothing_else(tmp_path: Path, kind: str) -> None:
    file = archive(tmp_path, kind, {"data/a.csv": b"id,text\n1,one\n", "b.json": b'["two"]', "c.png": b"x"})
    assert [text for _, _, text in found(file)] == ["one", "two"]


def test_of_a_folder_they_are_read_where_there_is_no_text_beside(tmp_path: Path) -> None:
    archive(tmp_path, ".zip", {"a.txt": b"a"})
    assert [file.name for file in resolve(["."], tmp_path)] == ["a.zip"]
    (tmp_path / "b.txt").write_text("b")
    told: list[str] = []
    assert [file.name for file in resolve(["."], tmp_path, tell=told.append)] == ["b.txt"]
    assert told == [".: a.zip left out next to texts; to read such files, name them: ./**/*.zip"]
    assert [file.name for file in resolve(["**/*.zip"], tmp_path)] == ["a.zip"]


# --- parts of one


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_files_in_it_can_be_named_and_excluded(tmp_path: Path, kind: str) -> None:
    archive(tmp_path, kind, {"one/a.txt": b"a", "one/b.py": b"b", "two/deep/c.txt": b"c", "two/d.md": b"d"})

    def names(patterns: list[str], exclude: list[str] | None = None) -> list[str]:
        files = resolve(patterns, tmp_path, exclude=exclude or [])
        return [source.removeprefix(f"a{kind}/") for file in files for source, _, _ in found(file)]

    assert names([f"a{kind}"]) == ["one/a.txt", "two/deep/c.txt", "two/d.md"]
    assert names([f"a{kind}/two"]) == ["two/deep/c.txt", "two/d.md"]
    assert names([f"a{kind}/**/*.txt", f"a{kind}/one/*.py"]) == ["one/a.txt", "two/deep/c.txt", "one/b.py"]
    assert names([f"a{kind}"], [f"a{kind}/two/deep", f"a{kind}/*/a.txt"]) == ["two/d.md"]
    with pytest.raises(RequestError, match=rf"a\{kind}: an archive without a file to read that is called three/\*"):
        names([f"a{kind}/three/*"])


def test_what_is_read_of_it_is_part_of_its_identity(tmp_path: Path) -> None:
    archive(tmp_path, ".zip", {"one/a.txt": b"a", "two/b.txt": b"b"})

    def identity(patterns: list[str], exclude: list[str] | None = None) -> str:
        return digest(resolve(patterns, tmp_path, exclude=exclude or []), {})

    assert identity(["a.zip"]) == digest([SourceFile(tmp_path / "a.zip", "other name")], {})
    ways = {identity(["a.zip"]), identity(["a.zip/one"]), identity(["a.zip/two"]), identity(["a.zip"], ["a.zip/two"])}
    assert len(ways) == 4


# --- what is left out or refused


def test_links_devices_and_archives_within_are_left_out_and_told(tmp_path: Path) -> None:
    link, hard, device, sparse = (tarfile.TarInfo(f"{name}.txt") for name in ("link", "hard", "device", "fifo"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "a.txt"
    device.type, sparse.type = tarfile.CHRTYPE, tarfile.FIFOTYPE
    folder = tarfile.TarInfo("folder.txt")
    folder.type = tarfile.DIRTYPE
    content = tarred(
        {"folder": folder, "a.txt": b"a", "l": link, "h": hard, "d": device, "f": sparse, "in.zip": zipped({"x": b""})}
    )
    (tmp_path / "a.tar").write_bytes(content)
    tally = Tally()
    assert found(SourceFile(tmp_path / "a.tar", "a.tar"), tally) == [("a.tar/a.txt", 0, "a")]
    assert tally.left_members == 5
    assert tally.left_out == "a.tar/link.txt (a link) (and 4 more)"


def test_a_link_in_a_zip_is_left_out(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.txt")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.txt", "a")
        file.writestr(info, "/etc/passwd")
    tally = Tally()
    assert found(SourceFile(tmp_path / "a.zip", "a.zip"), tally) == [("a.zip/a.txt", 0, "a")]
    assert tally.left_out == "a.zip/link.txt (a link)"


def test_a_sparse_file_is_left_out(tmp_path: Path) -> None:
    """As GNU tar --sparse writes one of a terabyte: a map of its data, and 512 bytes."""
    info = tarfile.TarInfo("sparse.txt")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "sparse.txt",
                        "GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,512"}  # fmt: skip
    info.size = 512
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info, io.BytesIO(b"x" * 512))
        file.addfile(tarfile.TarInfo("a.txt"))
    tally = Tally()
    found(SourceFile(tmp_path / "a.tar", "a.tar"), tally, skip_bad=True)
    assert tally.left_out.endswith("a.tar/sparse.txt (a sparse file)")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x.txt", r"called \.\./x\.txt: its '\.\.' leads out"),
        ("a/../../x.txt", ".*leads out"),
        ("a\\..\\x.txt", ".*leads out"),
        ("/etc/x.txt", "called /etc/x.txt: an absolute path"),
        ("C:\\x.txt", ".*an absolute path"),
        ("c:x.txt", ".*an absolute path"),
        ("a\x1b[31m.txt", r"called a\\x1b\[31m\.txt: control characters"),
        ("x" * 5000 + ".txt", ".*longer than 4,096 characters"),
    ],
)
def test_names_with_tricks_are_refused_or_skipped(tmp_path: Path, kind: str, name: str, words: str) -> None:
    file = archive(tmp_path, kind, {"a.txt": b"a", name: b"trick", "z.txt": b"z"})
    with pytest.raises(RequestError, match=rf"^a\{kind}: a member " + words):
        found(file)
    tally = Tally()
    assert [text for _, _, text in found(file, tally, skip_bad=True)] == ["a", "z"]
    assert tally.bad == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    content = zipped({"a.txt": b"a", "b.txtX.png": b"b"}).replace(b"b.txtX.png", b"b.txt\0.png")
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(RequestError, match=r"called b\.txt\\x00\.png: control characters"):
        found(SourceFile(tmp_path / "a.zip", "a.zip"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, text in (("a.txt", "one"), ("./a.txt", "two")):
            file.writestr(zipfile.ZipInfo(name), text)
    with pytest.raises(RequestError, match=r"a\.zip/a\.txt: there twice"):
        found(SourceFile(tmp_path / "a.zip", "a.zip"))


def test_an_encrypted_file_is_refused_by_name(tmp_path: Path) -> None:
    content = bytearray(zipped({"a.txt": b"a"}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(RequestError, match=r"a\.zip/a\.txt: encrypted: unpack the archive"):
        found(SourceFile(tmp_path / "a.zip", "a.zip"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "files", [{}, {"a.png": b"x"}, {"b.zip": zipped({"a.txt": b"a"}), "c.tar": tarred({"a.txt": b"a"})}]
)
def test_an_archive_without_text_is_said(tmp_path: Path, kind: str, files: dict[str, bytes]) -> None:
    file = archive(tmp_path, kind, files)
    within = r"; left out: a.*b\.zip \(an archive in an archive\), a" if "b.zip" in files else "$"
    with pytest.raises(RequestError, match=rf"^a\{kind}: an archive without a file to read{within}"):
        found(file)
    tally = Tally()
    assert found(file, tally, skip_bad=True) == []
    assert tally.empty_files == 1


# --- bombs


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tgz", ".tar.zst"])
def test_a_bomb_is_refused_as_soon_as_it_shows(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "LARGE", 2**23)
    file = archive(tmp_path, kind, {"a.txt": b"a" * 2**26})
    tracemalloc.start()
    texts = (len(document.text) for document in read_documents(file))
    with pytest.raises(RequestError, match=rf"a\{kind}/a\.txt: more than 100 times as large as it is stored"):
        sum(texts)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_so_is_a_compressed_file_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "LARGE", 2**23)
    file = archive(tmp_path, ".tar", {"a.txt.gz": gzip.compress(b"a" * 2**26)})
    with pytest.raises(RequestError, match=r"a\.tar/a\.txt\.gz: more than 100 times"):
        found(file)


def test_text_that_compresses_well_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "LARGE", 1000)
    text = b"".join(b"line %d of many that are much alike\n" % number for number in range(10_000))
    file = archive(tmp_path, ".zip", {"a.txt": text})
    assert "".join(part for _, _, part in found(file)).encode() == text


def test_a_file_that_is_larger_than_declared_is_refused(tmp_path: Path) -> None:
    content = zipped({"a.txt": b"so it goes " * 100})
    (tmp_path / "a.zip").write_bytes(content.replace((1100).to_bytes(4, "little"), (11).to_bytes(4, "little")))
    with pytest.raises(WorkError, match=r"a\.zip/a\.txt: cut short, damaged.*CRC"):
        found(SourceFile(tmp_path / "a.zip", "a.zip"))


# --- damage


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_archive_never_passes_for_a_shorter_one(tmp_path: Path, kind: str) -> None:
    words = {f"{name}.txt": (f"{name} " * 300).encode() for name in "abcd"}
    whole = PACK[kind](words)
    assert len(found(archive(tmp_path, kind, words))) == 4
    end = whole.rstrip(b"\0") if kind == ".tar" else whole  # of a tar that is cut within its zeros nothing is lost
    for size in {0, 1, 10, 511, 512, 513, 1024, 1536, 2048, len(end) // 2, len(end) - 1} & set(range(len(end))):
        (tmp_path / f"a{kind}").write_bytes(whole[:size])
        with pytest.raises(WorkError, match=rf"^a\{kind}[:/]"):
            found(SourceFile(tmp_path / f"a{kind}", f"a{kind}"))


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.zst"])
def test_a_changed_byte_is_found(tmp_path: Path, kind: str) -> None:
    words = {"a.txt": " ".join(map(str, range(2000))).encode()}
    content = bytearray(PACK[kind](words))
    content[len(content) // 2] ^= 0x10
    (tmp_path / f"a{kind}").write_bytes(content)
    with pytest.raises(WorkError, match=rf"^a\{kind}[:/]"):
        found(SourceFile(tmp_path / f"a{kind}", f"a{kind}"))


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    content = bytearray(tarred({"a.txt": b"a", "b.txt": b"b"}))
    content[1024 + 148] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(WorkError, match=r"a\.tar: cut short, damaged.*bad checksum"):
        found(SourceFile(tmp_path / "a.tar", "a.tar"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_archive_is_said(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a{kind}").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(GemmuleError, match=rf"^a\{kind}: "):
        found(SourceFile(tmp_path / f"a{kind}", f"a{kind}"))


def test_a_header_that_would_fill_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.txt")
    info.type, info.size = tarfile.XHDTYPE, 2**40
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(WorkError, match=r"a\.tar: cut short, damaged.*a header of 1,099,511,627,776 bytes"):
        found(SourceFile(tmp_path / "a.tar", "a.tar"))


# --- names that are no ASCII


def test_japanese_names_with_and_without_the_flag(tmp_path: Path) -> None:
    flagged = zipped({"日本/吾輩.txt": "吾輩は猫である。".encode()})
    for content in (flagged, flagged.replace(b"\x00\x08\x08\x00", b"\x00\x00\x08\x00")):
        (tmp_path / "a.zip").write_bytes(content)
        assert found(SourceFile(tmp_path / "a.zip", "a.zip")) == [("a.zip/日本/吾輩.txt", 0, "吾輩は猫である。")]
    assert content != flagged


def test_names_in_code_page_437_and_names_that_are_no_text(tmp_path: Path) -> None:
    content = zipped({"caf?.txt": b"a"}).replace(b"caf?", b"caf\x82")
    (tmp_path / "a.zip").write_bytes(content)
    assert found(SourceFile(tmp_path / "a.zip", "a.zip")) == [("a.zip/café.txt", 0, "a")]
    (tmp_path / "a.tar").write_bytes(tarred({"caf\udce9.txt": b"a"}))
    assert found(SourceFile(tmp_path / "a.tar", "a.tar")) == [("a.tar/caf\\xe9.txt", 0, "a")]


# --- what else reads sources


@pytest.mark.parametrize("kind", KINDS)
def test_init_and_the_estimate_look_into_it(tmp_path: Path, kind: str) -> None:
    bodies = [f"{number} a body of text with words of its own {number * 7}" for number in range(2000)]
    records = "".join(json.dumps({"id": str(number), "body": body}) + "\n" for number, body in enumerate(bodies))
    file = archive(tmp_path, kind, {f"{name}.jsonl": records.encode() for name in "abcd"})
    assert text_fields([file])[0] == "body"
    (part,), share = sample([file], "body", tmp_path, size=2**17)
    texts = [document.text for document in read_documents(part, "body")]
    assert texts == (bodies * 4)[: len(texts)]
    assert 2**17 <= sum(map(len, texts)) < 2**17 + 100
    if kind == ".zip":  # to the nearest block, which is all of the others here
        assert share == pytest.approx(len(texts) / 8000, abs=0.15)
    assert sample([file], "body", tmp_path) == ([file], 1.0)
    plain = archive(tmp_path, kind, {"a.txt": b"so it goes"})
    assert text_fields([plain]) == []


def test_memory_does_not_grow_with_the_number_of_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "BLOCK", 2**12)
    monkeypatch.setattr(archives, "BLOCK", 2**12)

    def peak(count: int) -> int:
        file = archive(tmp_path, ".tar", {f"{number:06d}.txt": b"so it goes" for number in range(count)})
        tracemalloc.start()
        assert sum(1 for _ in read_documents(file)) == count
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few, many = peak(300), peak(1300)
    assert many - few < 1000 * 200  # the hashes of names; tarfile itself keeps 1.4 kB of each
