"""A small job: text, windows, a model to train and one to learn from."""

from __future__ import annotations

import pytest
from small_job import LARGE, LENGTH, PLAIN, SMALL

from gemmule import tokenize
from gemmule.model import weights
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Distill, Train
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows
from gemmule.train.job import Job


@pytest.fixture(scope="module")
def words(texts):
    return tokenize.train(texts, 300)


@pytest.fixture(scope="module")
def windows(words, texts, tmp_path_factory):
    shards = write_shards(texts, words, tmp_path_factory.mktemp("tokens"))
    return Windows(shards, LENGTH, words.bos_id, words.pad_id, seed=0)


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    weights.save(Gemma2(LARGE).initialise(5), folder)
    return folder


@pytest.fixture
def job(tmp_path, windows):
    return Job(
        name="m",
        folder=tmp_path / "m",
        config=SMALL,
        train=Train(
            tokens=12 * 64,
            learning_rate=1e-2,
            batch_tokens=64,
            checkpoint_every=4,
            optimizer="adamw",
            schedule="cosine",
        ),
        distill=Distill(),
        machine=PLAIN,
        seed=0,
        windows=windows,
        validation=windows,
        settings={"seed": 0},
        inputs={},
    )
