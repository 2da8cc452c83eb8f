"""The recipe: what is filled in, what is refused, and in which words."""

import copy
import datetime
import math
import re
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest

from gemmule import recipe
from gemmule.base.errors import RequestError
from gemmule.recipe import refining, schema
from gemmule.refine.sources import resolve

FAMILY = {
    "name": "tiny",
    "data": {"sources": ["*.txt"]},
    "tokenizer": {"vocabulary_size": 300},
    "models": {
        "teacher": {"architecture": {"layers": 4, "width": 192}, "train": {"tokens": "3M"}},
        "student": {
            "architecture": {"layers": 3, "width": 96},
            "learn_from": "teacher",
            "train": {"tokens": "1.5M"},
        },
        "control": {"like": "student", "learn_from": "none"},
    },
}


def changed(**overrides: object) -> dict:
    """FAMILY with dotted keys (written with __) replaced."""
    raw = copy.deepcopy(FAMILY)
    for key, value in overrides.items():
        *path, last = key.split("__")
        section = raw
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return raw


@pytest.mark.parametrize(
    ("written", "meant"),
    [("4M", 4_000_000), ("500k", 500_000), ("1.5M", 1_500_000), ("2B", 2 * 10**9), ("1T", 10**12), (12, 12), ("7", 7)],
)
def test_counts_take_decimal_suffixes(written, meant):
    parsed = recipe.parse(changed(models__teacher__train__tokens=written))
    assert parsed.models["teacher"].train.tokens == meant


@pytest.mark.parametrize("written", ["4m", "M", "-3", "1.5", "4 K", "", True, 1.5, 0])
def test_counts_refuse_what_is_none(written):
    with pytest.raises(RequestError, match=r"models\.teacher\.train\.tokens"):
        recipe.parse(changed(models__teacher__train__tokens=written))


@pytest.mark.parametrize(
    ("width", "train", "optimizer", "rate"),
    [
        (192, {}, "muon", 0.013),  # 1.1e-2 * (256 / 192)^0.5, two digits
        (192, {"optimizer": "adamw"}, "adamw", 0.0053),  # 4e-3 * 256 / 192
        (32, {"optimizer": "adamw"}, "adamw", 0.016),
        (192, {"batch_tokens": 384}, "muon", 0.013),
        (192, {"batch_tokens": 256}, "adamw", 0.0053),
        (768, {"tokens": "100k"}, "adamw", 0.0013),  # in batches of 512
        (768, {"tokens": "3M"}, "muon", 0.0064),
    ],
)
def test_the_default_optimizer_and_its_rate(width, train, optimizer, rate):
    wished = {"tokens": "3M"} | train
    parsed = recipe.parse(changed(models__teacher__architecture={"layers": 2, "width": width},
                                  models__teacher__train=wished)).models["teacher"].train  # fmt: skip
    assert (parsed.optimizer, parsed.learning_rate) == (optimizer, rate)


def test_a_model_that_starts_from_trained_weights_keeps_more_of_them():
    """A quarter of Muon's rate, 0.013 at width 192."""
    started = {"start_from": "teacher", "train": {"tokens": "1M"}}
    parsed = recipe.parse(changed(models__again=started)).models["again"].train
    assert (parsed.optimizer, parsed.learning_rate) == ("muon", 0.0032)
    by_adamw = started | {"train": {"tokens": "1M", "optimizer": "adamw"}}
    assert recipe.parse(changed(models__again=by_adamw)).models["again"].train.learning_rate == 0.0053


@pytest.mark.parametrize(
    ("tokens", "batch"), [("100k", 512), ("400k", 1024), ("3M", 4096), ("100M", 32768), ("10B", 2**19)]
)
def test_batches_follow_from_the_tokens(tokens, batch):
    """0.9 tokens^0.571, the nearest power of two."""
    parsed = recipe.parse(changed(models__teacher__train={"tokens": tokens})).models["teacher"].train
    assert parsed.batch_tokens == batch


def test_defaults_follow_from_width_and_sequence_length():
    parsed = recipe.parse(changed(data__sequence_length=512))
    shape = parsed.models["student"].architecture
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.ffn_width, shape.window) == (4, 2, 24, 384, 256)
    assert (shape.attention_cap, shape.final_cap) == (50.0, 30.0)
    assert parsed.models["student"].distill.loss == "forward_kl"
    assert parsed.models["student"].distill.targets is None


@pytest.mark.parametrize("width", range(1, 300))
def test_every_width_gets_a_possible_shape(width):
    shape = recipe.parse(changed(models__teacher__architecture={"layers": 1, "width": width})).models["teacher"]
    assert width % shape.architecture.heads == 0
    assert shape.architecture.heads % shape.architecture.kv_heads == 0
    assert shape.architecture.head_dim % 2 == 0


def test_like_copies_every_key_and_the_given_ones_override_deep():
    raw = changed(
        models__student__distill={"temperature": 2.0, "targets": {"bytes_per_token": 20}},
        models__other={"like": "student", "distill": {"targets": {"bytes_per_token": 40}}, "train": {"clip": 0.5}},
    )
    other = recipe.parse(raw).models["other"]
    assert other.distill.temperature == 2.0
    assert other.distill.targets.bytes_per_token == 40
    assert (other.train.tokens, other.train.clip) == (1_500_000, 0.5)
    assert other.learn_from == "teacher"


def test_student_and_control_differ_in_their_teacher_alone():
    parsed = recipe.parse(FAMILY)
    student, control = parsed.models["student"], parsed.models["control"]
    assert control.architecture == student.architecture
    assert control.train == student.train
    assert (student.learn_from, control.learn_from) == ("teacher", "none")


def test_models_come_after_those_that_they_need():
    raw = changed()
    raw["models"] = {name: raw["models"][name] for name in ("control", "student", "teacher")}
    raw["models"]["grandchild"] = {**raw["models"]["student"], "learn_from": "student", "start_from": "control"}
    order = recipe.parse(raw).order()
    assert order.index("teacher") < order.index("student") < order.index("grandchild")
    assert order.index("control") < order.index("grandchild")


def test_overrides_are_toml_or_bare_words(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "x"\n[data]\nsources = ["a"]\n[tokenizer]\nvocabulary_size = 300\n'
        "[models.m]\narchitecture = { layers = 1, width = 8 }\ntrain = { tokens = 5 }\n"
    )
    parsed = recipe.load(
        path, ["models.m.train.tokens=500k", "data.sources=['b', 'c']", "seed=3", "machine.compile=false"]
    )
    assert parsed.models["m"].train.tokens == 500_000
    assert parsed.data.sources == ["b", "c"]
    assert parsed.seed == 3
    assert parsed.machine.compile is False


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"models__student__train__tokns": 5}, ["models.student.train.tokns", "did you mean tokens", "learning_rate"]),
        ({"dta": {}}, ["dta", "did you mean data", "tokenizer"]),
        (
            {"models__student__learn_from": "techer"},
            ["models.student.learn_from", "'techer'", "did you mean 'teacher'"],
        ),
        ({"models__student__learn_from": "student"}, ["models.student.learn_from", "itself"]),
        ({"models__student__learn_from": {"teacher": 0.6}}, ["models.student", "sum to 0.6", "sum to 1"]),
        ({"models__student__learn_from": {"techer": 1.0}}, ["models.student.learn_from", "did you mean 'teacher'"]),
        ({"models__student__learn_from": {"teacher": -1.0}}, ["models.student.learn_from"]),
        ({"models__teacher__learn_from": "student"}, ["cycle", "teacher -> student -> teacher"]),
        ({"models__control__like": "studnt"}, ["models.control.like", "studnt", "did you mean 'student'"]),
        ({"models__student__like": "control"}, ["cycle", "student -> control -> student"]),
        ({"models__student__architecture__heads": 5}, ["models.student.architecture", "width = 96", "heads = 5"]),
        ({"models__student__architecture__kv_heads": 3}, ["models.student.architecture", "kv_heads = 3"]),
        ({"models__student__architecture__head_dim": 7}, ["models.student.architecture", "head_dim = 7"]),
        (
            {"models__student__architecture__layers": "2"},
            ["models.student.architecture.layers", "'2'", "a whole number from 1 to"],
        ),
        ({"models__none": {"like": "student"}}, ["models.none", "reserved"]),
        ({"models__a/b": {"like": "student"}}, ["models.a/b", "not a name"]),
        ({"tokenizer__vocabulary_size": 261}, ["tokenizer.vocabulary_size", "261", "262"]),
        ({"tokenizer__from": "x"}, ["tokenizer", "either vocabulary_size"]),
        ({"data__validation_fraction": 0.0}, ["data.validation_fraction", "above 0 and below 1"]),
        ({"data__sources": []}, ["data.sources = []", "a list of at least one"]),
        ({"models__student__distill": {"loss": "reverse"}}, ["models.student.distill.loss", "reverse", "forward_kl"]),
        ({"models__outside": {"from": "x", "train": {"tokens": 5}}}, ["models.outside", "remove train"]),
        ({"models__empty": {}}, ["models.empty", "train"]),
        ({"models__student__train__learning_rate": float("nan")}, ["models.student.train.learning_rate"]),
        ({"name": "../x"}, ["name", "../x"]),
        ({"name": "con"}, ["name = 'con'", "Windows"]),
        ({"models__Student": {"like": "student"}}, ["models.Student", "models.student", "only in case"]),
        ({"models__nul.txt": {"like": "student"}}, ["models.nul.txt", "Windows"]),
        ({"models__x.": {"like": "student"}}, ["models.x.", "Windows"]),
        ({"models__student": 5}, ["models.student = 5", "section", "[models.student]"]),
        ({"models__student\x1b[31m": {}}, ["models.student\\x1b[31m", "not a name"]),
        ({"data__sources": ["a\0b"]}, ["data.sources[0]", "control character"]),
        ({"data__sources": [{"path": "a", "wieght": 2}]}, ["data.sources[0].wieght: unknown key", "mean weight?"]),
        (
            {"data__sources": ["a", {"path": "b", "weight": 0}]},
            ["data.sources[1].weight = 0: must be a number, above 0"],
        ),
        ({"data__sources": [{"weight": 2}]}, ["data.sources[0].path: missing"]),
        ({"models__outside": {"from": ""}}, ["models.outside.from", "not empty"]),
        ({"evaluate__prompts": ["a\x1b[0m"]}, ["evaluate.prompts[0]", "control character", "\\x1b"]),
        ({"evaluate__prompts": ["x" * 70000]}, ["evaluate.prompts[0]", "70,000", "65,536 at most"]),
        ({"evaluate__sample_tokens": 10**9}, ["evaluate.sample_tokens = 1000000000", "from 1 to 65,536"]),
        ({"evaluate__temperature": 1e-300}, ["evaluate.temperature = 1e-300", "0, or a number from 0.0001"]),
        ({"data__sequence_length": 10_000_000}, ["data.sequence_length = 10000000", "from 2 to 1,048,576"]),
        ({"models__student__train__tokens": "999999999999T"}, ["student.train.tokens", "from 1 to 10^15"]),
        ({"models__student__train__tokens": "9" * 400}, ["student.train.tokens", "(400 characters)"]),
        ({"tokenizer__vocabulary_size": 10**9}, ["tokenizer.vocabulary_size", "from 262 to 1,000,000"]),
        ({"seed": 10**5000}, ["seed = a number of 5001 digits", "2^63 - 1"]),
    ],
)
def test_what_is_refused_is_named(overrides, words):
    with pytest.raises(RequestError) as refusal:
        recipe.parse(changed(**overrides), "my.toml")
    message = str(refusal.value)
    for word in words:
        assert word in message
    assert len(message.splitlines()) <= 2


def test_targets_of_many_teachers_need_a_folder():
    shares = {f"{'long' * 20}-{number}": 0.25 for number in range(4)}
    raw = changed(models__student__learn_from=shares, models__student__distill={"targets": {}})
    raw["models"] |= dict.fromkeys(shares, raw["models"]["teacher"])
    with pytest.raises(RequestError, match="longer than 200 characters"):
        recipe.parse(raw)


@pytest.mark.parametrize(
    ("overrides", "alone"),
    [
        ({"models__student__architecture": {"layers": 3, "width": "96"}}, "architecture.width = '96'"),  # no heads
        ({"models__student__architecture": {"layers": 3, "width": 10**30}}, "architecture.width = 1000000"),
        ({"data__sequence_length": "long"}, "data.sequence_length = 'long'"),  # nor a window
        ({"models__student__train": {"tokns": 5}}, "models.student.train.tokns: unknown key; did you mean tokens?"),
        ({"models__student__learn_from": {"teacher": 2.0}}, "models.student.learn_from = {'teacher': 2.0}: must be a"),
        ({"models__student__learn_from": ["teacher"]}, "models.student.learn_from = ['teacher']: must be a model's"),
        ({"models__student__distill": {"next_token_weight": [0.5]}}, "next_token_weight = [0.5]: must be a number, at"),
        ({"models__student__from": "x"}, "models.student: a model with from is not trained: remove architecture"),
        ({"models__student__distill": {"targets": {"kind": ["x"]}}}, "targets.kind = ['x']: must be \"threshold\","),
    ],
)
def test_a_mistake_is_said_once_and_not_what_follows_from_it(overrides, alone):
    with pytest.raises(RequestError) as refusal:
        recipe.parse(changed(**overrides), "my.toml")
    (line,) = str(refusal.value).splitlines()
    assert alone in line
    assert "more)" not in line


SECTIONS = {
    (): schema.Recipe,
    ("data",): schema.Data,
    ("refine",): recipe.Refine,
    ("refine", "quality"): recipe.Quality,
    ("refine", "quality", "gopher"): refining.Gopher,
    ("refine", "quality", "repetition"): refining.Repetition,
    ("refine", "quality", "c4"): refining.C4,
    ("refine", "quality", "fineweb"): refining.FineWeb,
    ("refine", "quality", "boilerplate"): refining.Boilerplate,
    ("refine", "duplicates"): recipe.Duplicates,
    ("tokenizer",): schema.TokenizerSection,
    ("models", "student"): schema.Model,
    ("models", "student", "architecture"): schema.Architecture,
    ("models", "student", "train"): schema.Train,
    ("models", "student", "distill"): schema.Distill,
    ("models", "student", "distill", "targets"): schema.Targets,
    ("evaluate",): schema.Evaluate,
    ("machine",): schema.Machine,
}
KEYS = [(*place, field.alias or name) for place, section in SECTIONS.items()
        for name, field in section.model_fields.items()]  # fmt: skip
WRONG = [
    "xxx",
    "",
    -1,
    10**30,
    1.5,
    True,
    None,
    [],
    [1, 2, 3],
    {},
    {"zzz": 1},
    datetime.date(2020, 1, 1),
    math.nan,
    1e300,
]
PYDANTICS = re.compile(r"Input|should|valid |greater|less than|pattern|instance|finite|Unable|Extra|Field|pydantic")


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_complaint_is_in_our_words(key):
    """Whatever stands at a key, what is said names the key and the value, and is one line or two."""
    refused = 0
    for value in WRONG:
        try:
            recipe.parse(changed(**{"__".join(key): value}), "my.toml")
        except RequestError as error:
            message, refused = str(error), refused + 1
            assert not PYDANTICS.search(message), message
            assert len(message.splitlines()) <= 2
            assert all(len(line) < 500 and line.startswith("my.toml: ") for line in message.splitlines()), message
            assert ".".join(key) in message or ".".join(key[:-1]) in message, message
    assert refused > 5


def numbers(annotation, narrowed=()):
    """The constraints of each number that a type can be."""
    if annotation in (int, float):
        yield [each for entry in narrowed for each in getattr(entry, "metadata", [entry])]
    for entry in get_args(annotation):
        more = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
        yield from numbers(entry, (*narrowed, *more) if get_origin(annotation) is not list else more)


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_number_has_bounds(key):
    section = SECTIONS[key[:-1]]
    field = next(field for name, field in section.model_fields.items() if (field.alias or name) == key[-1])
    for narrowed in numbers(field.annotation, field.metadata):
        assert any(getattr(each, name, None) is not None for each in narrowed for name in ("ge", "gt"))
        assert any(getattr(each, name, None) is not None for each in narrowed for name in ("le", "lt"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\ufeffname = 'x'".encode("utf-16-le"), "UTF-16LE"),
        ("\ufeffname = 'x'".encode("utf-16-be"), "UTF-16BE"),
        ("name = 'x'\n".encode("utf-16-le"), "UTF-16LE"),
        ("\ufeffname = 'x'".encode("utf-32"), "UTF-32LE"),
        (b"PK\x03\x04 ", "zip"),
        ('name = "x"\nfield = "caf\xe9"'.encode("latin-1"), "not UTF-8 at line 2 (byte E9)"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a." * 5000 + b"a = 1", "too deep"),
        (b"a = " + b"9" * 5000, "thousands of digits"),
        (b"# " + b"x" * 2_100_000, "larger than 2 MB"),
        (b"", "missing"),
    ],
    ids=["utf-16-le", "utf-16-be", "utf-16 without a mark", "utf-32", "zip", "latin-1", "brackets", "dots", "digits",
         "large", "empty"],
)  # fmt: skip
def test_files_that_are_no_recipe(tmp_path, content, said):
    path = tmp_path / "odd.toml"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"odd\.toml: ") as refusal:
        recipe.load(path)
    assert said in str(refusal.value)


def test_a_byte_order_mark_is_no_toml(tmp_path):
    path = tmp_path / "marked.toml"
    text = f"name = 'x'\r\n[data]\rsources = ['a']\n[tokenizer]\nvocabulary_size = 300\n{MODELS}"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert recipe.load(path).name == "x"


MODELS = "[models.m]\narchitecture = { layers = 1, width = 8 }\ntrain = { tokens = 5 }\n"


@pytest.mark.parametrize(
    ("path", "said"), [("/dev/zero", "not a file"), (".", "not a file"), ("a\0b", "no such recipe")]
)
def test_places_that_are_no_recipe(path, said):
    with pytest.raises(RequestError, match=said):
        recipe.load(Path(path))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.sequence_length", "should be KEY=VALUE"),
        ("data..x=1", "should be KEY=VALUE"),
        ("=1", "should be KEY=VALUE"),
        ("a." * 5000 + "a=1", "too deep"),
        ("name=" + "x" * 200_000, "too long"),
        ("seed=" + "9" * 5000, "too long"),
        ("seed=" + "[" * 50_000, "too deep"),
        ("name.x=1", "name is not a section"),
        ("na\x1b[31mme=1", "na\\x1b[31mme"),
        ("seed=1\nname='y'", "seed = "),  # one key, and not two
        ("models.m.train.tokens=1e999", "tokens = inf"),
    ],
)
def test_odd_overrides(tmp_path, override, said):
    path = tmp_path / "r.toml"
    path.write_text(f'name = "x"\n[data]\nsources = ["a"]\n[tokenizer]\nvocabulary_size = 300\n{MODELS}')
    with pytest.raises(RequestError) as refusal:
        recipe.load(path, [override])
    assert said in str(refusal.value)
    assert "\x1b" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_chain_of_many_models_is_followed():
    raw = changed()
    before = "student"
    for number in range(250):
        raw["models"][f"m{number}"] = {"like": before, "start_from": before}
        before = f"m{number}"
    assert len(recipe.parse(raw).order()) == 253
    raw["models"] |= {f"n{number}": {"like": "student"} for number in range(10)}
    with pytest.raises(RequestError, match=r"models: 263 of them; a recipe may have 256 at most"):
        recipe.parse(raw)


def test_an_ensemble_needs_all_its_members_first():
    raw = changed(models__student__learn_from={"teacher": 0.7, "second": 0.3})
    raw["models"]["second"] = {**raw["models"]["teacher"]}
    parsed = recipe.parse(raw)
    assert parsed.models["student"].teachers == {"teacher": 0.7, "second": 0.3}
    assert parsed.models["control"].teachers == {}
    assert parsed.order().index("second") < parsed.order().index("student")


def test_a_mistake_that_like_repeats_is_said_once():
    with pytest.raises(RequestError) as refusal:
        recipe.parse(changed(models__student__train__clip=-1.0))
    assert str(refusal.value).count("clip") == 1


@pytest.mark.parametrize("text", ["name = \n\n", "[data\n", 'name = "x"\nname = "y"\n'])
def test_broken_toml_names_the_file_and_line(tmp_path, text):
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"broken\.toml: not TOML: .*line"):
        recipe.load(path)


def test_a_missing_recipe_is_named():
    with pytest.raises(RequestError, match=r"nowhere\.toml: no such recipe"):
        recipe.load(Path("nowhere.toml"))


def test_the_recipes_that_gemmule_brings_have_names_and_run_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in sorted(Path(__file__).parents[2].glob("recipes/*.toml")):
        name = f"gemmule:{path.stem}"
        brought = recipe.load(Path(name))
        assert brought == recipe.load(path)
        assert resolve(brought.data.weights, Path(name).parent)
    with pytest.raises(RequestError, match=r"gemmule:demmo: no such recipe; did you mean 'demo'\? there are: demo"):
        recipe.read(Path("gemmule:demmo"))


def test_a_cut_follows_the_larger_model_where_it_says_nothing():
    raw = changed(models__quarter={"start_from": "half", "architecture": {"layers": 2}, "train": {"tokens": "1M"}})
    raw["models"]["half"] = {"start_from": "teacher", "architecture": {"width": 96}, "train": {"tokens": "1M"}}
    raw["models"]["teacher"]["architecture"] |= {"query_scale": 64, "final_cap": 0}
    shapes = {name: model.architecture for name, model in recipe.parse(raw).models.items()}
    assert shapes["half"] == shapes["teacher"].model_copy(update={"width": 96})
    assert shapes["quarter"] == shapes["half"].model_copy(update={"layers": 2})


def test_a_cut_follows_a_model_from_outside():
    small = {"start_from": "there", "architecture": {"width": 64}, "train": {"tokens": "1M"}}
    raw = changed(models__small=small, models__whole={"start_from": "there", "train": {"tokens": "1M"}})
    raw["models"]["smaller"] = {"start_from": "whole", "architecture": {"layers": 2}, "train": {"tokens": "1M"}}
    there = {"layers": 4, "width": 128, "heads": 2, "kv_heads": 1, "head_dim": 10, "ffn_width": 50, "window": 9}
    models = recipe.parse(raw, outside={"there": there}.get).models
    assert models["small"].architecture == recipe.Architecture(**there | {"width": 64})
    assert models["smaller"].architecture == recipe.Architecture(**there | {"layers": 2})
    assert models["whole"].architecture is None
    assert models["whole"].train.learning_rate == 2e-4
    with pytest.raises(RequestError, match=r"models.small.architecture.layers"):
        recipe.parse(raw)  # where nobody can tell, both must be said


def wished(**targets):
    return recipe.parse(changed(models__student__distill={"targets": targets})).models["student"].distill.targets


def test_targets_say_once_how_much_is_kept():
    assert (wished().kind, wished().bytes_per_token, wished().setting) == ("threshold", 30.0, None)
    assert (wished(tau=0.01).bytes_per_token, wished(tau=0.01).setting) == (None, 0.01)
    assert wished(kind="rs-kd", draws=50).setting == 50
    top = wished(kind="top-k", k=12, rest="renormalised")
    assert (top.setting, top.rest) == (12, "renormalised")
    assert wished(kind="top-k", bytes_per_token=90).rest == "bucket"


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"k": 12}, 'kind = "threshold" takes bytes_per_token or tau, not k'),
        ({"kind": "top-k", "tau": 0.1}, 'kind = "top-k" takes bytes_per_token or k, not tau'),
        ({"kind": "rs-kd", "k": 1}, 'kind = "rs-kd" takes bytes_per_token or draws, not k'),
        ({"tau": 0.1, "bytes_per_token": 30}, "bytes_per_token and tau both say how much to keep"),
        ({"rest": "dropped"}, 'rest is of kind = "top-k"'),
        ({"kind": "top-p"}, "targets.kind = 'top-p'"),
        ({"tau": 0.0}, "targets.tau = 0.0"),
        ({"kind": "top-k", "k": 0}, "targets.k = 0"),
        ({"bytes_per_token": -1}, "targets.bytes_per_token = -1"),
    ],
)
def test_targets_that_are_none_are_refused_by_key(targets, said):
    with pytest.raises(RequestError, match=r"models\.student\.distill\.targets") as refused:
        wished(**targets)
    assert said in str(refused.value)


def test_token_weights_need_stored_targets():
    assert recipe.Distill(token_weights="entropy", targets={}).token_weights == "entropy"
    with pytest.raises(RequestError, match=r"models.student.*needs stored targets"):
        recipe.parse(changed(models__student__distill={"token_weights": "entropy"}))
    with pytest.raises(RequestError, match="next_token_weight"):
        recipe.parse(changed(models__student__distill={"next_token_weight": [0.5, 1.0]}))


@pytest.mark.parametrize(
    ("overrides", "counts"),
    [
        ({}, (1, 1, 1)),
        ({"seeds": 3}, (3, 3, 3)),
        ({"seeds": 3, "models__teacher__seeds": 1}, (1, 3, 3)),
        ({"models__student__seeds": 2}, (1, 2, 2)),  # the control is like it
        ({"seeds": 2, "models__teacher__seeds": 5}, (5, 2, 2)),
        ({"seeds": 2, "models__teacher": {"from": "some/hub-id"}}, (1, 2, 2)),
        ({"seed": 2**63 - 3, "seeds": 3}, (3, 3, 3)),
    ],
)
def test_how_often_each_model_is_trained(overrides, counts):
    parsed = recipe.parse(changed(**overrides))
    assert tuple(map(parsed.trainings, ("teacher", "student", "control"))) == counts


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seeds": 0}, r"seeds = 0: must be a whole number from 1 to 100"),
        ({"seeds": 101}, r"seeds = 101: must be a whole number from 1 to 100"),
        ({"models__student__seeds": 0}, r"models\.student\.seeds = 0: must be a whole number from 1 to 100"),
        (
            {"seeds": 3, "models__teacher__seeds": 2},
            r"seeds = 3: student learns from teacher, which has models\.teacher\.seeds = 2; "
            r"models\.teacher\.seeds must be 1, for all, or at least 3, for each",
        ),
        (
            {"seeds": 2, "models__student__seeds": 3},
            r"models\.student\.seeds = 3: student learns from teacher, which has seeds = 2; "
            r"models\.teacher\.seeds must be 1, for all, or at least 3, for each",
        ),
        (
            {"seeds": 2, "models__control__seeds": 3},
            r"models\.control\.seeds = 3: control is measured beside teacher, which has seeds = 2",
        ),
        (
            {"models__teacher__seeds": 2, "models__control__start_from": "teacher", "models__control__seeds": 3},
            r"models\.control\.seeds = 3: control starts from teacher, which has models\.teacher\.seeds = 2",
        ),
        (
            {"models__teacher": {"from": "some/hub-id", "seeds": 2}},
            r"models\.teacher: a model with from is not trained: remove seeds",
        ),
        (
            {"seed": 2**63 - 1, "models__student__seeds": 2},
            r"seed = 9223372036854775807: models\.student\.seeds = 2 goes up to seed \+ 1",
        ),
    ],
)
def test_seeds_that_can_not_be_are_refused(overrides, message):
    with pytest.raises(RequestError, match=message):
        recipe.parse(changed(**overrides))
