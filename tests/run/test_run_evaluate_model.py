"""`gemmule evaluate MODEL TEXT...`, as a stranger would use it: any model, any text, wrong requests."""

import json
import math
import shutil

import pytest
import torch

import gemmule
from gemmule import tokenize
from gemmule.model import weights


@pytest.fixture
def measured(run, capsys):
    """A function: the command's JSON. It must succeed."""

    def measured(*arguments):
        capsys.readouterr()
        assert run("evaluate", *arguments, "--json") == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return measured


@pytest.fixture(scope="module")
def models(finished):
    return finished / "run" / "models"


def by_hand(folder, texts, context) -> tuple[float, int]:
    """Loss in nats, and tokens: one window at a time, in float64."""
    model, words = gemmule.load(folder), gemmule.load_tokenizer(folder)
    loss, count = 0.0, 0
    for text in texts:
        ids = [*words.encode(text), words.eos_id]
        for start in range(0, len(ids), context):
            targets = torch.tensor(ids[start : start + context])
            inputs = torch.tensor([[words.bos_id, *ids[start : start + context][:-1]]])
            with torch.no_grad():
                logs = model(inputs)[0].double().log_softmax(-1)
            loss -= float(logs[torch.arange(len(targets)), targets].sum())
            count += len(targets)
    return loss, count


def test_documents_of_several_windows_by_hand(measured, models, texts, tmp_path):
    """One begins with a written <bos>, which is text: each window begins with one all the same (lm-eval#3333)."""
    documents = ["<bos>" + texts[0], texts[1], "O!", *texts[2:10]]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    found = measured(models / "student" / "final", tmp_path / "texts.jsonl")
    loss, count = by_hand(models / "student" / "final", documents, 16)
    assert (found["tokens"], found["documents"], found["units"], found["context"]) == (count, 11, "documents", 16)
    assert math.log(found["perplexity"]) * count == pytest.approx(loss, abs=1e-4 * count)
    size = sum(len(text.encode()) for text in documents)
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2) / size, rel=1e-5)
    low, high = found["perplexity_interval"]
    assert low < found["perplexity"] < high
    assert {"ece", "accuracy", "entropy", "calibration", "by_position"} <= found.keys()


@pytest.mark.parametrize("text", ["O", "To be, or not", "line\n" * 400], ids=["a letter", "short", "one document"])
def test_one_short_document(measured, models, tmp_path, text):
    (tmp_path / "text.txt").write_text(text)
    found = measured(models / "student" / "final", tmp_path / "text.txt", "--against", models / "control" / "final")
    assert found["documents"] == 1
    assert found["perplexity"] > 1
    assert found["against"]["p_value"] <= 1
    assert found["perplexity_interval"] is None or found["perplexity_interval"][0] <= found["perplexity"]


def test_a_model_against_itself(measured, models, tmp_path, texts):
    (tmp_path / "text.txt").write_text(texts[0])
    student = models / "student" / "final"
    against = measured(student, tmp_path / "text.txt", "--against", student)["against"]
    assert (against["ratio"], against["ratio_interval"], against["p_value"]) == (1, [1, 1], 1)
    assert against["kl"] == pytest.approx(0, abs=1e-6)
    assert (against["agreement"], against["acceptance"]) == (1, pytest.approx(1))


def test_a_teacher_against_its_student_and_the_other_way_round(measured, models, tmp_path, texts):
    (tmp_path / "text.txt").write_text("".join(texts))
    teacher, student = models / "teacher" / "final", models / "student" / "final"
    found = measured(teacher, tmp_path / "text.txt", "--against", student)
    back = measured(student, tmp_path / "text.txt", "--against", teacher)
    assert found["perplexity"] == back["against"]["perplexity"]
    assert found["against"]["ratio"] == pytest.approx(1 / back["against"]["ratio"])
    assert found["against"]["ratio"] == pytest.approx(found["perplexity"] / back["perplexity"])
    assert found["against"]["acceptance"] == pytest.approx(back["against"]["acceptance"], rel=1e-5)
    assert found["against"]["p_value"] == back["against"]["p_value"]


@pytest.fixture(scope="module")
def other(tmp_path_factory, texts):
    """A model with another tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    words = tokenize.train(texts, 290)
    shape = {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "head_dim": 8, "ffn_width": 32, "window": 8}
    config = gemmule.Gemma2Config(vocabulary_size=words.vocabulary_size, context_length=32, **shape)
    weights.save(gemmule.Gemma2(config).initialise(0), folder, words.control_ids)
    tokenize.save(words, folder)
    return folder


def test_models_of_two_tokenizers_are_compared_by_bits_per_byte(run, measured, models, other, texts, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("".join(texts))
    student = models / "student" / "final"
    against = measured(student, tmp_path / "text.txt", "--against", other)["against"]
    ours = measured(student, tmp_path / "text.txt")
    assert against["ratio_of"] == "bits_per_byte"
    assert against["ratio"] == pytest.approx(ours["bits_per_byte"] / against["bits_per_byte"])
    assert against["kl"] is against["agreement"] is against["acceptance"] is None
    assert "kl" in against["not_compared"]
    assert run("evaluate", student, tmp_path / "text.txt", "--against", other) == 0
    out = capsys.readouterr().out
    assert "Ratio of bits per byte" in out
    assert "kl, agreement, acceptance: the models have different tokenizers" in out.replace("\n", " ")


def test_rows_that_stand_for_no_token_are_left_out_of_the_comparison(measured, models, tmp_path, texts):
    student = models / "student" / "final"
    model = gemmule.load(student)
    rows = model.state_dict()["model.embed_tokens.weight"]
    config = model.config.to_huggingface() | {"vocab_size": len(rows) + 8}
    more = gemmule.Gemma2(gemmule.Gemma2Config.from_huggingface(config)).initialise(0)
    state = model.state_dict() | {"model.embed_tokens.weight": torch.cat([rows, torch.ones(8, rows.shape[1])])}
    more.load_state_dict(state)
    words = gemmule.load_tokenizer(student)
    weights.save(more, tmp_path / "more", words.control_ids)
    tokenize.save(words, tmp_path / "more")
    (tmp_path / "text.txt").write_text(texts[0])
    against = measured(student, tmp_path / "text.txt", "--against", tmp_path / "more")["against"]
    assert against["kl"] == pytest.approx(0, abs=1e-6)
    assert against["ratio"] < 1  # the others take probability


def test_a_gguf_is_a_model_too(run, measured, models, tmp_path, texts):
    student = models / "student" / "final"
    assert run("export", student, tmp_path / "student.gguf", "--format", "gguf") == 0
    (tmp_path / "text.txt").write_text(texts[0])
    found = measured(tmp_path / "student.gguf", tmp_path / "text.txt", "--against", student)
    assert found["against"]["ratio"] == pytest.approx(1, abs=1e-6)


def test_without_a_manifest_or_with_a_stride(measured, models, tmp_path, texts):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models / "student" / "final" / name, bare)
    (tmp_path / "text.txt").write_text(texts[0])
    whole, sliding = (measured(bare, tmp_path / "text.txt", *more) for more in ((), ("--stride", 4)))
    assert whole["tokens"] == sliding["tokens"]
    assert whole["perplexity"] != sliding["perplexity"]
    assert measured(bare, tmp_path / "text.txt", "--context", 8)["context"] == 8


def refused(run, capsys, *arguments) -> str:
    assert run("evaluate", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_wrong_requests_are_refused_before_a_model_is_loaded(run, capsys, models, tmp_path, monkeypatch, recipe):
    monkeypatch.setattr("gemmule.evaluate.any_model.load", lambda *_: pytest.fail("loaded"))
    student, text = models / "student" / "final", tmp_path / "text.txt"
    text.write_text("To be.")
    (tmp_path / "empty.txt").write_text("")
    for arguments, said in [
        ((student,), "nothing to measure: name a text"),
        ((student, tmp_path / "none.txt"), "none.txt: no such file"),
        ((student, tmp_path / "empty.txt"), "empty.txt: an empty file"),
        ((student, text, tmp_path / "empty.txt"), "empty.txt: an empty file"),
        ((tmp_path / "nothing", text), "nothing: no such folder"),
        ((models / "student", text), f"there is one in {student}"),
        ((models.parent, text), "there is one in"),
        ((student, text, "--against", tmp_path), "not a model: it has no config.json"),
        ((student, "--against", student, "--tasks", "gemmule:passkey"), "two models are compared on a text"),
        ((student, text, "--stride", "0"), "--stride 0: must be at least 1"),
        ((student, text, "--include", tmp_path), "--include: goes with --tasks"),
        ((student, text, "--tasks", "gemmule:passkeys"), "did you mean 'gemmule:passkey'"),
        ((student, text, "--tasks", ","), "--tasks: names no task"),
        ((student, text, "--set", "seed=1"), "--set: for a recipe, and this is a model"),
        ((recipe, "--json"), "--json: for a model, and this is a recipe"),
        ((text, text), "not a model folder, hub id or GGUF file"),
        ((recipe, text), "TEXT: for a model, and this is a recipe"),
        (("http://localhost:1/v1", text), "provides only its top k"),
    ]:
        assert said in refused(run, capsys, *arguments)


def test_records_without_a_text(run, capsys, models, tmp_path):
    student = models / "student" / "final"
    (tmp_path / "asked.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    said = refused(run, capsys, student, tmp_path / "asked.jsonl")
    assert "asked.jsonl, line 1: has no field 'text'" in said
    assert "say which one holds the text by --field" in said
    assert "data." not in said


def test_a_text_of_white_space_or_a_window_too_long(run, capsys, models, tmp_path):
    (tmp_path / "white.txt").write_text(" \n\t\n")
    student = models / "student" / "final"
    assert "white.txt: no text there but white space" in refused(run, capsys, student, tmp_path / "white.txt")
    (tmp_path / "text.txt").write_text("To be.")
    said = refused(run, capsys, student, tmp_path / "text.txt", "--context", "17")
    assert "--context 17" in said
    assert "reads at most 16 tokens" in said


def test_a_task_that_does_not_suit_the_model_costs_nothing_else(run, measured, models, capsys, tmp_path, texts):
    student = models / "student" / "final"
    (tmp_path / "text.txt").write_text(texts[0])
    found = measured(student, tmp_path / "text.txt", "--tasks", "gemmule:passkey,gemmule:diversity")
    assert "context" in found["tasks"]["gemmule:passkey"]["not_measured"]
    assert found["tasks"]["gemmule:diversity"]["count"]
    assert found["perplexity"] > 1
    assert "context" in refused(run, capsys, student, "--tasks", "gemmule:passkey")


def test_questions_and_answers_are_asked_and_are_no_text_unless_a_field_is_named(measured, models, tmp_path):
    record = {"question": "1 + 1?", "answer": "#### 2"}
    (tmp_path / "asked.jsonl").write_text(json.dumps(record) + "\n")
    asked = models / "student" / "final", tmp_path / "asked.jsonl", "--tasks", "gemmule:answers"
    found = measured(*asked)
    assert "perplexity" not in found
    assert found["tasks"]["gemmule:answers"]["count"] == 1
    assert measured(*asked, "--field", "answer")["documents"] == 1
