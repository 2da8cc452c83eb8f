"""What an evaluation reads: every token once, after one <bos>, for the unit that it belongs to."""

import itertools

import numpy as np
import pytest

from gemmule import tokenize
from gemmule.base.errors import RequestError
from gemmule.evaluate.passages import ENOUGH, DocumentPassages, StreamPassages
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.tokenizer import Tokenizer
from gemmule.tokenize.windows import Windows


@pytest.fixture(scope="module")
def words(texts) -> Tokenizer:
    return tokenize.train(texts, 300)


def counted(passages, tokens_at_once=100):
    """(unit, target) of every token that counts, in the order in which they are read; and the inputs of windows."""
    found, inputs = [], []
    for passage in passages.read(tokens_at_once):
        mask = passage.batch.mask
        found += zip(passage.units[mask].tolist(), passage.batch.targets[mask].tolist(), strict=True)
        inputs += passage.batch.inputs.tolist()
    return found, inputs


@pytest.mark.parametrize("stride", [None, 5, 1])
def test_each_token_of_a_document_counts_once_after_one_bos(words, texts, stride):
    texts = [texts[0], "<bos>" + texts[1][:40], "O", *texts[2:ENOUGH]]
    passages = DocumentPassages(texts, words, 16, stride=stride)
    found, inputs = counted(passages)
    expected = [(n, i) for n, text in enumerate(texts) for i in [*words.encode(text), words.eos_id]]
    assert sorted(found) == sorted(expected)
    assert all(row[0] == words.bos_id and words.bos_id not in row[1:] for row in inputs)
    assert max(map(len, inputs)) == 16
    assert passages.over == "documents"
    assert passages.documents == len(texts)
    units = np.bincount([unit for unit, _ in found])
    assert passages.bytes_of_units(units).tolist() == [len(text.encode()) for text in texts]


def test_a_stride_gives_tokens_what_stands_before_them(words, texts):
    """Windows of 8 by a stride of 2: from the ninth token on, each has at least 6 of the text before it."""
    ids = [*words.encode(texts[0]), words.eos_id]
    seen = {}
    for passage in DocumentPassages([texts[0]], words, 8, stride=2).read(64):
        for row, mask in zip(passage.batch.inputs, passage.batch.mask, strict=True):
            for place in np.flatnonzero(mask):
                seen[tuple(row[1 : place + 1].tolist())] = place
    starts = [place for place in seen.values() if place < 6]
    assert starts == [0, 1, 2, 3, 4, 5]  # the first window's alone
    assert sum(1 for _ in seen) >= len(set(itertools.pairwise(ids))) / 2


@pytest.mark.parametrize("stride", [0, 17])
def test_a_stride_that_leaves_tokens_out_is_refused(words, stride):
    with pytest.raises(RequestError, match=f"stride {stride}: must be from 1 to the 16"):
        DocumentPassages(["O"], words, 16, stride=stride)


def test_few_documents_are_cut_into_stretches_by_their_bytes_whatever_the_tokenizer(words, texts):
    characters = tokenize.train(texts, 262)  # hardly any merges
    text = "".join(texts)[:3000]
    units = []
    for tokenizer in (words, characters):
        passages = DocumentPassages([text], tokenizer, 16)
        found, _ = counted(passages)
        tokens = np.bincount([unit for unit, _ in found])
        assert passages.over == "stretches"
        assert passages.documents == 1
        assert tokens.sum() == len(tokenizer.encode(text)) + 1
        assert tokens.max() - tokens.min() <= 1
        units.append(passages.bytes_of_units(tokens))
    assert len(units[0]) == len(units[1]) == 16  # at least so many, of 187 bytes
    assert units[0].sum() == pytest.approx(3000)


def test_a_tokenizer_without_bos_gives_each_windows_first_token_as_context(words, texts):
    bare = tokenize.train(texts, 300)
    bare.bos_id = None
    found, inputs = counted(DocumentPassages(texts[:ENOUGH], bare, 16))
    lengths = [len(bare.encode(text)) + 1 for text in texts[:ENOUGH]]
    assert len(found) == sum(length - -(-length // 16) for length in lengths)
    assert words.bos_id not in itertools.chain(*inputs)


@pytest.fixture(scope="module")
def windows(words, texts, tmp_path_factory) -> Windows:
    return Windows(write_shards(texts, words, tmp_path_factory.mktemp("tokens")), 32, words.bos_id, words.pad_id)


def test_a_stream_is_read_whole_and_each_token_belongs_to_its_document(windows, texts):
    passages = StreamPassages(windows)
    found, _ = counted(passages)
    starts = windows.shards.document_starts
    expected = np.searchsorted(starts, np.arange(len(windows.shards)), side="right") - 1
    assert [unit for unit, _ in found] == expected.tolist()
    assert [target for _, target in found] == windows.shards[:].tolist()
    assert (passages.over, passages.documents) == ("documents", len(texts))
    tokens = np.bincount([unit for unit, _ in found])
    assert passages.bytes_of_units(tokens).sum() == pytest.approx(windows.shards.text_bytes)


def test_of_a_stream_some_windows_are_drawn_which_are_among_those_of_more(windows):
    few, more = (StreamPassages(windows, tokens).chosen.tolist() for tokens in (160, 320))
    assert (len(few), len(more)) == (5, 10)
    assert set(few) < set(more)
    assert few == sorted(few)
    assert few != list(range(5))
    assert len(StreamPassages(windows, 10**9).chosen) == len(windows)
