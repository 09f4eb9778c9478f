"""What a run measures of itself: norms, gradients, gates, spikes and the response to a perturbed input.

ScaleLong (arXiv 2310.13545) argues that skip coefficients govern how far these swing. Nothing here draws from a
training stream or changes a weight: a run with probes ends with the bits of one without, and its identity is the same.

    norms         at POINTS steps, on the training clock, the first among them, whose forward pass has the initial
                  weights: ||h|| of every decoder block's output (mean over images),
                  gradient norm per block (encoder, middle, decoder; each shallowest first) and in total, ||dw|| / ||w||,
                  gates of LS (10, 50, 90 % per skip)
    response      at checkpoints, off the clock: ||f(x + d) - f(x)|| / ||d|| at LEVELS of noise, for a random direction
                  and for the worst one (power iteration on J^T J); the share of each decoder block that its skip makes
    feature_norm, gradient_oscillation, loss_spikes, ...      at the end: one number, which claims compare, and its
                  like for each block (of features: shallowest first; of gradients: encoder, middle, decoder)

Oscillation of a series: the mean, over windows of WINDOW consecutive points of its second half, of (largest - least) / 2.
A norm that grows has a band without swinging; detrended: the same after each window's least-squares line is taken away.
A spike: a step's loss above the median of the HISTORY steps before it by more than SPIKE robust standard deviations
(1.4826 times the median distance from the median); its size is loss / median.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.diffusion.batches import Batch
from bench.diffusion.schedules import Schedule
from bench.diffusion.random_streams import Streams
from models.scaling import Calibration, joined_by
from reports.records.reading import WINDOW

POINTS = 64  # one probed step costs a seventh more than a plain one: 2.3 % of a run of 400 steps, nothing of a long one
HISTORY, SPIKE = 50, 6.0
LEVELS = (0.1, 0.5, 0.9)  # times t of the diffusion
IMAGES = 8  # in a response
STEP = 0.01  # ||d|| / ||x|| of a random direction
ITERATIONS = 8  # of the power method
PARTS = ("encoder", "middle", "decoder")  # of a backbone: tuples of blocks


class Probes:
    """The probes of one run. `state` goes into its checkpoints."""

    def __init__(self, model: nn.Module, schedule: Schedule, streams: Streams, budget: int, batch: int) -> None:
        self.model, self.schedule, self.streams = model, schedule, streams
        steps = budget // batch
        self.points = {step * batch for step in probed_steps(steps)}
        self.history: list[float] = []
        self.spikes: list[float] = []
        # Once: to walk the modules costs a tenth of what a probed step costs.
        self.weights = list(model.parameters())
        places = {weight: index for index, weight in enumerate(self.weights)}
        self.blocks = {part: [[places[weight] for weight in block.parameters()] for block in getattr(model, part)] for part in PARTS}

    @property
    def state(self) -> dict[str, list[float]]:
        """What a resumed run needs."""
        return {"history": list(self.history), "spikes": list(self.spikes)}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Go on from a checkpoint."""
        self.history, self.spikes = list(state["history"]), list(state["spikes"])

    def loss(self, value: float) -> None:
        """Count a spike, if the loss of a step is one."""
        if len(self.history) == HISTORY:
            middle = median(self.history)
            spread = 1.4826 * median([abs(other - middle) for other in self.history])
            if value > middle + SPIKE * spread:
                self.spikes.append(value / middle)
        self.history = [*self.history[-HISTORY + 1:], value]

    def watch(self) -> Watch:
        """The probe of one step."""
        return Watch(self)

    # Off the clock ----------------------------------------------------------------------------------------------------

    def response(self, batch: Batch) -> dict[str, Any]:
        """The fields of a `response` event, on the first images of a batch."""
        began = time.perf_counter()
        x, condition = batch.x[:IMAGES], None if batch.condition is None else batch.condition[:IMAGES]
        training = self.model.training
        self.model.eval()
        try:
            found = [self._level(x, condition, level) for level in range(len(LEVELS))]
            shares = self._shares(x, condition)
        finally:
            self.model.train(training)
        worst = float(np.exp(np.mean([np.log(one["worst"]) for one in found])))
        return {"value": worst, "levels": found, "shares": shares, "probe_seconds": time.perf_counter() - began}

    def _noisy(self, x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """(x_t, network times): the same noise for every arm and checkpoint."""
        t = torch.full((len(x),), LEVELS[level], device=x.device)
        noise = torch.randn(x.shape, generator=self.streams.generator("probe", level)).to(x.device)
        alpha, sigma = (value.view(-1, 1, 1, 1).to(x) for value in (self.schedule.alpha(t), self.schedule.sigma(t)))
        return alpha * x + sigma * noise, self.schedule.network_time(t)

    def _level(self, x: Tensor, condition: Tensor | None, level: int) -> dict[str, float]:
        x, t = self._noisy(x, level)
        d = torch.randn(x.shape, generator=self.streams.generator("probe", level, 1)).to(x)
        # The written-out attention: the fused kernels have no forward-mode derivative.
        with sdpa_kernel(SDPBackend.MATH):
            return {"t": LEVELS[level], **response(lambda y: self.model(y, t, condition), x, d)}

    @torch.no_grad()
    def _shares(self, x: Tensor, condition: Tensor | None) -> list[float]:
        """Per skip, shallowest first: ||B(join(h, s)) - B(join(h, 0))|| / ||B(join(h, s))||, B the decoder block."""
        x, t = self._noisy(x, len(LEVELS) // 2)
        scaling, shares = self.model.scaling, []
        blocks = {where: block for where, block in zip(self.model.wheres, self.model.decoder, strict=True)}
        joined: dict[Any, Tensor] = {}

        def join(trunk: Tensor, s: Tensor, where: Any) -> Tensor:
            joined[where] = type(scaling).join(scaling, trunk, torch.zeros_like(s), where)
            return type(scaling).join(scaling, trunk, s, where)

        def share(where: Any) -> Callable:
            def hook(block: nn.Module, inputs: tuple, output: Tensor) -> None:
                if (without := joined.pop(where, None)) is not None:  # the second call is our own
                    other = block(without, *inputs[1:])
                    shares.append((where.index, float((output - other).norm() / output.norm())))
            return hook

        with ExitStack() as stack:
            for where, block in blocks.items():
                stack.callback(block.register_forward_hook(share(where)).remove)
            with joined_by(scaling, join):
                self.model(x, t, condition)
        return [value for _, value in sorted(shares)]

    def conclude(self, events: Sequence[dict]) -> Iterator[dict[str, Any]]:
        """The one-number probes at the end of a run, from its own log."""
        norms = [event for event in events if event["event"] == "probe" and event["probe"] == "norms"]
        if len(norms) >= 2 * WINDOW:
            # float: what is not finite is a string in the log.
            features = np.array([event["features"] for event in norms], dtype=float)
            gradients = np.array([[gradient for part in PARTS for gradient in event["gradients"][part]] for event in norms], dtype=float)
            whole = np.array([[event["gradient"], event["update"]] for event in norms], dtype=float)
            yield from _bands("feature", features, features)
            yield from _bands("gradient", gradients, whole[:, :1])
            yield {"probe": "update_ratio", "value": float(_late(whole)[1])}
        responses = [event for event in events if event["event"] == "probe" and event["probe"] == "response"]
        if responses:
            yield {"probe": "input_sensitivity", "value": responses[-1]["value"]}
        yield {"probe": "loss_spikes", "value": float(len(self.spikes)), "largest": max(self.spikes, default=1.0)}


class Watch:
    """One probed step: `with watch.forward(): ...`, then after the backward pass and after the optimizer's step."""

    def __init__(self, probes: Probes) -> None:
        self.model, self.weights, self.blocks = probes.model, probes.weights, probes.blocks
        self.features: dict[int, Tensor] = {}
        self.gates: list[Tensor] = []
        self.found: dict[str, Any] = {}

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Hooks on the decoder blocks and the calibration nets; gone afterwards."""
        with ExitStack() as stack:
            for index, block in enumerate(self.model.decoder):
                stack.callback(block.register_forward_hook(self._feature(index)).remove)
            for module in self.model.scaling.modules():
                if isinstance(module, Calibration):
                    stack.callback(module.register_forward_hook(self._gate).remove)
            yield

    def _feature(self, index: int) -> Callable:
        def hook(block: nn.Module, inputs: tuple, output: Tensor) -> None:
            self.features[index] = output.detach().flatten(1).float().norm(dim=1).mean()
        return hook

    def _gate(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.gates.append(output.detach().float().flatten())

    def after_backward(self) -> None:
        """Gradient norms, and the weights as they were."""
        squares = torch.stack(torch._foreach_norm([p.grad for p in self.weights])).double().square().tolist()
        self.found["gradients"] = {part: [math.sqrt(math.fsum(squares[index] for index in block)) for block in blocks]
                                   for part, blocks in self.blocks.items()}
        self.found["gradient"] = math.sqrt(math.fsum(squares))
        self.before = torch._foreach_add([p.detach() for p in self.weights], 0.0)  # a copy, in one call

    def after_step(self) -> dict[str, Any]:
        """The fields of a `norms` event. Decoder blocks and gates shallowest first."""
        weights = [p.detach() for p in self.weights]
        torch._foreach_sub_(self.before, weights)
        self.found["update"] = float(_norm(self.before) / _norm(weights))
        self.found["features"] = torch.stack([self.features[index] for index in sorted(self.features)]).tolist()
        if self.gates:  # joined deepest first
            levels = torch.tensor([0.1, 0.5, 0.9])
            last = self.gates[-len(self.model.wheres):]  # of the last part of a batch, as the features are
            self.found["gates"] = [torch.quantile(gate.cpu(), levels).tolist() for gate in reversed(last)]
        return self.found


def _late(series: np.ndarray) -> np.ndarray:
    """The mean of the second half, per column."""
    return series[len(series) // 2:].mean(0)


def _bands(name: str, blocks: np.ndarray, shown: np.ndarray) -> Iterator[dict[str, Any]]:
    """Norm and oscillation of series (points, columns), those of each block beside them; relative: oscillation / norm."""
    yield {"probe": f"{name}_norm", "value": float(_late(shown).mean()), "blocks": _late(blocks).tolist()}
    yield {"probe": f"{name}_oscillation", "value": float(oscillation(shown).mean()), "blocks": oscillation(blocks).tolist()}
    yield {"probe": f"{name}_oscillation_relative", "value": float((oscillation(shown) / _late(shown)).mean())}
    yield {"probe": f"{name}_oscillation_detrended", "value": float(oscillation(shown, detrend=True).mean())}


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).norm()


def probed_steps(steps: int) -> set[int]:
    """At which of 1 .. steps norms are probed: POINTS evenly from the first to the last; all where there are no more."""
    points = min(POINTS, steps)
    return {1 + k * (steps - 1) // max(1, points - 1) for k in range(points)}


def oscillation(series: np.ndarray, detrend: bool = False) -> np.ndarray:
    """Per column of (points, columns): see the head of this file. ValueError for fewer than 2 WINDOW points."""
    if len(series) < 2 * WINDOW:
        raise ValueError(f"series: {len(series)} points are too few; at least {2 * WINDOW}")
    late = series[len(series) // 2:]
    windows = np.lib.stride_tricks.sliding_window_view(late, WINDOW, axis=0)
    if detrend:
        place = np.arange(WINDOW) - (WINDOW - 1) / 2
        windows = windows - (windows @ place / (place @ place))[..., None] * place
    return ((windows.max(-1) - windows.min(-1)) / 2).mean(0)


def response(f: Callable[[Tensor], Tensor], x: Tensor, d: Tensor, iterations: int = ITERATIONS) -> dict[str, float]:
    """||f(x + e) - f(x)|| / ||e||, the mean over images, for e along d with ||e|| = STEP ||x||, and for the worst direction.

    The worst: the largest singular value of the Jacobian J at each image, by power iteration on J^T J from d, the best
    direction in the span of all iterates (Lanczos): it approaches the value from below, and with 8 iterations lies within
    1 % of it where the last iterate alone is 5 % short. x, d: (B, C, H, W); f acts on each image alone.
    """
    from torch.func import jvp, vjp

    def size(y: Tensor) -> Tensor:
        return y.flatten(1).norm(dim=1)

    def shaped(y: Tensor) -> Tensor:
        return y.view(-1, 1, 1, 1)

    small = d / shaped(size(d)) * shaped(size(x)) * STEP
    with torch.no_grad():
        random = (size(f(x + small) - f(x)) / size(small)).mean()
    v = d.flatten(1) / size(d)[:, None]
    basis, images = [], []
    _, back = vjp(f, x)
    for _ in range(iterations):
        _, forward = jvp(f, (x,), (v.view_as(x),))
        basis.append(v)
        images.append(forward.detach().flatten(1))
        v = _orthogonal(back(forward)[0].detach().flatten(1), torch.stack(basis, 1))
    mapped = torch.stack(images, 1).double()
    worst = torch.linalg.matrix_norm(mapped, 2)  # J on the span, whose basis is orthonormal
    return {"random": float(random), "worst": float(worst.mean())}


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """The unit vector along what of w (B, n) is orthogonal to `basis` (B, k, n); 0 where that is rounding only."""
    length = w.norm(dim=1, keepdim=True)
    for _ in range(2):  # once leaves rounding errors of the order of what was taken away
        w = w - torch.einsum("bk,bkn->bn", torch.einsum("bn,bkn->bk", w, basis), basis)
    left = w.norm(dim=1, keepdim=True)
    return torch.where(left > 1e-5 * length, w / left.clamp_min(1e-30), 0.0)
