"""Probes: known answers, and a run that does not notice them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.func import jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

import models
from bench.diffusion.batches import Batch
from bench.diffusion.random_streams import RandomStreams
from bench.diffusion.schedules import schedule
from bench.planning import suite_file
from bench.planning.plan import plan
from bench.runs.run_spec import Diffusion
from bench.training.probes import HISTORY, POINTS, WINDOW, Probes, oscillation, probed_steps, response
from bench.training.trainer import Trainer, train_run

CELL = [{"dataset": "digits", "backbone": "unet-xs"}, {"dataset": "digits", "backbone": "uvit-xs"}]
LONG_ENOUGH = {"budget": 640, "checkpoints": 2, "cells": CELL}


def events(run, root):
    return [json.loads(line) for line in run.folder(root).events.read_text().splitlines()]


def timeless(log):
    """Events without what differs between two runs of the same bits."""
    clocks = ("time", "git", "code")
    kept = [event for event in log if event["event"] != "resume"]
    return [{k: v for k, v in event.items() if k not in clocks and not k.endswith("seconds")} for event in kept]


def weights(run, root):
    return load_file(run.folder(root).weights)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("index", [0, 1, 6, 7], ids=["unet", "uvit", "unet-other", "uvit-other"])
def test_a_run_does_not_notice_its_probes(tiny, tmp_path, data, index):
    """Same identity, same weights, same events but for the probes themselves."""
    suites = {name: tiny(name=name, probes=name == "with", dropout=0.1, **LONG_ENOUGH) for name in ("with", "without")}
    runs = {name: plan(suite_file.load(suite))[index] for name, suite in suites.items()}
    assert runs["with"].spec.hash == runs["without"].spec.hash
    for run in runs.values():
        train_run(run, tmp_path, data)
    assert equal(*(weights(run, tmp_path) for run in runs.values()))
    logs = [timeless(events(run, tmp_path)) for run in runs.values()]
    kept = [[e for e in log if e["event"] in ("train", "eval")] for log in logs]
    assert kept[0] == kept[1]
    found = [e for e in logs[0] if e["event"] == "probe" and e["probe"] != "evaluation_noise"]
    check_norms(runs["with"], [e for e in found if e["probe"] == "norms"])
    skips = len(models.build(runs["with"].spec.backbone).decoder)
    responses = [e for e in found if e["probe"] == "response"]
    assert len(responses) == 2 and all(len(e["shares"]) == skips for e in responses)
    expected = {"feature_oscillation", "gradient_oscillation", "input_sensitivity", "loss_spikes"}
    assert {e["probe"] for e in found} >= expected
    result = json.loads(runs["with"].folder(tmp_path).result.read_text())
    assert {probe["probe"] for probe in result["probes"]} >= expected
    check_ends({probe["probe"]: probe for probe in result["probes"]}, [e for e in found if e["probe"] == "norms"])


@pytest.mark.parametrize("method", ["plain", "none", "norm_cat"])
def test_a_dit_measures_itself_too(tiny, tmp_path, data, method):
    """It has no middle; its positions have no gradient; its skips make nothing of a plain one."""
    cells = [{"dataset": "digits", "backbone": "dit-xs"}]
    changes = {"arms": list(dict.fromkeys(["plain", method])), "baseline": "plain", "cells": cells}
    run = [
        run
        for run in plan(suite_file.load(tiny(probes=True, budget=640, checkpoints=2, **changes)))
        if run.role == "paired"
    ]
    run = next(one for one in run if one.label == method)
    train_run(run, tmp_path, data)
    start, *log = events(run, tmp_path)
    norms, responses = ([e for e in log if e.get("probe") == kind] for kind in ("norms", "response"))
    assert len(norms) == 20 and len(norms[0]["features"]) == 4 and norms[0]["gradients"]["middle"] == []
    assert all(share == 0 if method == "plain" else share > 0 for share in responses[-1]["shares"])
    assert start["backbone_params"] == 126_592 and start["kappas"] == ([1.0] * 4 if method == "none" else None)


def check_norms(run, norms):
    skips = len(models.build(run.spec.backbone).decoder)
    assert len(norms) == 20 and all(len(e["features"]) == len(e["gradients"]["decoder"]) == skips for e in norms)
    assert all(0 < e["update"] < 1 and e["gradient"] > 0 for e in norms)
    assert all(list(e["gradients"]) == ["encoder", "middle", "decoder"] and e["gradients"]["middle"] for e in norms)
    for event in norms:  # a few layers are in no block
        assert sum(g**2 for part in event["gradients"].values() for g in part) <= event["gradient"] ** 2
    assert ("gates" in norms[0]) == run.label.startswith("learnable")
    for event in norms if "gates" in norms[0] else ():
        assert len(event["gates"]) == skips and all(0 < low <= mid <= high < 1 for low, mid, high in event["gates"])


def check_ends(ends, norms):
    series = np.array([e["features"] for e in norms])
    assert ends["feature_oscillation"]["blocks"] == oscillation(series).tolist()
    assert len(ends["feature_norm"]["blocks"]) == series.shape[1]
    relative = (oscillation(series) / series[10:].mean(0)).mean()
    assert ends["feature_oscillation_relative"]["value"] == pytest.approx(relative)
    blocks = sum(len(part) for part in norms[0]["gradients"].values())
    assert len(ends["gradient_oscillation"]["blocks"]) == blocks and ends["loss_spikes"]["largest"] >= 1
    assert ends["gradient_norm"]["value"] == pytest.approx(np.mean([e["gradient"] for e in norms[10:]]))


def test_a_resumed_run_has_the_same_probes(tiny, tmp_path, data, monkeypatch):
    run = plan(suite_file.load(tiny(probes=True, **LONG_ENOUGH)))[1]
    train_run(run, tmp_path / "calm", data)
    step, seen = Trainer.step, []

    def stumble(self):
        seen.append(1)
        if len(seen) == 15:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", stumble)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, tmp_path / "storm", data)
    monkeypatch.undo()
    train_run(run, tmp_path / "storm", data)
    assert timeless(events(run, tmp_path / "calm")) == timeless(events(run, tmp_path / "storm"))
    assert equal(weights(run, tmp_path / "calm"), weights(run, tmp_path / "storm"))


def test_the_worst_direction_of_a_linear_map():
    """Its largest singular value; a random direction is below it."""
    bits = torch.Generator().manual_seed(0)
    a = torch.randn(12, 12, generator=bits)

    def f(y):
        return (y.flatten(1) @ a.T).view_as(y)

    x, d = torch.randn(3, 3, 2, 2, generator=bits), torch.randn(3, 3, 2, 2, generator=bits)
    largest = float(torch.linalg.matrix_norm(a, 2))
    found = {k: response(f, x, d, iterations=k) for k in (1, 2, 4, 8, 30)}
    worst = [one["worst"] for one in found.values()]
    assert worst == sorted(worst) and worst[-1] <= largest * (1 + 1e-5)
    assert worst[-1] == pytest.approx(largest, rel=1e-5) and worst[-2] == pytest.approx(largest, rel=1e-2)
    assert 0 < found[30]["random"] < largest


def test_the_worst_direction_of_a_network():
    """The largest singular value of its Jacobian, to 1 % in the iterations that a run takes."""
    model = models.build("uvit-xs", seeds=(3, 3)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # as far from its start as training takes it
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    x, t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((4,), 500.0)
    with sdpa_kernel(SDPBackend.MATH):
        jacobians = [jacrev(lambda y: model(y[None], t[:1])[0].flatten())(one).flatten(1).detach() for one in x]
        found = response(lambda y: model(y, t), x, torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    exact = float(np.mean([float(torch.linalg.matrix_norm(j, 2)) for j in jacobians]))
    assert 0.99 * exact < found["worst"] <= exact * (1 + 1e-4)


@pytest.mark.parametrize("rank", [0, 1])
def test_directions_run_out(rank):
    """A Jacobian of fewer ranks than iterations: no direction is made of rounding errors."""
    u = torch.ones(1, 1, 2, 2)
    found = response(
        lambda y: rank * (y * u).sum((1, 2, 3), keepdim=True) * u, torch.ones(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    )
    assert found["worst"] == pytest.approx(4 * rank, rel=1e-5)


def test_scaling_the_map_scales_the_response():
    x, d = torch.ones(2, 1, 2, 2), torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    found = response(lambda y: 3 * y, x, d)
    assert found["random"] == pytest.approx(3, rel=1e-4) and found["worst"] == pytest.approx(3, rel=1e-5)


def test_a_run_that_explodes_while_it_is_probed_ends_as_diverged(tiny, tmp_path, data, monkeypatch):
    """Norms that are not finite are strings in the log, and the numbers at the end are made from it."""
    run = plan(suite_file.load(tiny(probes=True, **LONG_ENOUGH)))[0]
    rate = Trainer.learning_rate
    monkeypatch.setattr(Trainer, "learning_rate", lambda self: 1e20 if self.images // 32 == 18 else rate(self))
    assert train_run(run, tmp_path, data) == "diverged"
    norms = [e for e in events(run, tmp_path) if e.get("probe") == "norms"]
    assert len(norms) >= 2 * WINDOW and isinstance(norms[-1]["gradient"], str)
    assert json.loads(run.folder(tmp_path).result.read_text())["status"] == "diverged"


def test_oscillation_of_known_series():
    flat = np.full((4 * WINDOW, 1), 7.0)
    zigzag = np.tile([[1.0], [3.0]], (2 * WINDOW, 1))
    both = oscillation(np.concatenate([flat, zigzag, 10 * zigzag], axis=1))
    assert both.tolist() == [0.0, 1.0, 10.0]  # half of 3 - 1
    early = flat.copy()
    early[: 2 * WINDOW] = 99.0
    assert oscillation(early)[0] == 0.0  # only the second half counts
    with pytest.raises(ValueError, match="points are too few"):
        oscillation(flat[:WINDOW])
    drift = np.arange(4.0 * WINDOW)[:, None]
    assert oscillation(drift)[0] == (WINDOW - 1) / 2 and oscillation(drift, detrend=True)[0] == pytest.approx(
        0, abs=1e-9
    )
    assert (
        oscillation(5 * drift + zigzag, detrend=True)[0]
        == pytest.approx(oscillation(zigzag, detrend=True)[0], rel=1e-9)
        != 0
    )


@pytest.mark.parametrize("steps", [1, 3, 63, 64, 65, 400, 500_000])
def test_the_first_and_the_last_step_are_probed(steps):
    found = sorted(probed_steps(steps))
    assert found[0] == 1 and found[-1] == steps and len(found) == min(steps, POINTS)


def probes(method="none"):
    model, streams = models.build("uvit-xs", method, seeds=(0, 0)), RandomStreams("digits", "uvit-xs", None)
    return Probes(model, schedule(Diffusion()), streams, 640, 32)


def test_spikes_are_counted_by_the_rule():
    found, bits = probes(), np.random.default_rng(0)
    for _ in range(HISTORY):
        found.loss(1 + 0.01 * float(bits.standard_normal()))
    assert found.spikes == []
    found.loss(1.02)
    found.loss(3.0)
    assert len(found.spikes) == 1 and found.spikes[0] == pytest.approx(3, rel=0.02)
    other = probes()
    other.restore(json.loads(json.dumps(found.state)))
    other.loss(3.0)
    found.loss(3.0)
    assert other.state == found.state and len(found.spikes) == 2


def test_the_share_of_a_skip_that_is_multiplied_by_nothing_is_nothing():
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    nothing, plain, scaled = (probes(m).shares(x, None) for m in ("no_skip", "none", "constant(kappa=0.5)"))
    assert nothing == [0.0] * 4
    assert len(plain) == 4 and all(0 < value < 2 for value in plain)
    assert plain[0] == pytest.approx(scaled[0], rel=0.2) and scaled[-1] < 0.5 * plain[-1]  # kappa^0 and kappa^3


@pytest.mark.parametrize("training", [True, False])
def test_a_response_leaves_the_mode_and_the_methods_of_a_model_as_they_were(training):
    found, x = probes(), torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found.model.train(training)
    batch = Batch(x, torch.rand(2), torch.randn_like(x), None, b"")
    first = found.response(batch)
    assert found.model.training is training and "join" not in vars(found.model.scaling)
    assert not torch.nn.modules.module._global_forward_hooks
    again = found.response(batch)
    assert {**first, "probe_seconds": 0} == {**again, "probe_seconds": 0} and first["probe_seconds"] > 0
    assert first["value"] == pytest.approx(np.prod([level["worst"] for level in first["levels"]]) ** (1 / 3))
    found.schedule = None
    with pytest.raises(AttributeError):
        found.response(batch)
    assert found.model.training is training


def test_probes_are_refused_where_hooks_do_not_reach(tiny):
    with pytest.raises(ValueError, match="probes: True does not fit"):
        suite_file.load(tiny(probes=True, compile=True))
