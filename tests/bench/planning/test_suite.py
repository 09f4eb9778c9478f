"""Suites: what ships is valid, what is wrong is said in one line."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import datasets
from bench.cli import parser as cli
from bench.errors import BadInput
from bench.planning import suite_file, yaml_file
from bench.planning.plan import plan
from bench.planning.suite import evaluation_images
from datasets import Dataset

OPTIMIZER = {"lr": 1e-3, "weight_decay": 0.03, "warmup": 0.1}
SAMPLING = {"count": 4, "samples": 128, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv"}


@pytest.mark.parametrize("name", suite_file.names())
def test_every_suite_that_ships_is_valid(name):
    suite = suite_file.load(name)
    assert suite.name == name
    for cell in suite.cells:
        images = evaluation_images(suite.of(cell))
        assert len(images) >= (12 if suite.seeds.pilots else 4) and images[-1] == suite.of(cell).budget


def test_evaluations_are_log_spaced_from_a_tenth_to_all_of_the_budget():
    training = suite_file.load("quick")
    images = evaluation_images(training)
    assert images[0] == pytest.approx(training.budget / 10, abs=training.batch) and images[-1] == training.budget
    ratios = [b / a for a, b in pairwise(images)]
    assert max(ratios) / min(ratios) < 1.1 and all(i % training.batch == 0 for i in images)


def test_a_cell_overrides_nested_keys_one_by_one(tiny):
    suite = suite_file.load(
        tiny(cells=[{"dataset": "digits", "backbone": "uvit-xs", "optimizer": {"lr": 0.5}, "budget": 3200}])
    )
    training = suite.of(suite.cells[0])
    assert (training.optimizer.lr, training.optimizer.weight_decay, training.budget) == (0.5, 0.03, 3200)


def test_numbers_in_exponent_notation_are_numbers(tmp_path, tiny):
    path = tmp_path / "exponent.yaml"
    path.write_text(Path(tiny()).read_text().replace("lr: 0.001", "lr: 1e-3"))
    assert suite_file.load(str(path)).optimizer.lr == 1e-3


def test_no_number_or_word_is_read_in_another_base(tmp_path, tiny):
    path, text = tmp_path / "base.yaml", Path(tiny()).read_text()
    changed = text.replace("budget: 960", "budget: 0960").replace("title: ", "title: 12:00:00 #")
    assert changed.count("0960") == 1 and changed.count("12:00:00") == 1
    path.write_text(changed)
    suite = suite_file.load(str(path))
    assert (suite.budget, suite.title) == (960, "12:00:00")
    for wrong in ("0x3c0", "16:00", "0o1700", "yes", "2026-01-01"):
        path.write_text(text.replace("budget: 960", f"budget: {wrong}"))
        with pytest.raises(BadInput, match=f"budget: '{wrong}': input should be a valid integer"):
            suite_file.load(str(path))


def test_what_is_written_is_read_the_same_again(tmp_path):
    """As JSON, as the suite in the snapshot of a sweep is."""
    words = [
        "0500",
        "1e3",
        "yes",
        "",
        "~",
        "12:00",
        "1_0",
        "true",
        "<<",
        "=",
        "2026-01-01",
        "-",
        "ü: #",
        ".5",
        ".inf",
        "a\tb\n",
        "😀",
    ]
    content = {"words": words, "numbers": [0, -3, 1e-6, 1e22, 0.5, 10**20], "others": [None, True, False]}
    (tmp_path / "file.yaml").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    assert yaml_file.read(tmp_path / "file.yaml", yaml_file.Numbers) == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ["none", "lernable"]}, r"arms\[1\]: .*'lernable'.*choose from .*learnable"),
        ({"arms": ["none", "constant(kappa=1.7)"]}, r"arms\[1\]: .*kappa.*1\.7.*0 < kappa <= 1"),
        ({"arms": ["none", "constant(kapa=0.7)"]}, r"arms\[1\]: .*kapa.*kappa"),
        (
            {"arms": ["none", "constant @ lr much"]},
            r"arms\[1\]: 'constant @ lr much' is not of the form METHOD or METHOD @ lr FACTOR",
        ),
        ({"arms": ["none", "constant @ lr -2"]}, r"arms\[1\]: .*a number above 0"),
        ({"arms": ["none", "constant @ lr 1e400"]}, r"arms\[1\]: .*a number above 0"),
        ({"arms": ["none", "constant @ weight_decay 2"]}, r"arms\[1\]: .*METHOD @ lr FACTOR"),
        ({"arms": ["none", "constant @ lr 2", "constant(kappa=0.5) @ lr 2.0"]}, "arms: constant @ lr 2 is given twice"),
        ({"arms": ["none @ lr 1", "none"]}, "arms: none is given twice"),
        ({"arms": ["none @ lr 2"]}, "arms: the baseline 'none' is missing"),
        ({"arms": ["none", "constant", "constant(kappa=0.5)"]}, "arms: constant is given twice"),
        ({"arms": ["inv_sqrt2"]}, "arms: the baseline 'none' is missing"),
        ({"seeds": {"paired": [0, 1, 0], "pilots": [100, 101, 102]}}, "seeds: paired: seed 0 is used twice"),
        ({"seeds": {"paired": [0, 1, 2], "pilots": [100, 1, 102]}}, "seeds: pilots: seed 1 is used twice"),
        ({"seeds": {"paired": [0, 1, 2]}}, "seeds.pilots: missing"),
        (
            {"seeds": {"paired": [0, 1, 2], "pilots": [100, 101]}},
            r"seeds: pilots: \[100, 101\] are too few; at least 3",
        ),
        ({"seeds": {"paired": [10000], "pilots": [1, 2, 3]}}, "seeds.paired.*10000"),
        (
            {"cells": [{"dataset": "digit", "backbone": "uvit-xs"}]},
            r"cells\[0\].dataset: 'digit' is unknown; choose from .*digits",
        ),
        (
            {"cells": [{"dataset": "digits", "backbone": "uvit-xxs"}]},
            r"cells\[0\].backbone: 'uvit-xxs' is unknown; choose from .*uvit-xs",
        ),
        ({"cells": [{"dataset": "digits"}]}, r"cells\[0\].backbone: missing"),
        (
            {"cells": [{"dataset": "digits", "backbone": "uvit-xs", "bugdet": 3}]},
            r"cells\[0\]: bugdet: unknown key; choose from dataset, backbone, budget",
        ),
        (
            {"cells": [{"dataset": "digits", "backbone": "uvit-xs", "budget": -1}]},
            r"cells\[digits/uvit-xs\].*budget: -1",
        ),
        ({"budget": 1000}, "budget: 1000 is not a multiple of batch 32"),
        ({"budget": "many"}, "budget: 'many'"),
        ({"budgets": 960}, "budgets: unknown key; choose from .*budget"),
        ({"device": "tpu"}, "device: 'tpu'.*'cpu' or 'cuda'"),
        (
            {"optimizer": {"lr": float("nan"), "betas": [0.9, 0.9], "weight_decay": 0.0, "warmup": 0.0}},
            "optimizer.lr: nan",
        ),
        ({"optimizer": {"lr": 0.1, "betas": [0.9], "weight_decay": 0.0, "warmup": 0.0}}, "optimizer.betas"),
        (
            {"optimizer": {"lr": 0.1, "beta": 0.9}},
            "optimizer: beta: unknown key; choose from lr, betas",
        ),
        (
            {"optimizer": OPTIMIZER},
            "optimizer: betas: give betas, or half_lives as fractions of the budget, and not both",
        ),
        (
            {"optimizer": OPTIMIZER | {"betas": [0.9, 0.99], "half_lives": [0.01, 0.1]}},
            "give betas, or half_lives.*not both",
        ),
        ({"optimizer": OPTIMIZER | {"half_lives": [0.01, 1.5]}}, r"optimizer.half_lives\[1\]: 1.5.*less than 1"),
        ({"optimizer": OPTIMIZER | {"half_lives": [0.01]}}, r"optimizer.half_lives: \[0.01\].*at least 2"),
        ({"baseline": "constant"}, "arms: the baseline 'constant' is missing from none, learnable"),
        ({"attention": "fast"}, "attention: 'fast'.*'auto', 'flash', 'efficient', 'math' or 'fp32'"),
        ({"evaluation": SAMPLING | {"end": -0.1}}, "evaluation.end: -0.1"),
        ({"processes": 3}, "processes: 3 does not fit; batch 32 is no multiple of 3"),
        ({"processes": 2, "accumulate": 5}, "accumulate: 5 does not fit; batch 32 is no multiple of 10"),
        ({"probes": True, "processes": 2}, "probes: True does not fit; hooks need compile: false and processes: 1"),
        (
            {"evaluation": {"count": 400, "samples": 64, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv"}},
            "evaluation.count: 400 evaluations do not fit",
        ),
        (
            {"evaluation": {"count": 4, "samples": 64, "sampler": "ddim", "steps": 2, "extractor": "small-conv"}},
            "evaluation.sampler: 'ddim' is unknown; choose from dpmpp-2m, euler-maruyama",
        ),
        (
            {"evaluation": {"count": 4, "samples": 64, "sampler": "dpmpp-2m", "steps": 2, "extractor": "vgg"}},
            "evaluation.extractor: 'vgg' is unknown; choose from .*small-conv",
        ),
        (
            {"evaluation": SAMPLING | {"beside": ["vgg"]}},
            r"evaluation.beside\[0\]: 'vgg' is unknown; choose from .*cifar",
        ),
        ({"evaluation": SAMPLING | {"beside": ["small-conv"]}}, "evaluation.extractor: small-conv is given twice"),
        (
            {"evaluation": SAMPLING | {"samples": 256, "beside": ["cifar-net"]}},
            r"beside\[0\]: cifar-net takes \(N, 3, H, W\), H and W of at least 16, digits has \(1, 8, 8\); choose from small",
        ),
        (
            {"evaluation": {"count": 4, "samples": 63, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv"}},
            "samples: 63",
        ),
        (
            {"evaluation": {"count": 4, "samples": 64, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv"}},
            "evaluation.samples: 64 are not more than the 64 dimensions of small-conv; give at least 65",
        ),
        (
            {"cells": [{"dataset": "shapes", "backbone": "uvit-xs"}]},
            r"cells\[0\].backbone: 'uvit-xs' takes no condition, shapes has 12 classes; choose from uvit-xs-class, unet-xs-class",
        ),
        (
            {"cells": [{"dataset": "scenes", "backbone": "uvit-xs-class"}]},
            "'uvit-xs-class' takes 12 classes, scenes has captions of 12 x 32; choose from uvit-xs-t2i",
        ),
        ({"unconditional": 0.1}, "unconditional: 0.1 is for text; digits has the condition none"),
        (
            {"cells": [{"dataset": "shapes", "backbone": "uvit-xs-class", "evaluation": {"guidance": 1.0}}]},
            "evaluation.guidance: 1.0 is for text; shapes has the condition class",
        ),
        (
            {"cells": [{"dataset": "scenes", "backbone": "uvit-xs-t2i", "flip": True}]},
            "flip: true is for images; scenes holds latents",
        ),
        (
            {"cells": [{"dataset": "scenes", "backbone": "uvit-xs-t2i", "evaluation": {"clip": True}}]},
            "clip: true is for images",
        ),
        (
            {"diffusion": {"schedule": "cosine"}},
            "diffusion.schedule: 'cosine'.*'vp-linear', 'sd-discrete' or 'ddpm-linear'",
        ),
        (
            {"diffusion": {"schedule": "sd-discrete", "beta_max": 20.0}},
            "diffusion: beta_max: 20.0 is out of range for sd-discrete",
        ),
        (
            {"diffusion": {"schedule": "ddpm-linear", "beta_max": 1.0}},
            "diffusion: beta_max: 1.0 is out of range for ddpm-linear",
        ),
        (
            {"arms": ["none", "plain"]},
            r"arms\[1\]: does not fit uvit-xs: plain: the layers .* joined; choose no_skip or a DiT$",
        ),
        ({"scale": "tiny"}, "scale: 'tiny'.*'mini' or 'full'"),
        ({"threads": True}, "threads: True"),
    ],
)
def test_bad_input_is_one_line_with_field_value_and_choices(tiny, changes, message):
    with pytest.raises(BadInput, match=message) as caught:
        suite_file.load(tiny(**changes))
    assert "\n" not in str(caught.value) and "tiny.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not YAML"),
        ("just words", "a suite is a mapping"),
        ("", "a suite is a mapping"),
        ("- 1\n- 2", "a suite is a mapping"),
        ("\x00", "not YAML"),
        ("budget: 1\nbudget: 2", "'budget' is given twice"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_file_that_is_no_suite(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        suite_file.load(str(path))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(BadInput, match="not YAML"):
        suite_file.load(str(path))


def test_an_unknown_suite_names_the_valid_ones():
    with pytest.raises(BadInput, match=r"suite: 'quik' is neither a file nor a suite; choose from .*quick.*smoke"):
        suite_file.load("quik")


def test_a_suite_that_was_started_from_a_path_is_asked_for_by_it(tmp_path, capsys):
    (tmp_path / "clus").mkdir()
    (tmp_path / "clus" / "suite.json").write_text("{}")
    for words in (["run", "clus"], ["submit", "clus", "--cluster", "local"], ["plan", "clus"]):
        assert cli.main([*words, "--root", str(tmp_path)]) == 2
        told = f"suite: 'clus' is neither a file nor a suite; {tmp_path / 'clus'} was started from another file"
        assert capsys.readouterr().err == f"error: {told}: give its path\n"


def test_a_number_of_classes_that_no_preset_takes(tiny, monkeypatch):
    doodles = Dataset("doodles", (1, 12, 12), "", "", lambda *_: None, classes=2)
    monkeypatch.setitem(datasets.DATASETS, "doodles", doodles)
    told = (
        "'uvit-xs-class' takes 12 classes, doodles has 2 classes; no preset takes that; register one in models/contrib"
    )
    with pytest.raises(BadInput, match=told):
        suite_file.load(tiny(cells=[{"dataset": "doodles", "backbone": "uvit-xs-class"}]))


def test_yaml_round_trips(tiny):
    assert yaml.safe_load(Path(tiny()).read_text())["budget"] == 960


def test_a_suite_may_extend_another(tiny, tmp_path):
    base = tiny()
    path = tmp_path / "more.yaml"
    path.write_text(f"extends: {base}\nseeds: {{paired: [0, 1, 2, 3]}}\noptimizer: {{lr: 0.5}}\n")
    more, plain = suite_file.load(str(path)), suite_file.load(base)
    assert more.name == "more" and more.seeds.paired == [0, 1, 2, 3] and more.seeds.pilots == plain.seeds.pilots
    assert more.optimizer.lr == 0.5 and more.optimizer.betas == plain.optimizer.betas
    path.write_text(f"extends: {path}\n")
    with pytest.raises(BadInput, match=r"extends: .* is not another suite; choose from cifar10-evening, lr, mini"):
        suite_file.load(str(path))


def test_a_suite_may_say_half_lives_of_adam_instead_of_betas(tiny, tmp_path):
    """As fractions of the budget, here of 30 steps; one form takes the other's place in a cell or another suite."""
    cells = [
        {"dataset": "digits", "backbone": "uvit-xs"},
        {"dataset": "digits", "backbone": "unet-xs", "optimizer": {"betas": [0.9, 0.99]}},
    ]
    base = tiny(optimizer=OPTIMIZER | {"half_lives": [0.1, 0.2]}, cells=cells)
    found = {run.spec.backbone: run.spec.optimizer.betas for run in plan(suite_file.load(base))}
    assert found["uvit-xs"] == [0.5 ** (1 / 3), 0.5 ** (1 / 6)] and found["unet-xs"] == [0.9, 0.99]
    longer = plan(suite_file.load(tiny("longer", optimizer=OPTIMIZER | {"half_lives": [0.1, 0.2]}, budget=9600)))
    assert longer[0].spec.optimizer.betas == pytest.approx([0.5 ** (1 / 30), 0.5 ** (1 / 60)], rel=1e-15)
    path = tmp_path / "more.yaml"
    path.write_text(f"extends: {tiny('plain')}\noptimizer: {{half_lives: [0.1, 0.2]}}\n")
    assert plan(suite_file.load(str(path)))[0].spec.optimizer.betas == [0.5 ** (1 / 3), 0.5 ** (1 / 6)]


def test_labels_may_be_left_out_for_a_backbone_with_a_null_class(tiny):
    cells = [{"dataset": "shapes", "backbone": "dit-xs-class", "evaluation": {"guidance": 0.5}}]
    changes = {"cells": cells, "arms": ["plain", "norm_cat"], "baseline": "plain", "unconditional": 0.1}
    spec = plan(suite_file.load(tiny(**changes)))[0].spec
    assert (spec.unconditional, spec.evaluation.network_evaluations, spec.method["name"]) == (0.1, 4, "plain")


def test_another_baseline_than_none(tiny):
    """Pilots and the null arm are of the baseline."""
    suite = suite_file.load(tiny(arms=["none", "constant"], baseline="constant"))
    labels = {role: {run.label for run in plan(suite) if run.role == role} for role in ("pilot", "null", "paired")}
    assert labels == {"pilot": {"constant"}, "null": {"constant"}, "paired": {"none", "constant"}}
    assert suite_file.load(tiny()).baseline == "none"


@pytest.mark.parametrize(
    ("looks", "pilots", "message"),
    [
        ([6], [100, 101, 102], r"looks: \[6\]: give 2 or 3 ascending numbers of pairs"),
        ([5, 12], [100, 101, 102], "the first at least 6"),
        ([6, 11], [100, 101, 102], "the last 12, the number of seeds.paired"),
        ([8, 6, 12], [100, 101, 102], "ascending"),
        ([6, 12], [], "need seeds.pilots"),
        (["six", 12], [100, 101, 102], r"looks\[0\]: 'six': "),
    ],
)
def test_looks_that_do_not_fit_are_one_line(tiny, looks, pilots, message):
    seeds = {"paired": list(range(12)), "pilots": pilots}
    with pytest.raises(BadInput, match=message) as error:
        suite_file.load(tiny(looks=looks, seeds=seeds))
    assert "\n" not in str(error.value)
