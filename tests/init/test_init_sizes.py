"""The rules by which shapes and budgets follow from text, time and a wish."""

from __future__ import annotations

import itertools

import pytest

from gemmule.init.sizes import Means, fit, shapes, stores_targets, vocabulary_for
from gemmule.recipe.schema import batch_for

TEXTS = (6e4, 2e5, 1e6, 5e6, 5e7, 1e9)


def test_shapes_are_those_that_the_recipe_takes():
    known = shapes()
    assert known[0].weights < 200_000
    assert known[-1].weights > 10**9
    # from one to the next is no large step
    assert all(after.weights < 2.3 * before.weights for before, after in itertools.pairwise(known))
    for shape in known:
        config = shape.config(1000, 256)  # refused where it is impossible
        norms = (4 * shape.layers + 1) * shape.width
        assert shape.weights == config.parameters - config.embedding_parameters - norms
        assert 32 <= config.head_dim <= 64
        assert shape.layers % 2 == 0
        assert shape.layers <= 32


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("flops", [1e12, 6e13, 1e17])
def test_a_teacher_is_larger_and_reads_more_and_no_text_is_learned_by_heart(text, flops):
    sizes = fit(Means(text, 3.0, flops))
    assert sizes.teacher is not None
    assert 1.5 * sizes.student.weights <= sizes.teacher.weights <= 6 * sizes.student.weights
    if text >= 2e5:
        assert sizes.teacher.tokens >= 2 * sizes.student.tokens
    whole = Means(text, 3.0, flops).tokens(sizes.vocabulary_size)
    assert sizes.teacher.tokens <= 4.3 * whole
    assert sizes.student.tokens <= 4.3 * whole
    assert sizes.student.tokens / batch_for(sizes.student.tokens) >= 90  # steps enough to learn anything


def test_more_text_and_more_time_make_larger_students():
    by_text = [fit(Means(text, 3.0, 1e16)).student.weights for text in TEXTS]
    by_time = [fit(Means(5e7, 3.0, flops)).student.weights for flops in (1e13, 1e14, 1e15, 1e16)]
    for sizes in (by_text, by_time):
        assert sizes == sorted(sizes)
        assert sizes[-1] > 4 * sizes[0]
    assert fit(Means(2e5, 3.0, 1e16)).limited_by == "text"
    assert fit(Means(5e7, 3.0, 1e14)).limited_by == "time"


@pytest.mark.parametrize("flops", [3e13, 1e14, 1e15])
def test_what_it_costs_is_what_there_is(flops):
    sizes = fit(Means(5e7, 3.0, flops))
    student, teacher = sizes.student, sizes.teacher
    assert teacher is not None
    length = sizes.sequence_length
    a_student, a_teacher = (m.config(sizes.vocabulary_size, length).flops_per_token(length) for m in (student, teacher))
    cost = 3 * a_teacher * teacher.tokens + (6 * a_student + a_teacher) * student.tokens
    assert 0.9 * flops < cost < 1.1 * flops


def test_weights_are_those_of_the_matrices_that_the_recipes_defaults_make():
    for shape in shapes():
        parameters = shape.config(1000, 256).parameter_shapes
        matrices = [rows * columns for rows, columns in (s for s in parameters.values() if len(s) == 2)]
        assert shape.weights == sum(matrices) - 1000 * shape.width


@pytest.mark.parametrize("size", [1_000_000, 5_000_000, 100_000_000])
def test_a_size_is_that_of_the_student_with_its_embedding(size):
    sizes = fit(Means(5e7, 3.0, 1e18), size)
    assert sizes.student.config(sizes.vocabulary_size, 256).parameters == pytest.approx(size, rel=0.3)


def test_the_vocabulary_is_about_the_root_of_the_text_and_the_table_no_larger_than_the_rest():
    small, large = shapes()[0], shapes()[-1]
    assert [vocabulary_for(text, large) for text in TEXTS] == [512, 512, 1024, 2048, 8192, 8192]
    assert vocabulary_for(1e9, small) * small.width <= small.weights


def test_an_outside_teacher_is_asked_once_where_its_student_reads_more_than_the_text():
    short, long = (Means(text, 3.5, 1e14, vocabulary_size=8000, teacher_flops=5e8) for text in (3e5, 5e7))
    assert fit(short).teacher is None
    assert stores_targets(short, fit(short))
    assert not stores_targets(long, fit(long))
