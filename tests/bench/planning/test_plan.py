"""Plans: who is in them, and that identity follows everything that matters and nothing else."""

import dataclasses
import json
from collections import Counter

import pytest

from bench.planning import suite as suites
from bench.errors import BadInput
from bench.planning.plan import claim, method_text, plan, publish, select


def test_quick_has_its_66_runs():
    runs = plan(suites.load("quick"))
    assert Counter((run.role, run.spec["backbone"]) for run in runs) == {
        ("pilot", "unet-xs"): 3, ("pilot", "uvit-xs"): 3, ("paired", "unet-xs"): 24, ("paired", "uvit-xs"): 24,
        ("null", "unet-xs"): 6, ("null", "uvit-xs"): 6}
    assert all(run.role == "pilot" for run in runs[:6])
    assert len({run.id for run in runs}) == 66


def test_smoke_has_24_runs():
    assert len(plan(suites.load("smoke"))) == 24


def test_the_null_run_k_has_seed_10000_k_and_is_paired_with_k():
    nulls = [run for run in plan(suites.load("smoke")) if run.role == "null"]
    assert {(run.pair, run.spec["seed"], run.spec["method"]["name"]) for run in nulls} == {
        (0, 10000, "none"), (1, 10001, "none"), (2, 10002, "none")}


def test_arms_of_a_pair_differ_in_the_method_alone():
    runs = plan(suites.load("quick"))
    pairs: dict = {}
    for run in runs:
        if run.role == "paired":
            pairs.setdefault((run.cell, run.spec["seed"]), []).append({**run.spec, "method": None})
    assert all(len(specs) == 4 and all(spec == specs[0] for spec in specs) for specs in pairs.values())


def test_an_arm_may_say_a_factor_on_the_learning_rate():
    runs = [run for run in plan(suites.load("lr")) if run.role == "paired" and run.pair == 0 and run.spec["backbone"] == "uvit-xs"]
    assert {run.label: run.spec["optimizer"]["lr"] for run in runs} == {
        "none": 3e-3, "none @ lr 0.5": 1.5e-3, "none @ lr 2": 6e-3, "constant": 3e-3, "constant @ lr 0.5": 1.5e-3, "constant @ lr 2": 6e-3}
    assert len({json.dumps({**run.spec, "method": None, "optimizer": None}, sort_keys=True) for run in runs}) == 1
    assert [run.id for run in plan(suites.load("quick")) if run.label == "constant"] == [run.id for run in plan(suites.load("lr"))
                                                                                        if run.label == "constant"]


def test_the_identity_is_of_the_resolved_configuration(tiny):
    base = plan(suites.load(tiny()))
    spelled_out = plan(suites.load(tiny("other", arms=["none", "learnable(r=4)"], flip=False, threads=1, device="cpu")))
    assert [run.hash for run in base] == [run.hash for run in spelled_out]
    assert base[0].folder("r") != spelled_out[0].folder("r")  # the suite names the place, not the identity


@pytest.mark.parametrize("change", [
    {"budget": 1920}, {"batch": 64}, {"flip": True}, {"threads": 2}, {"ema": {"half_life": 0.2}}, {"dropout": 0.1},
    {"optimizer": {"lr": 2e-3, "betas": [0.9, 0.99], "weight_decay": 0.03, "warmup": 0.1}}, {"arms": ["none", "learnable(r=2)"]},
    {"diffusion": {"beta_max": 19.0}}, {"device": "cuda"}, {"device": "cuda", "precision": "bf16"},
    {"evaluation": {"count": 4, "samples": 192, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv", "repeats": 2}},
])
def test_whatever_can_change_a_result_changes_the_identity(tiny, change):
    before, after = (plan(suites.load(tiny(**c)))[-2] for c in ({}, change))
    assert before.hash != after.hash


def test_the_method_text_names_every_parameter():
    run = next(run for run in plan(suites.load("quick")) if run.label == "constant")
    assert method_text(run.spec).startswith("constant(") and "kappa=0.5" in method_text(run.spec)


def test_filters():
    runs = plan(suites.load("quick"))
    assert len(select(runs, None)) == 66
    assert len(select(runs, "method=none,seed=0")) == 2
    assert len(select(runs, "method=learnable")) == len(select(runs, "method=learnable(r=4)")) == 12
    assert len(select(runs, "seed=0,seed=1,backbone=uvit-xs,role=paired")) == 8
    assert len(select(runs, f"run={runs[7].id}")) == 1


@pytest.mark.parametrize(("text", "message"), [
    ("method", "'method' is unknown; choose from dataset=..."), ("arm=none", "'arm=none' is unknown"),
    ("method=lernable", "names no run; choose from method: constant, inv_sqrt2, learnable"), ("seed=99", "seed: 0, 1, "),
])
def test_a_filter_that_names_nothing_says_what_there_is(text, message):
    with pytest.raises(BadInput, match=message):
        select(plan(suites.load("quick")), text)


def test_folders_have_tame_names_and_specs_are_strict_json(tiny):
    for run in plan(suites.load(tiny(arms=["none", "constant(kappa=0.7)"]))):
        assert all(c.isalnum() or c in "-." for c in run.id)
        assert json.loads(json.dumps(run.spec, allow_nan=False)) == run.spec


def test_seeds_never_change_after_the_first_run(tiny, tmp_path):
    suite = suites.load(tiny())
    publish(suite, plan(suite), tmp_path)
    other = suites.load(tiny(seeds={"paired": [0, 1, 3], "pilots": [100, 101, 102]}))
    publish(other, plan(other), tmp_path)  # nothing has run yet
    folder = plan(other)[0].folder(tmp_path)
    folder.mkdir()
    (folder / "events.jsonl").touch()
    with pytest.raises(BadInput, match=r"seeds.paired: \[0, 1, 2\] differs from \[0, 1, 3\]"):
        publish(suite, plan(suite), tmp_path)


def test_a_folder_of_another_configuration_is_refused(tiny, tmp_path):
    run = plan(suites.load(tiny()))[0]
    claim(run.folder(tmp_path), run)
    claim(run.folder(tmp_path), run)
    other = dataclasses.replace(run, spec={**run.spec, "batch": 64})
    with pytest.raises(BadInput, match="belongs to another configuration"):
        claim(run.folder(tmp_path), other)
