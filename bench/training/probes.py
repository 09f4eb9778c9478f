"""What a run measures of itself: norms, gradients, gates, spikes and the response to a perturbed input.

ScaleLong (arXiv 2310.13545) argues that skip coefficients govern how far these swing. Nothing here draws from a
training stream or changes a weight: a run with probes ends with the bits of one without, and its identity is the same.

    norms         at POINTS steps, the first among them, on the training clock: ||h|| of every decoder block's output
                  (mean over images), gradient norm per block (encoder, middle, decoder; each shallowest first) and in
                  total, ||dw|| / ||w||, gates of LS (10, 50, 90 % per skip)
    response      at checkpoints, off the clock: ||f(x + d) - f(x)|| / ||d|| at LEVELS of noise, for a random direction
                  and for the worst one (power iteration on J^T J); the share of each decoder block that its skip makes
    feature_norm, gradient_oscillation, loss_spikes, ...      at the end: one number, which claims compare, and its
                  like for each block (of features: shallowest first; of gradients: encoder, middle, decoder)

Oscillation of a series: the mean of (largest - least) / 2 over windows of WINDOW consecutive points of its second half.
A norm that grows has a band without swinging; detrended: the same after each window's least-squares line is taken away.
A spike: a step's loss above the median of the HISTORY steps before it by more than SPIKE robust standard deviations
(1.4826 times the median distance from the median); its size is loss / median.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import get_total_norm
from torch.utils.hooks import RemovableHandle

from bench.diffusion.batches import Batch
from bench.diffusion.random_streams import RandomStreams
from bench.diffusion.schedules import Schedule
from bench.evaluation.evaluator import evaluating
from models.scaling import Calibration, joined_by
from reports.records.reading import WINDOW

Array = NDArray[np.float64]

POINTS = 64  # one probed step costs a seventh more than a plain one: 2.3 % of a run of 400 steps, nothing of a long one
HISTORY, SPIKE = 50, 6.0
LEVELS = (0.1, 0.5, 0.9)  # times t of the diffusion
IMAGES = 8  # in a response
LENGTH = 0.01  # ||d|| / ||x|| of a random direction
ITERATIONS = 8  # of the power method
PARTS = ("encoder", "middle", "decoder")  # of a backbone: tuples of blocks
QUANTILES = (0.1, 0.5, 0.9)  # of gates


class Probes:
    """The probes of one run. `state` goes into its checkpoints."""

    def __init__(self, model: nn.Module, schedule: Schedule, streams: RandomStreams, budget: int, batch: int) -> None:
        self.model: Any = model
        self.schedule, self.streams = schedule, streams
        self.points = {step * batch for step in probed_steps(budget // batch)}
        self.history: list[float] = []  # the last losses
        self.spikes: list[float] = []  # sizes
        # Once: to walk the modules costs a tenth of what a probed step costs.
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.blocks = {part: [list(block.parameters()) for block in getattr(model, part)] for part in PARTS}

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
        self.history = [*self.history, value][-HISTORY:]

    def response(self, batch: Batch) -> dict[str, Any]:
        """The fields of a `response` event, on the first images of a batch; off the training clock."""
        began = time.perf_counter()
        x, condition = batch.x[:IMAGES], None if batch.condition is None else batch.condition[:IMAGES]
        with evaluating(self.model):
            levels = [self._level(x, condition, level) for level in range(len(LEVELS))]
            shares = self.shares(x, condition)
        worst = float(np.exp(np.mean(np.log([level["worst"] for level in levels]))))
        return {"value": worst, "levels": levels, "shares": shares, "probe_seconds": time.perf_counter() - began}

    def _noised(self, x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """(x_t, network times): the same noise for every arm and checkpoint."""
        t = torch.full((len(x),), LEVELS[level], device=x.device)
        noise = torch.randn(x.shape, generator=self.streams.generator("probe", level)).to(x)
        return self.schedule.noised(x, t, noise), self.schedule.network_time(t)

    def _level(self, x: Tensor, condition: Tensor | None, level: int) -> dict[str, float]:
        x, t = self._noised(x, level)
        d = torch.randn(x.shape, generator=self.streams.generator("probe", level, 1)).to(x)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no forward-mode derivative
            return {"t": LEVELS[level], **response(lambda y: self.model(y, t, condition), x, d)}

    @torch.no_grad()
    def shares(self, x: Tensor, condition: Tensor | None) -> list[float]:
        """Per skip, shallowest first: ||B(join(h, s)) - B(join(h, 0))|| / ||B(join(h, s))||, B the decoder block."""
        x, t = self._noised(x, len(LEVELS) // 2)
        scaling, decoder, without, calls = self.model.scaling, self.model.decoder, [], []
        joined = type(scaling).join

        def join(trunk: Tensor, s: Tensor, where: Any) -> Tensor:
            without.append(joined(scaling, trunk, torch.zeros_like(s), where))
            return cast(Tensor, joined(scaling, trunk, s, where))

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module in decoder:
                calls.append((module, inputs, output))

        with joined_by(scaling, join), register_module_forward_hook(keep):
            self.model(x, t, condition)
        outputs = [(output, block(h, *inputs[1:])) for h, (block, inputs, output) in zip(without, calls, strict=True)]
        return [float((output - other).norm() / output.norm()) for output, other in reversed(outputs)]  # deepest first

    def conclude(self, events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The one-number probes at the end of a run, from its own log."""
        norms, responses = ([e for e in events if e.get("probe") == kind] for kind in ("norms", "response"))
        if len(norms) >= 2 * WINDOW:
            # float: what is not finite is a string in the log.
            features = np.array([event["features"] for event in norms], dtype=float)
            gradients = np.array([[*chain(*event["gradients"].values())] for event in norms], dtype=float)
            whole = np.array([[event["gradient"], event["update"]] for event in norms], dtype=float)
            yield from _bands("feature", features, features)
            yield from _bands("gradient", gradients, whole[:, :1])
            yield {"probe": "update_ratio", "value": float(_late(whole)[1])}
        if responses:
            yield {"probe": "input_sensitivity", "value": responses[-1]["value"]}
        yield {"probe": "loss_spikes", "value": float(len(self.spikes)), "largest": max(self.spikes, default=1.0)}


class ProbedStep:
    """One probed step: `with step.forward(): ...`, then after the backward pass and after the optimizer's step."""

    def __init__(self, probes: Probes) -> None:
        self.decoder, self.weights, self.blocks = probes.model.decoder, probes.weights, probes.blocks
        self.features: dict[nn.Module, Tensor] = {}  # of the last part of a batch
        self.gates: list[Tensor] = []  # of all parts, deepest first in each
        self.fields: dict[str, Any] = {}

    def forward(self) -> RemovableHandle:
        """A hook on the decoder blocks and the calibration nets, for the time of a `with` block."""
        return register_module_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if module in self.decoder:
            self.features[module] = output.detach().flatten(1).float().norm(dim=1).mean()
        elif isinstance(module, Calibration):
            self.gates.append(output.detach().float().flatten())

    def after_backward(self) -> None:
        """Gradient norms, and the weights as they were."""
        gradients: list[Any] = [weight.grad for weight in self.weights]
        squares = torch.stack(torch._foreach_norm(gradients)).double().square().tolist()
        of = dict(zip(self.weights, squares, strict=True))

        def norm(weights: list[nn.Parameter]) -> float:
            return math.sqrt(math.fsum(of[weight] for weight in weights))

        self.fields["gradients"] = {part: [norm(block) for block in blocks] for part, blocks in self.blocks.items()}
        self.fields["gradient"] = norm(self.weights)
        self.before = torch._foreach_add([weight.detach() for weight in self.weights], 0.0)  # a copy, in one call

    def after_step(self) -> dict[str, Any]:
        """The fields of a `norms` event. Decoder blocks and gates shallowest first."""
        weights = [weight.detach() for weight in self.weights]
        torch._foreach_sub_(self.before, weights)
        self.fields["update"] = float(get_total_norm(self.before) / get_total_norm(weights))
        self.fields["features"] = torch.stack([self.features[block] for block in self.decoder]).tolist()
        if self.gates:
            quantiles, last = torch.tensor(QUANTILES), reversed(self.gates[-len(self.decoder) :])
            self.fields["gates"] = [torch.quantile(gate.cpu(), quantiles).tolist() for gate in last]
        return self.fields


def _late(series: Array) -> Array:
    """The mean of the second half, per column."""
    return np.asarray(series[len(series) // 2 :].mean(0))


def _bands(name: str, blocks: Array, shown: Array) -> Iterator[dict[str, Any]]:
    """Norm and oscillation of series (points, columns), those of each block beside them."""
    swing = oscillation(shown)
    yield {"probe": f"{name}_norm", "value": float(_late(shown).mean()), "blocks": _late(blocks).tolist()}
    yield {"probe": f"{name}_oscillation", "value": float(swing.mean()), "blocks": oscillation(blocks).tolist()}
    yield {"probe": f"{name}_oscillation_relative", "value": float((swing / _late(shown)).mean())}
    yield {"probe": f"{name}_oscillation_detrended", "value": float(oscillation(shown, detrend=True).mean())}


def probed_steps(steps: int) -> set[int]:
    """Which of 1 .. steps are probed for norms: POINTS, evenly from the first to the last; all if there are no more."""
    points = min(POINTS, steps)
    return {1 + k * (steps - 1) // max(1, points - 1) for k in range(points)}


def oscillation(series: Array, detrend: bool = False) -> Array:
    """Per column of (points, columns): see the head of this file. ValueError for fewer than 2 WINDOW points."""
    if len(series) < 2 * WINDOW:
        raise ValueError(f"series: {len(series)} points are too few; at least {2 * WINDOW}")
    windows = np.lib.stride_tricks.sliding_window_view(series[len(series) // 2 :], WINDOW, axis=0)
    if detrend:
        place = np.arange(WINDOW) - (WINDOW - 1) / 2
        windows = windows - (windows @ place / (place @ place))[..., None] * place
    return np.asarray((np.ptp(windows, axis=-1) / 2).mean(0))


def response(f: Callable[[Tensor], Tensor], x: Tensor, d: Tensor, iterations: int = ITERATIONS) -> dict[str, float]:
    """||f(x + e) - f(x)|| / ||e||, the mean over images, for e along d with ||e|| = LENGTH ||x||, and for the worst e.

    The worst: the largest singular value of the Jacobian J at each image, by power iteration on J^T J from d, the best
    direction in the span of all iterates (Lanczos): it approaches the value from below, and with 8 iterations lies
    within 1 % of it where the last iterate alone is 5 % short. x, d: (B, C, H, W); f acts on each image alone.
    """

    def size(y: Tensor) -> Tensor:
        return cast(Tensor, y.flatten(1).norm(dim=1).view(-1, 1, 1, 1))

    small = d / size(d) * size(x) * LENGTH
    with torch.no_grad():
        random = (size(f(x + small) - f(x)) / size(small)).mean()
    v, basis, images = (d / size(d)).flatten(1), [], []
    transposed = vjp(f, x)[1]
    for _ in range(iterations):
        image = jvp(f, (x,), (v.view_as(x),))[1]
        basis.append(v)
        images.append(image.detach().flatten(1))
        v = _orthogonal(transposed(image)[0].detach().flatten(1), torch.stack(basis, 1))
    worst = torch.linalg.matrix_norm(torch.stack(images, 1).double(), 2)  # J on the span, whose basis is orthonormal
    return {"random": float(random), "worst": float(worst.mean())}


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """The unit vector along what of w (B, n) is orthogonal to `basis` (B, k, n); 0 where that is rounding only."""
    length = w.norm(dim=1, keepdim=True)
    for _ in range(2):  # once leaves rounding errors of the order of what was taken away
        w = w - torch.einsum("bk,bkn->bn", torch.einsum("bn,bkn->bk", w, basis), basis)
    rest = w.norm(dim=1, keepdim=True)
    return torch.where(rest > 1e-5 * length, w / rest.clamp_min(1e-30), 0.0)
