"""Every way of computing agrees with plain fp32, and what a suite leaves open is filled in from a table."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch

import models
from bench.planning import plan as planning
from bench.planning.plan import PLAIN, plan, resolved
from bench.planning.suite_file import load
from bench.training.trainer import Trainer
from reports.records.run_folder import RunFolder

COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def trainer_of(run, folder, data, execution=None, **changes):
    """A trainer of the run with another way of computing."""
    execution = run.execution.model_copy(update=execution)
    run = dataclasses.replace(run, spec=run.spec.but(**changes), execution=execution)
    folder.mkdir()
    return Trainer(run, RunFolder(folder), data)


def losses(run, folder, data, steps=20, execution=None, **changes):
    trainer = trainer_of(run, folder, data, execution, **changes)
    trainer._compile()
    found = [float(trainer.step()) for _ in range(steps)]
    trainer.log.close()
    return found


@pytest.mark.parametrize("backbone", ["uvit-xs", "unet-xs"])
@pytest.mark.parametrize(
    ("keys", "execution", "bound"),
    [
        ({"precision": "bf16"}, {}, 0.01),
        ({"channels_last": True}, {}, 1e-4),
        ({}, {"checkpointing": True}, 0.0),
        ({}, {"accumulate": 4}, 1e-4),
        pytest.param({"compile": True}, {}, 0.01, marks=COMPILER),
    ],
    ids=["bf16", "channels-last", "checkpointing", "accumulate", "compile"],
)
def test_a_choice_agrees_with_plain_fp32_over_twenty_steps(tiny, tmp_path, data, backbone, keys, execution, bound):
    if "compile" in keys and backbone == "unet-xs":
        pytest.skip("one: compiling takes a minute")
    run = plan(load(tiny(cells=[{"dataset": "digits", "backbone": backbone}], dropout=0.0)))[0]
    plain = losses(run, tmp_path / "a", data, **PLAIN)  # whatever the table holds for this preset
    other = losses(run, tmp_path / "b", data, execution=execution, **PLAIN | keys)
    assert max(abs(a / b - 1) for a, b in zip(other, plain, strict=True)) <= bound
    assert (other != plain) is (bound > 0)  # the choice was taken


@pytest.mark.parametrize("attention", ["auto", "fp32"])
@pytest.mark.parametrize("backbone", ["uvit-xs", "unet-xs"])
def test_attention_is_in_fp32_under_bf16_where_the_suite_says_so(tiny, tmp_path, data, backbone, attention):
    """Of every layer in a training step: what goes into `proj` is the plain softmax of what comes out of `qkv`."""
    cells = [{"dataset": "digits", "backbone": backbone}]
    run = plan(load(tiny(cells=cells, precision="bf16", attention=attention)))[0]
    trainer, seen = trainer_of(run, tmp_path / "a", data), []

    @torch.autocast("cpu", enabled=False)
    def check(layer, before, mixed):
        q, k, v = (x.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for x in before.float().chunk(3, dim=-1))
        plain = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        seen.append((mixed.dtype, torch.allclose(mixed.float(), plain, rtol=1e-5, atol=1e-6)))

    for layer in [module for module in trainer.model.modules() if hasattr(module, "qkv")]:
        layer.qkv.register_forward_hook(lambda qkv, _, out: setattr(qkv, "seen", out.detach()))
        layer.proj.register_forward_pre_hook(lambda _, x, layer=layer: check(layer, layer.qkv.seen, x[0].detach()))
    assert torch.isfinite(trainer.step())
    assert set(seen) == {(torch.float32, True) if attention == "fp32" else (torch.bfloat16, False)}


def test_recomputation_keeps_the_masks_of_dropout(tiny, tmp_path, data):
    run = plan(load(tiny(dropout=0.3)))[0]
    again = losses(run, tmp_path / "b", data, 5, {"checkpointing": True})
    assert losses(run, tmp_path / "a", data, 5) == again


def test_recomputation_keeps_less(tiny, tmp_path, data):
    run = plan(load(tiny()))[0]

    def kept(folder, **execution):
        sizes = []
        trainer = trainer_of(run, folder, data, execution)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.nbytes), t)[1], lambda t: t):
            batch = trainer.batch()
            trainer.model(batch.x, batch.t)
        return sum(sizes)

    assert kept(tmp_path / "b", checkpointing=True) < kept(tmp_path / "a") / 2


def test_what_a_suite_leaves_open_is_filled_in_from_the_table(tiny, monkeypatch):
    table = {"uvit-xs": {"cpu": {"precision": "bf16", "compile": True}}}
    monkeypatch.setattr(planning, "COMPUTE_DEFAULTS", table)
    spec = plan(load(tiny()))[0].spec
    assert (spec.precision, spec.compile, spec.channels_last) == ("bf16", True, False)
    spec = plan(load(tiny(precision="fp32", compile=False)))[0].spec
    assert (spec.precision, spec.compile) == ("fp32", False)


def test_the_table_names_presets_and_choices():
    for preset, devices in planning.COMPUTE_DEFAULTS.items():
        assert preset in models.presets() and set(devices) <= {"cpu", "cuda"}
        assert all(set(choice) <= set(PLAIN) for choice in devices.values())
    assert resolved("no preset", "cpu", dict.fromkeys(PLAIN)) == PLAIN
