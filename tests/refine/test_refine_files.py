"""Which files are read: folder and glob alike, each once, no further than links may lead, less what is excluded."""

import os
from pathlib import Path

import pytest

from gemmule.base.errors import RequestError
from gemmule.refine.files import absolute, resolve


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}")


def found(folder: Path, *patterns: str, **options: object) -> list[str]:
    return [file.name for file in resolve(patterns, folder, **options)]  # type: ignore[arg-type]


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """texts/ with a file, links to a folder and a file outside, to a folder inside, and two loops."""
    make(tmp_path, "texts/a.txt", "texts/deep/b.txt", "real/c.txt", "other.txt", "texts/.hidden/d.txt")
    for name, target in [("sub", "../real"), ("e.txt", "../other.txt"), ("inside", "deep"), ("deep/up", ".."),
                         ("deep/up2", "../../texts"), ("visible", ".hidden"), ("gone.txt", "nowhere.txt")]:  # fmt: skip
        (tmp_path / "texts" / name).symlink_to(target)
    return tmp_path


INSIDE = ["texts/a.txt", "texts/deep/b.txt", "texts/visible/d.txt"]
OUTSIDE = ["texts/e.txt", "texts/sub/c.txt"]


@pytest.mark.parametrize("pattern", ["texts", "texts/**/*.txt", "./texts/**/*", "texts/**", "texts/**/**/*.txt"])
def test_folder_and_glob_read_the_same_files_each_once(linked: Path, pattern: str) -> None:
    told: list[str] = []
    assert found(linked, pattern, tell=told.append) == INSIDE
    (left, lost) = told
    assert "texts/e.txt leads out of the folder, to" in left
    assert "(and 1 more)" in left
    assert "data.follow_links = true, or name it in data.sources" in left
    assert "texts/gone.txt is a link that leads nowhere" in lost
    told.clear()
    assert found(linked, pattern, follow_links=True, tell=told.append) == sorted(INSIDE + OUTSIDE)
    assert [line for line in told if "leads out" in line] == []


def test_a_link_named_outright_is_followed(linked: Path) -> None:
    assert found(linked, "texts/sub", "texts/e.txt", "texts/sub/*.txt") == ["texts/sub/c.txt", "texts/e.txt"]
    (linked / "moved").symlink_to("texts")
    told: list[str] = []
    assert found(linked, "moved", tell=told.append) == [name.replace("texts", "moved") for name in INSIDE]
    assert "moved/e.txt leads out" in told[0]


def test_links_are_walked_once_however_many_there_are(tmp_path: Path) -> None:
    """Each of ten folders links to all of them: 10! ways for one who only looks for circles in a path."""
    for number in range(10):
        make(tmp_path, f"texts/{number}/{number}.txt")
    for number in range(10):
        for other in range(10):
            (tmp_path / f"texts/{number}/to{other}").symlink_to(tmp_path / f"texts/{other}")
    names = [f"texts/{number}/{number}.txt" for number in range(10)]
    for follow_links in (False, True):
        for pattern in ("texts", "texts/**/*.txt"):
            assert found(tmp_path, pattern, follow_links=follow_links) == names


def test_what_is_all_behind_links_is_said_as_the_reason(tmp_path: Path) -> None:
    make(tmp_path, "blobs/1.txt")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "train.txt").symlink_to("../blobs/1.txt")
    with pytest.raises(
        RequestError, match=r"^snapshot: .*train\.txt leads out of the folder.*data\.follow_links = true"
    ):
        found(tmp_path, "snapshot")
    assert found(tmp_path, "snapshot", follow_links=True) == ["snapshot/train.txt"]


@pytest.mark.parametrize(
    ("exclude", "names"),
    [
        (["texts/a.txt"], ["texts/b/c.txt", "texts/b/d.md", "texts/e.txt"]),
        (["texts/b"], ["texts/a.txt", "texts/e.txt"]),
        (["texts/**/*.txt"], ["texts/b/d.md"]),
        (["texts/b/*", "texts/e*"], ["texts/a.txt"]),
        (["*/b"], ["texts/a.txt", "texts/e.txt"]),
        (["."], None),
        (["alias/b"], ["texts/a.txt", "texts/e.txt"]),
    ],
)
def test_exclude(tmp_path: Path, exclude: list[str], names: list[str] | None) -> None:
    make(tmp_path, "texts/a.txt", "texts/b/c.txt", "texts/b/d.md", "texts/e.txt")
    (tmp_path / "alias").symlink_to("texts")
    told: list[str] = []
    if names is None:
        with pytest.raises(RequestError, match=r"data\.exclude: leaves none of the 4 files"):
            found(tmp_path, "texts", exclude=exclude)
    else:
        assert found(tmp_path, "texts", exclude=exclude, tell=told.append) == names
        absolutes = [absolute(pattern, tmp_path) for pattern in exclude]
        assert len(resolve([absolute("texts", tmp_path)], Path("/"), exclude=absolutes)) == len(names)
    assert told == []


def test_an_excluded_link_is_not_its_target(tmp_path: Path) -> None:
    make(tmp_path, "texts/b.txt", "texts/c.txt")
    (tmp_path / "texts/a.txt").symlink_to("b.txt")
    assert found(tmp_path, "texts", exclude=["texts/a.txt"]) == ["texts/b.txt", "texts/c.txt"]
    assert found(tmp_path, "texts", exclude=["texts/b.txt"]) == ["texts/c.txt"]


def test_exclude_that_names_nothing_is_said(tmp_path: Path) -> None:
    make(tmp_path, "texts/a.txt", "eval.txt")
    with pytest.raises(RequestError, match=r"^data\.exclude: 'evl\.txt': no such file or folder"):
        found(tmp_path, "texts", exclude=["evl.txt"])
    told: list[str] = []
    assert found(tmp_path, "texts", exclude=["eval.txt", "texts/*.md"], tell=told.append) == ["texts/a.txt"]
    assert told == [f"data.exclude: {name!r} leaves out nothing that data.sources names" for name in
                    ("eval.txt", "texts/*.md")]  # fmt: skip


def test_parts_of_the_bundled_text_can_be_excluded() -> None:
    names = found(Path("/"), "gemmule:shakespeare", exclude=["gemmule:shakespeare/*henry*"])
    assert "gemmule:shakespeare/hamlet.txt" in names
    assert not any("henry" in name for name in names)


def test_tables_and_json_are_read_where_nothing_else_is_there(tmp_path: Path) -> None:
    make(tmp_path, "tables/a.csv", "tables/b.JSON.gz", "both/a.txt", "both/package.json", "code/a.py", "code/a.csv")
    assert found(tmp_path, "tables") == found(tmp_path, "tables/*") == ["tables/a.csv", "tables/b.JSON.gz"]
    told: list[str] = []
    assert found(tmp_path, "both", tell=told.append) == ["both/a.txt"]
    assert "both/package.json left out" in told[0]
    assert "both/**/*.json" in told[0]
    assert found(tmp_path, "both/*.json", "code/a.csv") == ["both/package.json", "code/a.csv"]
    with pytest.raises(RequestError, match=r"for its 1 \.py files write code/\*\*/\*\.py"):
        found(tmp_path, "code")


def test_signs_that_are_part_of_a_name(tmp_path: Path) -> None:
    make(tmp_path, "d[1]/a.txt", "d[1]/b[2].txt")
    for pattern, hint in [
        ("d[1]/*.txt", "d[[]1]/*.txt"),
        ("d[1]/b[2].tx?", "d[[]1]/b[[]2].tx?"),
        ("d[1]/**/b[2]*", "d[[]1]/**/b[[]2]*"),
    ]:
        with pytest.raises(RequestError) as raised:
            found(tmp_path, pattern)
        assert str(raised.value).endswith(f"; a [ that is part of a name is written [[], as in {hint}")
    assert found(tmp_path, "d[[]1]/*.txt") == found(tmp_path, "d[1]") == ["d[1]/a.txt", "d[1]/b[2].txt"]
    assert found(tmp_path, "d[1]/b[2].txt") == ["d[1]/b[2].txt"]
    base = tmp_path / "d[1]"
    assert [file.path.name for file in resolve([absolute("*.txt", base)], Path("/"))] == ["a.txt", "b[2].txt"]


def test_names_with_newlines_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    make(tmp_path, "texts/a\nb.txt")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/texts/caf\xe9.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system keeps names in UTF-8")
    assert sorted(found(tmp_path, "texts")) == ["texts/a\nb.txt", r"texts/caf\xe9.txt"]
    with pytest.raises(RequestError, match=r"caf\\xe9/a.txt: its name is not UTF-8, and a recipe can hold no other"):
        absolute("a.txt", Path(os.fsdecode(b"/caf\xe9")))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    make(tmp_path, "texts/a.txt")
    os.mkfifo(tmp_path / "texts" / "pipe.txt")
    assert found(tmp_path, "texts") == found(tmp_path, "texts/*") == ["texts/a.txt"]
    with pytest.raises(RequestError, match=r"pipe\.txt: neither a file nor a folder"):
        found(tmp_path, "texts/pipe.txt")
