"""Near-duplicates: exactly those that a comparison of all pairs drops, each with the kept one that it is like."""

import math
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from corpora import Letters, corpus_of, decided

from gemmule.refine.minhash import bands_for, least_estimate, minhash, permutations
from gemmule.refine.steps.near_duplicates import NearDuplicates
from gemmule.refine.words import shingles


def true_shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))} if words else set()


def jaccard(first: str, second: str) -> float:
    a, b = true_shingles(first), true_shingles(second)
    return len(a & b) / max(1, len(a | b))


def dropped_by_hand(texts: list[str], threshold: float) -> list[int]:
    kept: list[int] = []
    for number, text in enumerate(texts):
        if all(jaccard(text, texts[other]) < threshold for other in kept):
            kept.append(number)
    return sorted(set(range(len(texts))) - set(kept))


def like(words: list[str], share: float, letters: Letters) -> list[str]:
    """A text that shares so much of its shingles with another of as many words: m of n, so m / (2n - m) of all."""
    shingles = len(words) - 4
    shared = math.ceil(2 * share / (1 + share) * shingles - 1e-9)
    return words[: shared + 4] + letters.words(shingles - shared)


def planted(seed: int) -> list[str]:
    """70 texts, and after all of them 70 like them, at a similarity of 0.25 to 0.975."""
    letters = Letters(seed)
    originals = [letters.words(94 + 10 * (number % 7)) for number in range(70)]
    shares = [0.25, 0.3, 0.35, 0.45, 0.5, 0.55, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975]
    copies = [like(words, shares[number % len(shares)], letters) for number, words in enumerate(originals)]
    return [" ".join(words) for words in originals + copies]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_goes_is_what_all_pairs_say(tmp_path: Path, threshold: float, seed: int) -> None:
    texts = planted(seed)
    expected = dropped_by_hand(texts, threshold)
    decisions = NearDuplicates(threshold).decide(corpus_of(texts, tmp_path, 33))
    assert [drop.number for drop in decisions.dropped] == expected
    assert len(expected) >= 70 // 13
    for drop in decisions.dropped:
        kept = int(drop.matched.removeprefix("a:"))
        similarity = jaccard(texts[drop.number], texts[kept])
        assert similarity >= threshold
        assert drop.reason == f"{similarity:.2f} of their 5-word shingles are shared"
        assert kept not in expected


def test_similarity_is_exact_at_the_threshold(tmp_path: Path) -> None:
    letters = Letters()
    words = letters.words(94)  # 90 shingles
    texts = [" ".join(words), " ".join(words[:84] + letters.words(10)), " ".join(words[:83] + letters.words(11))]
    assert jaccard(texts[0], texts[1]) == 0.8  # 80 of 100
    assert decided(NearDuplicates(0.8), corpus_of(texts, tmp_path)) == [(1, "a:0")]


def test_letters_of_one_form_all_stay(tmp_path: Path) -> None:
    """marin#6854: 60% shared, so at most 0.43 of the shingles of two."""
    letters = Letters()
    frame = letters.words(180)
    texts = [" ".join(frame[:60] + letters.words(120) + frame[60:]) for _ in range(2000)]
    assert 0.3 < jaccard(texts[0], texts[1]) < 0.43
    assert decided(NearDuplicates(0.8), corpus_of(texts, tmp_path, 500)) == []


def test_of_a_chain_only_what_is_like_a_kept_one_goes(tmp_path: Path) -> None:
    """A~B~C~D: each is 0.82 like the next one, and at most 0.7 like any other."""
    words = Letters().words(140)
    texts = [" ".join(words[start : start + 104]) for start in (0, 10, 20, 30)]
    assert [jaccard(texts[0], other) > 0.8 for other in texts[1:]] == [True, False, False]
    assert jaccard(texts[1], texts[2]) > 0.8 < jaccard(texts[2], texts[3])
    assert decided(NearDuplicates(0.8), corpus_of(texts, tmp_path)) == [(1, "a:0"), (3, "a:2")]


def test_a_crowd_of_copies_is_like_the_first(tmp_path: Path) -> None:
    letters = Letters()
    words = letters.words(200)
    texts = [" ".join(words + letters.words(2)) for _ in range(3000)]
    assert decided(NearDuplicates(0.8), corpus_of(texts, tmp_path, 1000)) == [(n, "a:0") for n in range(1, 3000)]


def test_the_order_of_parts_and_the_processes_do_not_matter(tmp_path: Path) -> None:
    texts = planted(2)
    alone = decided(NearDuplicates(0.8), corpus_of(texts, tmp_path / "alone", 1000))
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        corpus = corpus_of(texts, tmp_path / "two", 13, pool.map)
        assert decided(NearDuplicates(0.8), corpus) == alone != []


def test_signatures_are_kept_for_a_resumed_run(tmp_path: Path) -> None:
    corpus = corpus_of(planted(3), tmp_path)
    expected = decided(NearDuplicates(0.8), corpus)
    files = sorted(tmp_path.glob("*.30x7.*.npy"))
    assert len(files) == len(corpus.parts)
    times = [file.stat().st_mtime_ns for file in files]
    assert decided(NearDuplicates(0.8), corpus) == expected
    assert [file.stat().st_mtime_ns for file in files] == times
    without_originals = corpus.without(range(70))
    assert decided(NearDuplicates(0.8), without_originals) == []  # not by the signatures of all


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], []),
        (["alone"], []),
        (["word", "Word!", "other", "two words", "two  words"], [(1, "a:0"), (4, "a:3")]),
        (["?", "!", "..."], []),  # no words: like none
        (["la " * 50, "la " * 70], [(1, "a:0")]),  # the same one shingle
        (
            [
                "日本語の文章です。今日は天気がいいですね。",
                "日本語の文章です! 今日は天気がいいですね",
                "犬",
            ],
            [(1, "a:0")],
        ),
    ],
)
def test_strange_corpora(tmp_path: Path, texts: list[str], expected: list[tuple[int, str]]) -> None:
    assert decided(NearDuplicates(0.8), corpus_of(texts, tmp_path, 2)) == expected


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    bands = bands_for(threshold)
    assert 1 - (1 - threshold**bands.rows) ** bands.count >= 0.999
    assert bands.permutations <= 256
    assert 0 < least_estimate(threshold, bands) < threshold


def test_signatures_are_those_of_datasketch(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for its mixing of the hashes before, which ours need not."""
    from datasketch import MinHash

    monkeypatch.setattr("datasketch.minhash._fmix", lambda hashes, width: hashes)
    drawn = np.array(permutations(128))
    sets = [shingles(Letters(seed).text(50 + seed)) for seed in range(5)]
    ours = minhash(sets, 128)
    for each, signature in zip(sets, ours, strict=True):
        theirs = MinHash(permutations=drawn, scheme="affine32", hashfunc=int, num_perm=128)
        theirs.update_batch((each >> np.uint64(32)).tolist())
        assert signature.tolist() == theirs.hashvalues.tolist()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_signatures_estimate_the_similarity(share: float) -> None:
    """A mean of 1,024 permutations over 20 pairs is within 4 standard errors."""
    letters, agree, truth = Letters(), [], []
    for _ in range(20):
        words = letters.words(304)
        pair = [" ".join(words), " ".join(like(words, share, letters))]
        first, second = minhash([shingles(text) for text in pair], 1024)
        agree.append(np.mean(first == second))
        truth.append(jaccard(*pair))
    assert abs(np.mean(agree) - np.mean(truth)) < 4 * math.sqrt(share * (1 - share) / (1024 * 20))
