"""Suites: what ships is valid, what is wrong is said in one line."""

import pytest
import yaml

from bench.planning import suite as suites
from bench.errors import BadInput
from bench.planning.suite import evaluation_images


@pytest.mark.parametrize("name", suites.names())
def test_every_suite_that_ships_is_valid(name):
    suite = suites.load(name)
    assert suite.name == name
    for cell in suite.cells:
        images = evaluation_images(suite.of(cell))
        assert len(images) >= (12 if suite.seeds.pilots else 4) and images[-1] == suite.of(cell).budget


def test_evaluations_are_log_spaced_from_a_tenth_to_all_of_the_budget():
    training = suites.load("quick").training
    images = evaluation_images(training)
    assert images[0] == pytest.approx(training.budget / 10, abs=training.batch) and images[-1] == training.budget
    ratios = [b / a for a, b in zip(images, images[1:])]  # noqa: B905
    assert max(ratios) / min(ratios) < 1.1 and all(i % training.batch == 0 for i in images)


def test_a_cell_overrides_nested_keys_one_by_one(tiny):
    suite = suites.load(tiny(cells=[{"dataset": "digits", "backbone": "uvit-xs", "optimizer": {"lr": 0.5}, "budget": 3200}]))
    training = suite.of(suite.cells[0])
    assert (training.optimizer.lr, training.optimizer.weight_decay, training.budget) == (0.5, 0.03, 3200)


def test_numbers_in_exponent_notation_are_numbers(tmp_path, tiny):
    path = tmp_path / "exponent.yaml"
    path.write_text(open(tiny()).read().replace("lr: 0.001", "lr: 1e-3"))
    assert suites.load(str(path)).training.optimizer.lr == 1e-3


@pytest.mark.parametrize(("changes", "message"), [
    ({"arms": ["none", "lernable"]}, r"arms\[1\]: .*'lernable'.*choose from .*learnable"),
    ({"arms": ["none", "constant(kappa=1.7)"]}, r"arms\[1\]: .*kappa.*1\.7.*0 < kappa <= 1"),
    ({"arms": ["none", "constant(kapa=0.7)"]}, r"arms\[1\]: .*kapa.*kappa"),
    ({"arms": ["none", "constant @ lr much"]}, r"arms\[1\]: 'constant @ lr much' is not of the form METHOD or METHOD @ lr FACTOR"),
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
    ({"seeds": {"paired": [0, 1, 2], "pilots": [100, 101]}}, "seeds.pilots: .*2 pilots are too few; at least 3"),
    ({"seeds": {"paired": [10000], "pilots": [1, 2, 3]}}, "seeds.paired.*10000"),
    ({"cells": [{"dataset": "digit", "backbone": "uvit-xs"}]}, r"cells\[0\].dataset: 'digit' is unknown; choose from .*digits"),
    ({"cells": [{"dataset": "digits", "backbone": "uvit-xxs"}]}, r"cells\[0\].backbone: 'uvit-xxs' is unknown; choose from .*uvit-xs"),
    ({"cells": [{"dataset": "digits"}]}, r"cells\[0\].backbone: missing"),
    ({"cells": [{"dataset": "digits", "backbone": "uvit-xs", "bugdet": 3}]}, "bugdet is unknown; choose from budget"),
    ({"cells": [{"dataset": "digits", "backbone": "uvit-xs", "budget": -1}]}, r"cells\[digits/uvit-xs\].*budget: -1"),
    ({"budget": 1000}, "budget: 1000 is not a multiple of batch 32"),
    ({"budget": "many"}, "budget: 'many'"),
    ({"budgets": 960}, "budgets: unknown key; choose from .*budget"),
    ({"device": "tpu"}, "device: 'tpu'.*'cpu' or 'cuda'"),
    ({"optimizer": {"lr": float("nan"), "betas": [0.9, 0.9], "weight_decay": 0.0, "warmup": 0.0}}, "optimizer.lr: nan"),
    ({"optimizer": {"lr": 0.1, "betas": [0.9], "weight_decay": 0.0, "warmup": 0.0}}, "optimizer.betas"),
    ({"optimizer": {"lr": 0.1, "beta": 0.9}}, "optimizer.(betas: missing|beta: unknown key; choose from lr, betas)"),
    ({"evaluation": {"count": 400, "samples": 64, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv"}},
     "evaluation.count: 400 evaluations do not fit"),
    ({"evaluation": {"count": 4, "samples": 64, "sampler": "ddim", "steps": 2, "extractor": "small-conv"}},
     "evaluation.sampler: 'ddim' is unknown; choose from dpmpp-2m, euler-maruyama"),
    ({"evaluation": {"count": 4, "samples": 64, "sampler": "dpmpp-2m", "steps": 2, "extractor": "vgg"}},
     "evaluation.extractor: 'vgg' is unknown; choose from .*small-conv"),
    ({"evaluation": {"count": 4, "samples": 63, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv"}}, "samples: 63"),
    ({"evaluation": {"count": 4, "samples": 64, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv"}},
     "evaluation.samples: 64 are not more than the 64 dimensions of small-conv"),
    ({"cells": [{"dataset": "shapes", "backbone": "uvit-xs"}]},
     r"cells\[0\].backbone: 'uvit-xs' does not take the condition of shapes \(class\); choose from uvit-xs-class, unet-xs-class"),
    ({"cells": [{"dataset": "scenes", "backbone": "uvit-xs-class"}]}, r"condition of scenes \(text\); choose from uvit-xs-t2i"),
    ({"unconditional": 0.1}, "unconditional: 0.1 is for text; digits has the condition none"),
    ({"cells": [{"dataset": "shapes", "backbone": "uvit-xs-class", "evaluation": {"guidance": 1.0}}]},
     "evaluation.guidance: 1.0 is for text; shapes has the condition class"),
    ({"cells": [{"dataset": "scenes", "backbone": "uvit-xs-t2i", "flip": True}]}, "flip: true is for images; scenes holds latents"),
    ({"cells": [{"dataset": "scenes", "backbone": "uvit-xs-t2i", "evaluation": {"clip": True}}]}, "clip: true is for images"),
    ({"diffusion": {"schedule": "cosine"}}, "diffusion.schedule: 'cosine'.*'vp-linear' or 'sd-discrete'"),
    ({"diffusion": {"schedule": "sd-discrete", "beta_max": 20.0}}, "diffusion: beta_max: 20.0 is out of range for sd-discrete"),
    ({"scale": "tiny"}, "scale: 'tiny'.*'mini' or 'full'"),
    ({"threads": True}, "threads: True"),
])
def test_bad_input_is_one_line_with_field_value_and_choices(tiny, changes, message):
    with pytest.raises(BadInput, match=message) as caught:
        suites.load(tiny(**changes))
    assert "\n" not in str(caught.value) and "tiny.yaml" in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [
    ("a: [1, 2", "not YAML"), ("just words", "a suite is a mapping"), ("", "a suite is a mapping"),
    ("- 1\n- 2", "a suite is a mapping"), ("\x00", "not YAML"), ("budget: 1\nbudget: 2", "'budget' is given twice"),
    ("!!python/object/apply:os.system ['true']", "not YAML"),
])
def test_a_file_that_is_no_suite(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        suites.load(str(path))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(BadInput, match="not YAML"):
        suites.load(str(path))


def test_an_unknown_suite_names_the_valid_ones():
    with pytest.raises(BadInput, match="suite: 'quik' is neither a file nor a suite; choose from .*quick.*smoke"):
        suites.load("quik")


def test_yaml_round_trips(tiny):
    assert yaml.safe_load(open(tiny()))["budget"] == 960


def test_a_suite_may_extend_another(tiny, tmp_path):
    base = tiny()
    path = tmp_path / "more.yaml"
    path.write_text(f"extends: {base}\nseeds: {{paired: [0, 1, 2, 3]}}\noptimizer: {{lr: 0.5}}\n")
    more, plain = suites.load(str(path)), suites.load(base)
    assert more.name == "more" and more.seeds.paired == [0, 1, 2, 3] and more.seeds.pilots == plain.seeds.pilots
    assert more.training.optimizer.lr == 0.5 and more.training.optimizer.betas == plain.training.optimizer.betas
    path.write_text(f"extends: {path}\n")
    with pytest.raises(BadInput, match="extends: .* is not another suite; choose from lr, mini"):
        suites.load(str(path))
    six = suites.load("mini-6")
    assert len(six.seeds.paired) == 6 and six.cells == suites.load("mini").cells
