"""lm-evaluation-harness's tasks: the numbers of its own `hf` on the same checkpoint, on tasks made here.

All in one process: lm-eval takes seconds to import.
"""

import json
import math
import random
import sys

import datasets
import lm_eval.utils
import numpy as np
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from made_text import make_text
from random_models import perturb, small_config
from transformers import AutoModelForCausalLM

from gemmule.base import chunks
from gemmule.base.errors import RequestError, WorkError
from gemmule.evaluate import harness
from gemmule.evaluate.harness.lm import TeacherLM, Writing, writing
from gemmule.losses.targets import DenseTeacher, SparseDistributions
from gemmule.model import weights
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.huggingface import HuggingFaceTeacher
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.tokenizer import load_tokenizer, save
from gemmule.tokenize.training import train

CONTEXT = 48  # tokens of a window of a long document
ROOM = 400  # for every question here
MULTIPLE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
"""
ROLLING = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: byte_perplexity}}, {{metric: bits_per_byte}}]
"""
WRITTEN = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n", " king"], max_gen_toks: 12, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
filter_list:
  - name: strict-match
    filter: [{{function: take_first}}]
"""
LAST = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: loglikelihood
test_split: test
num_fewshot: 2
fewshot_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: " {{{{choices[0]}}}}"
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder as gemmule writes it."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train([make_text(seed, 300) for seed in range(6)], 320)
    model = perturb(Gemma2(small_config(vocabulary_size=tokenizer.vocabulary_size, context_length=CONTEXT)))
    weights.save(model, folder, tokenizer.control_ids)
    save(tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def model(folder):
    return Gemma2Teacher(weights.load(folder))


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory):
    """Nothing from the hub, and datasets' cache not in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DISABLE_MULTIPROC", "1")
        patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # starts pip, which takes seconds
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def tasks(tmp_path_factory, model, tokenizer):
    """A folder of tasks of each of lm-eval's kinds, and a group."""
    folder = tmp_path_factory.mktemp("tasks")
    draw = random.Random(0)
    questions, prompts = [], []
    for number in range(14):
        words = make_text(number, 200 if number % 5 == 4 else 30).split()
        context = " ".join(words) + (" " if number % 3 == 0 else "")
        choices = [" the king", " the kingdom", " a", " the", "", " queen and fool"]
        questions.append({"question": context, "choices": choices[:4] + choices[5:], "answer": draw.randrange(5)})
        prompts.append({"question": context, "answer": ""})
    questions += [{"question": "", "choices": ["the", "king of the"], "answer": 0}]
    documents = [{"text": make_text(100 + number, 20 if number == 0 else 60 * number)} for number in range(5)]
    how = {"until": ["\n", " king"], "max_gen_toks": 12}
    answers = TeacherLM(model, tokenizer, ROOM).generate_until([instance(row["question"], how) for row in prompts])
    for number, row in enumerate(prompts):
        row["answer"] = answers[number] if number % 3 else "nothing like it"
    data = {"questions": questions, "documents": documents, "prompts": prompts, "short": documents[:1]}
    for name, rows in data.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, form, data in (
        ("made_choice", MULTIPLE, "questions"),
        ("made_rolling", ROLLING, "documents"),
        ("made_short", ROLLING, "short"),
        ("made_written", WRITTEN, "prompts"),
        ("made_last", LAST, "questions"),
    ):
        (folder / f"{name}.yaml").write_text(form.format(name=name, data=folder / f"{data}.jsonl"))
    (folder / "group.yaml").write_text(
        "group: made_group\ntask: [made_choice, made_written]\n"
        "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    return folder


def instance(*arguments) -> Instance:
    return Instance("", {}, arguments, 0)


@pytest.fixture(scope="module")
def theirs(folder, tasks):
    """The numbers of lm-eval's own `hf`."""

    def run(names, context, **settings):
        side = HFLM(str(folder), device="cpu", dtype="float32", batch_size=4, max_length=context, **settings)
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        results = simple_evaluate(side, tasks=names, task_manager=manager, log_samples=False)["results"]
        return {
            name: {key: None if value == "N/A" else value for key, value in metrics.items() if key not in NAMES}
            for name, metrics in results.items()
        }

    return run


NAMES = ("name", "alias")


class Logged(Gemma2Teacher):
    """Keeps the ids that it reads, without padding."""

    def __init__(self, model):
        super().__init__(model)
        self.read = []

    def expect(self, ids, documents=None):
        self.read += [row[: len(row) - row[::-1].index(next(filter(None, row[::-1])))] for row in ids.tolist()]
        return super().expect(ids, documents)

    def continuations(self, prompts, *arguments, **settings):
        self.read += prompts
        return super().continuations(prompts, *arguments, **settings)


class Wholly(Teacher):
    """Gives its logits whole, as a model does whose head is no plain product."""

    def __init__(self, model):
        self.model, self.vocabulary_size, self.device = model, model.vocabulary_size, model.device
        self.most = 0

    def expect(self, ids, documents=None):
        self.most = max(self.most, ids.numel())
        return DenseTeacher(self.model.expect(ids).logits(), None)


def is_close(metrics, reference):
    assert metrics.keys() == reference.keys()
    for key, value in metrics.items():
        assert value == (None if reference[key] is None else pytest.approx(reference[key], rel=1e-5, abs=1e-5)), key


def by_hand(folder, windows) -> float:
    """The log-probability of targets after ids, by transformers, a window at a time."""
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total = 0.0
    with torch.no_grad():
        for ids, targets in windows:
            logs = torch.log_softmax(theirs(torch.tensor([ids])).logits[0].double(), -1)[-len(targets) :]
            total += float(logs.gather(1, torch.tensor(targets)[:, None]).sum())
    return total


def test_the_numbers_of_hf(model, tokenizer, tasks, theirs, capsys):
    """Of a group, of choices with their context read once, after examples, and of answers."""
    names = ["made_group", "made_last"]
    before = random.getstate(), torch.random.get_rng_state().tolist()
    ours = harness.run_tasks(model, tokenizer, ROOM, names, tasks)
    assert (random.getstate(), torch.random.get_rng_state().tolist()) == before
    out, told = capsys.readouterr()
    assert out == ""
    assert {line.split(":")[0] for line in told.splitlines()} == {"tasks"}  # our meters' lines alone
    reference = theirs(names, ROOM)
    assert ours.keys() == {"made_group", "made_last", "made_choice", "made_written"}
    for name, metrics in ours.items():
        is_close(metrics, reference[name])
    assert 0 < ours["made_written"]["exact_match,strict-match"] < 1
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours


def test_the_likelihoods_of_hf(folder, model, tokenizer, tasks):
    rows = [json.loads(line) for line in (tasks / "questions.jsonl").read_text().splitlines()]
    asked = [instance(row["question"], choice) for row in rows for choice in row["choices"]]
    reference = HFLM(str(folder), device="cpu", dtype="float32", batch_size=4, max_length=ROOM).loglikelihood(asked)
    for side in (model, HuggingFaceTeacher(AutoModelForCausalLM.from_pretrained(folder)), Wholly(model)):
        found = TeacherLM(side, tokenizer, ROOM).loglikelihood(asked)
        assert [score for score, _ in found] == pytest.approx([score for score, _ in reference], abs=1e-4)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in reference]


def test_long_documents_as_hf_but_with_bos_in_every_window(folder, model, tokenizer, tasks, theirs, monkeypatch):
    ours = harness.run_tasks(model, tokenizer, CONTEXT, ["made_rolling", "made_short"], tasks)
    assert ours["made_rolling"]["word_perplexity_stderr,none"] is None  # "N/A" there
    # by default hf puts <bos> in front twice and counts the second (lm-eval#3333)
    short = theirs(["made_short"], CONTEXT, add_bos_token=False)["made_short"]
    is_close(ours["made_short"], short)
    plain = lm_eval.utils.get_rolling_token_windows

    def with_bos(token_list, prefix_token, max_seq_len, context_len):
        for ids, targets in plain(token_list, prefix_token, max_seq_len, context_len):
            yield [prefix_token, *ids[1:]], targets

    monkeypatch.setattr(lm_eval.utils, "get_rolling_token_windows", with_bos)
    long = theirs(["made_rolling"], CONTEXT, add_bos_token=False)["made_rolling"]
    is_close(ours["made_rolling"], long)


@pytest.mark.parametrize("written", ["", "<bos>", "<bos><bos> and"])
def test_one_bos_in_every_window(folder, model, tokenizer, written):
    """lm-eval#2382: only the first window had one; #3333: it had two."""
    text = tokenizer.decode(tokenizer.encode(written + make_text(7, 100))[: 2 * CONTEXT + 20]).rstrip()
    ids = tokenizer.encode(text)
    logged = Logged(model.model)
    asked = TeacherLM(logged, tokenizer, CONTEXT)
    logged.read.clear()
    (found,) = asked.loglikelihood_rolling([instance(text)])
    bos = tokenizer.bos_id
    windows = [
        ([bos, *ids[: CONTEXT - 1]], ids[:CONTEXT]),
        ([bos, *ids[CONTEXT : 2 * CONTEXT - 1]], ids[CONTEXT : 2 * CONTEXT]),
        ([bos, *ids[-CONTEXT:-1]], ids[2 * CONTEXT :]),
    ]
    assert sorted(logged.read) == sorted(ids for ids, _ in windows)
    assert [row.count(bos) for row in logged.read] == [1, 1, 1]
    assert found == pytest.approx(by_hand(folder, windows), abs=1e-4)

    logged.read.clear()  # a question that is too long, and a prompt
    (found, _), (alone, _) = asked.loglikelihood([instance(text, " the queen"), instance("", text[:30])])
    answer = tokenizer.encode(text + " the queen")[len(ids) :]
    first = [bos, *(ids + answer)[-CONTEXT:-1]]
    assert found == pytest.approx(by_hand(folder, [(first, answer)]), abs=1e-4)
    start = tokenizer.encode(text[:30])
    assert alone == pytest.approx(by_hand(folder, [([bos, *start[:-1]], start)]), abs=1e-4)
    asked.generate_until([instance(text, {"max_gen_toks": 8}), instance("", {"max_gen_toks": 8})])
    assert logged.read == [first, [bos, *start[:-1]], [bos, *ids[-(CONTEXT - 9) :]], [bos]]


def test_a_text_is_read_once_and_no_more_logits_made_than_a_chunk(model, tokenizer, monkeypatch):
    logged = Logged(model.model)
    asked = TeacherLM(logged, tokenizer, ROOM)
    logged.read.clear()
    pairs = [instance("the king said", choice) for choice in (" a", " the", " the queen", " the queen loved", "")]
    found = asked.loglikelihood(pairs)
    assert len(logged.read) == 1
    assert found[-1] == (0.0, True)
    monkeypatch.setattr(chunks, "CHUNK", 60 * tokenizer.vocabulary_size)
    wholly = Wholly(model)
    again = TeacherLM(wholly, tokenizer, ROOM).loglikelihood([instance("the king", " and") for _ in range(99)] + pairs)
    assert [score for score, _ in again[-5:]] == pytest.approx([score for score, _ in found], abs=1e-5)
    texts = [instance(make_text(seed, 12)) for seed in range(30)]
    many = TeacherLM(wholly, tokenizer, ROOM).loglikelihood_rolling(texts)
    assert 40 < wholly.most <= 60
    assert many == pytest.approx(TeacherLM(model, tokenizer, ROOM).loglikelihood_rolling(texts), abs=1e-4)


def test_an_answer_ends_before_the_text_that_its_task_names(folder, model, tokenizer, capsys):
    logged = Logged(model.model)
    asked = TeacherLM(logged, tokenizer, ROOM)
    (free,) = asked.generate_until([instance("the king", {"max_gen_toks": 30})])
    stop = free[len(free) // 2 :][:3]
    for side in (logged, Wholly(model), HuggingFaceTeacher(AutoModelForCausalLM.from_pretrained(folder))):
        cut, none = TeacherLM(side, tokenizer, ROOM).generate_until(
            [instance("the king", {"until": stop, "max_gen_toks": 30}), instance("the king", {"max_gen_toks": 30})]
        )
        assert cut == free.split(stop)[0]
        assert none == free
    capsys.readouterr()
    asked = TeacherLM(logged, tokenizer, 10)
    asked.generate_until([instance(make_text(1, 60), {}), instance("the", {})])
    assert [len(row) for row in logged.read[-2:]] == [5, 1 + len(tokenizer.encode("the"))]
    assert "up to 256 new tokens" in capsys.readouterr().err


def test_answers_are_greedy():
    assert writing({}) == Writing((), 256)
    assert writing({"until": ["a", ""], "max_tokens": 3, "do_sample": False, "temperature": 0.7, "top_p": 0.9}) == (
        Writing(("a",), 3)
    )
    for settings in ({"do_sample": True}, {"temperature": 0.2}, {"num_beams": 4}, {"guidance": 1}):
        with pytest.raises(RequestError, match=next(iter(settings))):
            writing(settings)


def test_what_a_model_cannot_be_asked(model, tokenizer):
    with pytest.raises(RequestError, match="continuation of"):
        TeacherLM(model, tokenizer, 8).loglikelihood([instance("the", make_text(0, 60))])

    class Top(Wholly):
        def expect(self, ids, documents=None):
            return SparseDistributions(torch.tensor([0, 1]), torch.tensor([3]), torch.tensor([0.5]), rest=True)

    with pytest.raises(RequestError, match="top k"):
        TeacherLM(Top(model), tokenizer, 8)


def test_a_tokenizer_without_bos_as_hf(folder, model, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "bos_id", None)
    asked = [instance("the king", " said"), instance("", "the queen")]
    found = TeacherLM(model, tokenizer, ROOM).loglikelihood(asked)
    eos, the, queen = tokenizer.eos_id, tokenizer.encode("the king said"), tokenizer.encode("the queen")
    start = len(tokenizer.encode("the king"))
    windows = [(the[:-1], the[start:]), ([eos, *queen[:-1]], queen)]
    assert [score for score, _ in found] == pytest.approx([by_hand(folder, [one]) for one in windows], abs=1e-4)


@pytest.fixture
def few(monkeypatch):
    """lm-eval's own tasks, which take many seconds to look through, are left aside."""
    real = harness._manager
    monkeypatch.setattr(harness, "_manager", lambda include, state, defaults: real(include, state, defaults=False))


@pytest.mark.usefixtures("few")
def test_a_task_that_is_not_there(tasks, tmp_path):
    with pytest.raises(RequestError, match=r"made_chioce: no such task .*near: made_choice.*--include"):
        harness.check_tasks(["made_chioce"], tasks)
    with pytest.raises(RequestError, match="made_chioce"):
        harness.check_tasks(["made_choice", "made_chioce"], tasks)
    harness.check_tasks(["made_*"], tasks)
    with pytest.raises(RequestError, match="no such folder"):
        harness.check_tasks(["made_choice"], tmp_path / "none")
    with pytest.raises(RequestError, match="no task there"):
        harness.check_tasks(["made_choice"], tmp_path)
    (tmp_path / "broken.yaml").write_text("task: [a\nb: c")
    with pytest.raises(RequestError, match=r"broken.yaml, line 2: can't be read as YAML"):
        harness.check_tasks(["made_choice"], tmp_path)


CODE = {
    "!function": "process_docs: !function code.run",
    "Python runs": "a: !!python/name:os.system",
    "another": "include: ../another/other",
    "hub": "metric_list: [{metric: ./code.py}]",
    "hf_evaluate": "metric_list: [{metric: acc, hf_evaluate: true}]",
}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", CODE)
def test_no_code_of_a_folder_runs(kind, tasks, tmp_path):
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "other").write_text("process_docs: !function code.run")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(docs): return docs")
    task = (tasks / "made_choice.yaml").read_text()
    (folder / "it.yaml").write_text(task + CODE[kind] + "\n")
    with pytest.raises(RequestError, match=r"(it.yaml|other), line \d+: .*--allow-code"):
        harness.check_tasks(["made_choice"], folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("few")
def test_what_the_model_writes_is_not_run(tasks, tmp_path):
    (tmp_path / "it.yaml").write_text((tasks / "made_written.yaml").read_text() + "unsafe_code: true\n")
    (tmp_path / "all.yaml").write_text("group: both\ntask: [made_written]\n")
    with pytest.raises(RequestError, match="made_written: runs code that the model writes"):
        harness.check_tasks(["made_written"], tmp_path)
    with pytest.raises(RequestError, match="made_written: runs code that the model writes"):
        harness.run_tasks(None, None, ROOM, ["both"], tmp_path)


def test_code_runs_where_it_is_allowed(model, tokenizer, tasks, tmp_path):
    (tmp_path / "code.py").write_text("def run(docs): return docs.select([0, 1, 2])")
    (tmp_path / "it.yaml").write_text((tasks / "made_choice.yaml").read_text() + "process_docs: !function code.run\n")
    found = harness.run_tasks(model, tokenizer, ROOM, ["made_choice"], tmp_path, allow_code=True)
    assert found["made_choice"]["sample_len"] == 3
    assert harness.run_tasks(model, tokenizer, ROOM, ["made_choice"], tasks, limit=2)["made_choice"]["sample_len"] == 2


def test_templates_run_no_code_and_what_fails_is_named(model, tokenizer, tasks, tmp_path):
    task = (tasks / "made_written.yaml").read_text()
    for name, old, new in (
        ("template", "{{question}}", "{{ question.__class__.__mro__ }}"),
        ("lacking", "{{question}}", "{{ nothing }}"),
        ("gone", "prompts.jsonl", "gone.jsonl"),
        ("sampled", "do_sample: false", "do_sample: true"),
    ):
        assert old in task
        (tmp_path / f"{name}.yaml").write_text(task.replace(old, new).replace("made_written", name))
    for name, word in (
        ("template", "unsafe"),
        ("lacking", "nothing"),
        ("gone", "gone.jsonl"),
        ("sampled", "do_sample"),
    ):
        with pytest.raises((RequestError, WorkError), match=f"{name}: .*{word}"):
            harness.run_tasks(model, tokenizer, ROOM, [name], tmp_path)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(RequestError, match=r"gemmule\[eval\]"):
        harness.check_tasks(["arc_easy"])


def test_numbers_are_strict_json():
    given = {"a": math.nan, "b": "N/A", "c": [np.float32(0.5), np.int64(3)], "d": math.inf, "e": True}
    assert harness._plain(given) == {"a": None, "b": None, "c": [0.5, 3], "d": None, "e": True}
