"""Questions and their answers from a file of records, in the formats that text is read in (`refine/formats`)."""

from __future__ import annotations

from pathlib import Path

from gemmule.base.encodings import BadRecord
from gemmule.base.errors import RequestError
from gemmule.refine.formats import format_of
from gemmule.refine.records import SAY_WHICH
from gemmule.refine.source_file import SourceFile

FIELDS = (("question", "answer"), ("prompt", "answer"), ("prompt", "completion"))


def read_records(path: Path) -> list[dict[str, str]]:
    """The records of a file, each as {"question": ..., "answer": ...}.

    The fields are the first of FIELDS that the first record has.

    Raises RequestError naming the file, and the line of what is wrong in it; WorkError for a damaged file.
    """
    file = SourceFile(path, str(path))
    format = format_of(file)
    if format is None or format.records is None:
        raise RequestError(
            f"{path}: holds no records: questions and answers are read from jsonl, json, csv and parquet"
        )
    first = next(format.records(file), None)  # of a file without any, the reader says why
    fields = next((pair for pair in FIELDS if first is None or first.keys() >= set(pair)), None)
    if fields is None:
        wanted = ", or ".join(" and ".join(pair) for pair in FIELDS)
        raise RequestError(f"{path}: its records need the fields {wanted}; they have {', '.join(sorted(first or ()))}")
    columns = [format.texts(file, field, int, None) for field in fields]
    records: list[dict[str, str]] = []
    try:
        for (_, question), (_, answer) in zip(*columns, strict=True):
            pair = [_text(value) for value in (question, answer)]
            if not all(text.strip() for text in pair):
                empty = fields[not pair[1].strip()]
                raise RequestError(f"{path}, record {len(records) + 1}: its {empty} is empty")
            records.append(dict(zip(FIELDS[0], pair, strict=True)))
    except BadRecord as error:
        raise RequestError(str(error).removesuffix(SAY_WHICH)) from None
    if not records:
        raise RequestError(f"{path}: holds no records")
    return records


def _text(value: str | bytes | BadRecord) -> str:
    if isinstance(value, BadRecord):
        raise value
    return value if isinstance(value, str) else value.decode()
