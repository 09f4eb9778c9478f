"""Plans: who is in them, and that identity follows everything that matters and nothing else."""

import dataclasses
import json
from collections import Counter

import pytest
from tiny_suite import TINY

from bench.errors import BadInput
from bench.launching.sweep_folder import SweepFolder
from bench.planning import suite_file
from bench.planning.plan import plan, select, with_pilots
from bench.runs.run_spec import RunSpec


def test_quick_has_its_72_runs():
    runs = plan(suite_file.load("quick"))
    assert Counter((run.role, run.spec.backbone) for run in runs) == {
        ("pilot", "unet-xs"): 3,
        ("pilot", "uvit-xs"): 3,
        ("paired", "unet-xs"): 24,
        ("paired", "uvit-xs"): 24,
        ("null", "unet-xs"): 6,
        ("null", "uvit-xs"): 6,
        ("floor", "unet-xs"): 3,
        ("floor", "uvit-xs"): 3,
    }
    assert all(run.role == "pilot" for run in runs[:6])
    assert len({run.id for run in runs}) == 72


def test_the_noise_floor_is_the_baseline_of_the_first_three_pairs_perturbed():
    runs = plan(suite_file.load("quick"))
    floor = [run for run in runs if run.role == "floor" and run.spec.backbone == "uvit-xs"]
    assert [(run.pair, run.spec.seed, run.label) for run in floor] == [(0, 0, "none"), (1, 1, "none"), (2, 2, "none")]
    for run in floor:
        (baseline,) = [
            other
            for other in runs
            if (other.role, other.label, other.pair) == ("paired", "none", run.pair)
            and other.spec.cell == run.spec.cell
        ]
        assert run.spec.perturbation == 1e-6 and run.spec.but(perturbation=0.0) == baseline.spec
        assert run.id != baseline.id and "floor" in run.id
    assert not [run for run in plan(suite_file.load("smoke")) if run.role == "floor"]  # a trial
    assert not [run for run in plan(suite_file.load("stability")) if run.role in ("floor", "null")]  # no pilots


def test_smoke_has_24_runs():
    assert len(plan(suite_file.load("smoke"))) == 24


def test_the_null_run_k_has_seed_10000_k_and_is_paired_with_k():
    nulls = [run for run in plan(suite_file.load("smoke")) if run.role == "null"]
    assert {(run.pair, run.spec.seed, run.spec.method["name"]) for run in nulls} == {
        (0, 10000, "none"),
        (1, 10001, "none"),
        (2, 10002, "none"),
    }


def test_arms_of_a_pair_differ_in_the_method_alone():
    runs = plan(suite_file.load("quick"))
    pairs: dict = {}
    for run in runs:
        if run.role == "paired":
            pairs.setdefault((run.spec.cell, run.spec.seed), []).append(run.spec.but(method={"name": "any"}))
    assert all(len(specs) == 4 and all(spec == specs[0] for spec in specs) for specs in pairs.values())


def test_an_arm_may_say_a_factor_on_the_learning_rate():
    runs = [
        run
        for run in plan(suite_file.load("lr"))
        if run.role == "tuning" and run.spec.seed == 200 and run.spec.backbone == "uvit-xs"
    ]
    ladder = {" @ lr 0.25": 1e-3, " @ lr 0.5": 2e-3, "": 4e-3, " @ lr 2": 8e-3, " @ lr 4": 1.6e-2}
    assert {run.label: run.spec.optimizer.lr for run in runs} == {
        method + factor: rate for method in ("none", "constant") for factor, rate in ladder.items()
    }
    assert len({run.spec.but(method={"name": "any"}, optimizer=runs[0].spec.optimizer).hash for run in runs}) == 1
    assert [run.id for run in plan(suite_file.load("quick")) if run.label == "constant"] == [
        run.id for run in plan(suite_file.load("lr")) if run.label == "constant" and run.role == "paired"
    ]


def test_the_identity_is_of_the_resolved_configuration(tiny):
    base = plan(suite_file.load(tiny()))
    spelled_out = plan(
        suite_file.load(tiny("other", arms=["none", "learnable(r=4)"], flip=False, threads=1, device="cpu"))
    )
    assert [run.spec.hash for run in base] == [run.spec.hash for run in spelled_out]
    assert base[0].folder("r").path != spelled_out[0].folder("r").path  # the suite names the place, not the identity


@pytest.mark.parametrize(
    "change",
    [
        {"budget": 1920},
        {"batch": 64},
        {"flip": True},
        {"threads": 2},
        {"ema": {"half_life": 0.2}},
        {"dropout": 0.1},
        {"optimizer": {"lr": 2e-3, "betas": [0.9, 0.99], "weight_decay": 0.03, "warmup": 0.1}},
        {"arms": ["none", "learnable(r=2)"]},
        {"diffusion": {"beta_max": 19.0}},
        {"device": "cuda"},
        {"device": "cuda", "precision": "bf16"},
        {"tf32": True},
        {"attention": "math"},
        {"cudnn_benchmark": True},
        {"optimizer": {"lr": 1e-3, "half_lives": [0.1, 0.2], "weight_decay": 0.03, "warmup": 0.1}},
        {
            "evaluation": {
                "count": 4,
                "samples": 192,
                "sampler": "dpmpp-2m",
                "steps": 2,
                "extractor": "small-conv",
                "repeats": 2,
            }
        },
    ],
)
def test_whatever_can_change_a_result_changes_the_identity(tiny, change):
    before, after = (plan(suite_file.load(tiny(**c)))[-2] for c in ({}, change))
    assert before.spec.hash != after.spec.hash


def test_the_method_text_names_every_parameter():
    run = next(run for run in plan(suite_file.load("quick")) if run.label == "constant")
    assert run.spec.method_text.startswith("constant(") and "kappa=0.5" in run.spec.method_text


def test_filters():
    runs = plan(suite_file.load("quick"))
    assert len(select(runs, None)) == 72
    assert len(select(runs, "method=none,seed=0,role=paired")) == len(select(runs, "role=floor,seed=0")) == 2
    assert len(select(runs, "method=learnable")) == len(select(runs, "method=learnable(r=4)")) == 12
    assert len(select(runs, "seed=0,seed=1,backbone=uvit-xs,role=paired")) == 8
    assert len(select(runs, f"run={runs[7].id}")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method", "'method' is unknown; choose from dataset=..."),
        ("arm=none", "'arm=none' is unknown"),
        ("method=lernable", "names no run; choose from method: constant, inv_sqrt2, learnable"),
        ("seed=99", "seed: 0, 1, "),
    ],
)
def test_a_filter_that_names_nothing_says_what_there_is(text, message):
    with pytest.raises(BadInput, match=message):
        select(plan(suite_file.load("quick")), text)


def test_folders_have_tame_names_and_specs_are_strict_json(tiny):
    for run in plan(suite_file.load(tiny(arms=["none", "constant(kappa=0.7)"]))):
        assert all(c.isalnum() or c in "-." for c in run.id)
        assert RunSpec.model_validate(json.loads(json.dumps(run.config, allow_nan=False))["spec"]) == run.spec


def test_seeds_never_change_after_the_first_run(tiny, tmp_path):
    suite, sweep = suite_file.load(tiny()), SweepFolder(tmp_path, "tiny")
    sweep.publish(suite, plan(suite))
    other = suite_file.load(tiny(seeds={"paired": [0, 1, 3], "pilots": [100, 101, 102]}))
    sweep.publish(other, plan(other))  # nothing has run yet
    folder = plan(other)[0].folder(tmp_path)
    folder.path.mkdir()
    folder.events.touch()
    with pytest.raises(BadInput, match=r"seeds.paired: \[0, 1, 2\] differs from \[0, 1, 3\]"):
        sweep.publish(suite, plan(suite))


def test_a_folder_of_another_configuration_is_refused(tiny, tmp_path):
    run = plan(suite_file.load(tiny()))[0]
    folder = run.folder(tmp_path)
    folder.ensure_config(run.config)
    folder.ensure_config(run.config)
    other = dataclasses.replace(run, spec=run.spec.but(batch=64))
    assert other.id != run.id
    with pytest.raises(ValueError, match="belongs to another configuration"):
        folder.ensure_config(other.config)


def test_only_brings_its_pilots_with_it(tiny):
    runs = plan(suite_file.load(tiny()))
    roles = [
        Counter(run.role for run in with_pilots(runs, select(runs, only)))
        for only in ("method=none,seed=0", "seed=100")
    ]
    assert roles == [{"pilot": 3, "paired": 1}, {"pilot": 1}]


CHANGES = {
    "dataset": "shapes",
    "backbone": "unet-xs",
    "method": {"name": "constant", "kappa": 0.5},
    "seed": 7,
    "perturbation": 1e-6,
    "budget": 1920,
    "batch": 64,
    "optimizer": {"lr": 1e-3, "betas": [0.9, 0.999], "weight_decay": 0.03, "warmup": 0.1},
    "ema": {"half_life": 0.2},
    "flip": True,
    "unconditional": 0.1,
    "dropout": 0.0,
    "diffusion": {"beta_max": 19.0},
    "evaluation": None,
    "device": "cuda",
    "precision": "bf16",
    "tf32": True,
    "attention": "math",
    "cudnn_benchmark": True,
    "compile": True,
    "channels_last": True,
    "threads": 2,
}


@pytest.mark.parametrize("key", RunSpec.model_fields)
def test_every_key_of_a_specification_moves_the_identity(tiny, key):
    spec = plan(suite_file.load(tiny(compile=False, channels_last=False, precision="fp32")))[0].spec
    change = CHANGES[key] if key != "evaluation" else spec.evaluation.model_dump() | {"end": 1e-4}
    changed = spec.but(**{key: change})
    assert changed.hash != spec.hash and changed.but(**{key: getattr(spec, key)}).hash == spec.hash


@pytest.mark.parametrize(
    "change",
    [{"processes": 2}, {"accumulate": 2}, {"checkpointing": True}, {"checkpoints": 3}, {"probes": True}],
    ids=str,
)
def test_how_a_run_is_computed_and_watched_is_no_part_of_its_identity(tiny, change):
    plain, other = plan(suite_file.load(tiny())), plan(suite_file.load(tiny(**change)))
    assert [run.id for run in plain] == [run.id for run in other] and [run.config for run in plain] == [
        run.config for run in other
    ]
    assert other[0].execution == plain[0].execution.model_copy(update=change)


def test_a_specification_is_frozen_and_strict(tiny):
    spec = plan(suite_file.load(tiny()))[0].spec
    for change, message in (
        ({"seed": "0"}, "seed"),
        ({"precision": "fp8"}, "precision"),
        ({"sed": 1}, "sed"),
        ({"budget": 0}, "budget"),
    ):
        with pytest.raises(ValueError, match=message):
            spec.but(**change)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 1
    assert spec.steps == 30 and spec.cell == "digits/uvit-xs"
    assert all(run.spec.perturbation == 0 for run in plan(suite_file.load(tiny())) if run.role != "floor")


def test_looks_say_when_a_pair_is_used_and_leave_the_null_arm_at_the_first():
    """And change nothing of what a run is: the first look of quick-decided is quick."""
    runs, quick = (plan(suite_file.load(name)) for name in ("quick-decided", "quick"))
    first = [run for run in runs if not run.look]
    assert [run.id for run in first] == [run.id for run in quick] and not any(run.look for run in quick)
    pairs = {run.pair: run.look for run in runs if run.role == "paired"}
    assert Counter(pairs.values()) == {0: 6, 1: 6, 2: 12} and list(pairs) == sorted(pairs)
    assert len([run for run in runs if run.role == "null"]) == 12


def test_a_suite_without_further_extractors_keeps_its_identities(tiny):
    def spec(**more):
        return plan(suite_file.load(tiny(evaluation=TINY["evaluation"] | {"samples": 4096, **more})))[0].spec

    plain, empty, other = spec(), spec(beside=[]), spec(beside=["inception"])
    assert "beside" not in plain.model_dump(mode="json")["evaluation"] and plain.hash == empty.hash != other.hash
    assert RunSpec.model_validate(other.model_dump(mode="json")).evaluation.beside == ["inception"]
