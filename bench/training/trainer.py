"""The training story of one run: start or resume, train, evaluate, record, end. Images are the unit, never steps.

Everything drawn is keyed by its position (see `random_streams`), so a run that is killed and resumed ends with the same
bits.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from bench.diffusion import schedules
from bench.diffusion.batches import Batch, Batches
from bench.diffusion.loader import THREADS, Loader
from bench.diffusion.random_streams import RandomStreams
from bench.evaluation.evaluator import Evaluator, Measured, save_grid, thumbnails
from bench.runs import checkpoint, compute, distributed
from bench.runs.run_spec import Run, RunSpec
from bench.training import environment
from bench.training.probes import ProbedStep, Probes
from bench.training.warning import EndWarning, Leaving
from datasets import Store
from models.weights import export
from reports.records import reading
from reports.records.event_log import EventLog, read_events
from reports.records.files import read_json, write_json
from reports.records.lease import Lease
from reports.records.run_folder import RunFolder, State

LOG_POINTS = 64  # train events per run; another number gives the same weights
# Steps after which the losses on a device are read and the ranks agree, at the latest: reading waits for the device.
READ_EVERY = {"cpu": 1, "cuda": 16}
SAVE_EVERY = 900.0  # seconds after which a run saves, wherever its next planned checkpoint is
# Of a trainer, in a checkpoint: its numbers, and what has a state of its own.
KEPT, MODULES = ("images", "seconds", "draws", "losses", "evaluated", "saved"), ("model", "ema", "optimizer")


def train_run(run: Run, root: Path, data: Path, warning: EndWarning | None = None, startup: float = 0.0) -> State:
    """Train one run, or go on with it, until its end; returns its state, complete or diverged.

    Owns its folder meanwhile: Held if another process does. warning: Leaving is raised, and all that is trained saved,
    once it is given. startup: seconds that starting this process took, recorded with what setting up the run takes.
    """
    folder, began = run.folder(root), time.perf_counter() - startup
    with folder.lease() as lease:
        folder.ensure_config(run.config)
        if folder.is_done():
            return State(read_json(folder.result)["status"])
        trainer = Trainer(run, folder, data, warning)
        trainer.start(began, lease)
        try:
            return trainer.finish(trainer.fit())
        except Leaving:
            trainer.save()
            raise


def follow_run(run: Run, root: Path, data: Path, warning: EndWarning) -> None:
    """What a rank other than 0 does with a run, beside rank 0: it restores the very checkpoint that rank 0 did."""
    trainer = Trainer(run, run.folder(root), data, warning)
    if images := distributed.of_rank_0(0):
        trainer.restore(checkpoint.read(trainer.folder.checkpoints / checkpoint.name(images)))
    trainer.finish(trainer.fit())


class Trainer:
    """The state of one run while it is trained."""

    def __init__(self, run: Run, folder: RunFolder, data: Path, warning: EndWarning | None = None) -> None:
        self.run, self.folder, self.spec, self.warning = run, folder, run.spec, warning or EndWarning()
        self.lease: Lease | None = None  # of rank 0, from its start on
        spec, execution = run.spec, run.execution
        self.device = compute.set_up(spec)
        self.store = Store.open(data, spec.dataset)
        self.streams = RandomStreams(spec.dataset, spec.backbone, spec.seed)
        self.schedule = schedules.schedule(spec.diffusion)
        self.batches = Batches(spec, self.store, self.streams, self.schedule)
        ranks = (distributed.rank(), distributed.count())
        self.loader = Loader(lambda at: self.batches.rows(at, *ranks), spec.batch, spec.budget, THREADS[spec.device])
        self.evaluator = Evaluator(spec, self.store, data, folder.path.parent.parent)
        self.model = build(spec, self.store, self.streams).to(self.device)
        compute.prepare(self.model, spec, execution.checkpointing)
        self.network: Any = distributed.wrap(self.model, self.device)  # what is trained; the same weights
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        # Once: to walk the modules takes 2 % of a step.
        self.ema_weights: list[Tensor] = list(self.ema.parameters())
        self.weights: list[Tensor] = list(self.model.parameters())
        # 2^(-batch / half-life): after `half_life` of the budget an old weight counts half.
        self.decay = 0.5 ** (spec.batch / (spec.ema.half_life * spec.budget))
        groups, betas = models.parameter_groups(self.model, spec.optimizer.weight_decay), spec.optimizer.betas
        self.optimizer = torch.optim.AdamW(groups, lr=spec.optimizer.lr, betas=(betas[0], betas[1]), fused=True)
        self.log = EventLog(folder.events)
        self.images, self.seconds, self.draws = 0, 0.0, ""
        self.losses: list[float] = []  # since the last train event
        self.unread: list[Tensor] = []  # losses that are still on the device
        self.evaluated = self.saved = 0  # images at the last evaluation and the last planned checkpoint
        self.saving, self.last_save = 0.0, time.monotonic()  # seconds spent on checkpoints here; when the last was
        saves = execution.checkpoints
        self.planned_saves = {spec.steps * k // saves * spec.batch for k in range(1, saves + 1)}
        self.leaving = False  # some rank was told to leave
        self.probes: Probes | None = None
        if execution.probes:
            self.probes = Probes(self.model, self.schedule, self.streams.cell(), spec.budget, spec.batch)

    # Start and resume -------------------------------------------------------------------------------------------------

    def start(self, began: float, lease: Lease) -> None:
        """Begin the log, or restore the newest whole checkpoint and cut off what the log holds beyond it.

        began: the moment, on the clock perf_counter, when work on this run began.
        """
        self.lease = lease
        read_events(self.folder.path, live=True)  # a log broken further up is refused before anything is cut
        size, whole = self.log.size, self.log.whole()
        log_bytes, notes = self.resume()
        checkpoint.drop_after(self.folder.checkpoints, self.images)
        self.log.cut(log_bytes)
        if not log_bytes:
            described = environment.describe(self.run, self.model, self.store, self.evaluator)
            change = initial_change(self.spec, self.store, self.streams)
            self._event("start", **described, init_change=change, startup_seconds=time.perf_counter() - began)
        if size:
            torn = "cut a torn last line" if whole < size else ""
            said = [f"from {self.images} images", lease.note, torn, *notes]
            self._event("resume", **environment.place(self.run), note="; ".join(filter(None, said)))
        distributed.of_rank_0(self.images)

    def resume(self) -> tuple[int, list[str]]:
        """Restore the newest checkpoint that fits the log; returns the bytes of the log at its time, and notes."""
        state, notes = checkpoint.load(self.folder.checkpoints, self.spec.hash, self.log.path)
        if state is None:
            return 0, notes
        self.restore(state)
        return int(state["log_bytes"]), notes

    def restore(self, state: checkpoint.State) -> None:
        """Go on from a checkpoint."""
        for key in KEPT:
            setattr(self, key, state[key])
        for key in MODULES:
            getattr(self, key).load_state_dict(state[key])
        if self.probes:
            self.probes.restore(state["probes"])

    def save(self) -> None:
        """Write a checkpoint; rank 0 alone. It remembers the log up to here."""
        if distributed.rank():
            return
        began = time.perf_counter()
        self._check_lease()
        self.log.flush()  # a checkpoint never remembers more than the disk holds
        state: checkpoint.State = {"hash": self.spec.hash, "log_bytes": self.log.size}
        state |= {key: getattr(self, key) for key in KEPT}
        state |= {key: getattr(self, key).state_dict() for key in MODULES}
        state["probes"] = self.probes.state if self.probes else {}
        checkpoint.save(self.folder.checkpoints, self.images, state)
        self.saving, self.last_save = self.saving + time.perf_counter() - began, time.monotonic()

    # Train ------------------------------------------------------------------------------------------------------------

    def fit(self) -> State:
        """Train to the budget; returns complete, or diverged at the first loss that is not finite."""
        logged = self.spec.batch * max(1, self.spec.steps // LOG_POINTS)  # images between train events
        self._compile()
        while True:
            self._milestones()
            if self.images >= self.spec.budget:
                return State.COMPLETE
            if self.leaving:
                raise Leaving
            stop, began = self._next_stop(logged), time.perf_counter()
            while self.images < stop:
                self.step()
                if self.warning.given and distributed.count() == 1:
                    break  # several ranks agree on it where they read losses
            norm = gradient_norm(self.weights) if self.images % logged == 0 else None
            finite = self.read_losses()
            self.seconds += self._elapsed(began)
            if not finite:
                return State.DIVERGED
            if norm is not None:
                self._log_training(norm)

    def _next_stop(self, logged: int) -> int:
        """The images after which something is to be read, logged, measured or saved."""
        batch, spec = self.spec.batch, self.spec
        at = {*spec.evaluation.images, *self.planned_saves, spec.budget}
        steps = READ_EVERY[self.device.type]
        at |= {(self.images // every + 1) * every for every in (logged, steps * batch)}
        if self.probes:  # a step is probed once the losses before it are known to be finite
            at |= {images - after for images in self.probes.points for after in (0, batch)}
        return min(images for images in at if images > self.images)

    def read_losses(self) -> bool:
        """Take the losses from the device, and agree on leaving; False if one is not finite, which dates the end."""
        means, self.leaving = distributed.agree(torch.stack(self.unread), self.warning.given)
        after, self.unread = self.images, []
        for k, mean in enumerate(means):
            self.images = after - (len(means) - 1 - k) * self.spec.batch
            self.losses.append(mean)
            if self.probes:
                self.probes.loss(mean)
            if not math.isfinite(mean):
                return False
        return True

    def _milestones(self) -> None:
        """Evaluations and checkpoints that are due here. What an interrupted process did of them is not repeated."""
        if self.images in self.spec.evaluation.images and self.evaluated < self.images:
            self.evaluate()
            self.evaluated = self.images
        if self.images in self.planned_saves and self.saved < self.images:
            self.saved = self.images
            self._probe_response()
            self._event("checkpoint", flush=True, seconds=self.seconds, file=checkpoint.name(self.images))
            self.save()
        elif time.monotonic() - self.last_save > SAVE_EVERY:
            self.save()

    def _compile(self) -> None:
        """Compile where the specification says so, and run once, so that compiling is not on the training clock."""
        if self.spec.compile and self.images < self.spec.budget:
            torch._dynamo.config.fail_on_recompile_limit_hit = True  # else torch would compute eagerly and only warn
            self.model.compile()
            self.ema.compile()
            self.gradients(self._draw())

    def step(self) -> Tensor:
        """One optimizer step on the next batch; returns its loss, a scalar of this rank, without waiting for it."""
        watch = ProbedStep(self.probes) if self.probes and self.images + self.spec.batch in self.probes.points else None
        with watch.forward() if watch else nullcontext():
            loss = self.gradients(self.batch())
        if watch:
            watch.after_backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.ema_weights, self.weights, 1 - self.decay)
        self.images += self.spec.batch
        self.unread.append(loss)
        if watch:
            self._event("probe", probe="norms", **watch.after_step())
        return loss

    def gradients(self, batch: Batch) -> Tensor:
        """Set the gradients of the loss on a batch, in `accumulate` parts; returns the loss, a scalar, of this rank."""
        parts, total = self.run.execution.accumulate, torch.zeros((), device=self.device)
        several = distributed.count() > 1
        self._seed(self.streams.key("dropout", self.images, *([distributed.rank()] if several else [])))
        self.optimizer.zero_grad(set_to_none=True)
        for index in range(parts):
            part, last = batch.part(index, parts), index + 1 == parts
            with nullcontext() if last or not several else self.network.no_sync():
                with compute.autocast(self.spec):
                    loss = schedules.loss(self.network, self.schedule, part.x, part.t, part.noise, part.condition)
                (loss / parts).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / parts
        return total

    def _seed(self, key: int) -> None:
        """Of the masks of dropout. torch.manual_seed would seed every kind of device, which takes 0.4 ms."""
        cuda = self.device.type == "cuda"
        generator = torch.cuda.default_generators[torch.cuda.current_device()] if cuda else torch.default_generator
        generator.manual_seed(key)

    def batch(self) -> Batch:
        """This rank's slice of the next batch; counts the whole batch into the digest of all draws."""
        drawn = self._draw()
        self.draws = hashlib.blake2b(bytes.fromhex(self.draws) + drawn.digest, digest_size=16).hexdigest()
        return drawn

    def _draw(self) -> Batch:
        return self.batches.batch(self.loader.rows(self.images))

    def learning_rate(self) -> float:
        """Linear warm-up over a fraction of the budget, then constant."""
        warmup = self.spec.optimizer.warmup * self.spec.budget
        return self.spec.optimizer.lr * min(1.0, (self.images + self.spec.batch) / max(warmup, self.spec.batch))

    def _log_training(self, norm: float | None) -> None:
        loss, rate = sum(self.losses) / len(self.losses), self.optimizer.param_groups[0]["lr"]
        self._event("train", seconds=self.seconds, loss=loss, lr=rate, grad_norm=norm)
        self.losses = []

    def _elapsed(self, began: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def _probe_response(self) -> None:
        """Off the training clock, and on the same images at each checkpoint and for each arm."""
        if self.probes:
            self._event("probe", probe="response", **self.probes.response(self.batches.draw(0)))

    # Evaluate and end -------------------------------------------------------------------------------------------------

    def evaluate(self) -> None:
        """Measure the EMA and record it; the training clock stands still."""
        began = time.perf_counter()
        measured = self._measure()
        if distributed.rank():
            return
        save_grid(self.folder.sample(self.images), thumbnails(measured.grid))
        taken = {"eval_seconds": time.perf_counter() - began, "sample_seconds": measured.sample_seconds}
        taken |= {"seconds": self.seconds, "feature_seconds": measured.feature_seconds}
        settings = {"nfe": self.spec.evaluation.network_evaluations, "samples": self.spec.evaluation.samples}
        self._event(
            "eval",
            flush=True,
            fid=measured.distance,
            kid=measured.kernel_distance,
            mean_spread=measured.mean_spread,
            **({"beside": measured.beside} if measured.beside else {}),
            **taken,
            **settings,
            draws=self.draws,
        )

    def _measure(self, repeat: int = 0) -> Measured:
        with self.warning.breaks_off():
            return self.evaluator(self.ema, repeat)

    def finish(self, state: State) -> State:
        """Measure the noise of an evaluation at the end of a pilot; rank 0 writes the last events and result.json."""
        repeats = self.spec.evaluation.repeats if state is State.COMPLETE and self.run.role == "pilot" else 0
        if repeats:
            measured = [self._measure(repeat) for repeat in range(1, repeats + 1)]
            distances, seconds = [one.distance for one in measured], sum(one.sample_seconds for one in measured)
            self._event("probe", probe="evaluation_noise", fids=distances, sample_seconds=seconds)
        self.loader.close()
        if distributed.rank():
            return state
        if self.probes:
            for found in self.probes.conclude(read_events(self.folder.path)):
                self._event("probe", **found)
        reason = {"reason": f"loss is {self.losses[-1]} at {self.images} images"} if state is State.DIVERGED else {}
        self._event("end", flush=True, seconds=self.seconds, checkpoint_seconds=self.saving, status=state, **reason)
        self.log.close()
        export(self.ema, self.folder.weights)
        write_json(self.folder.result, reading.summarize(self.run.config, read_events(self.folder.path)))
        checkpoint.drop_after(self.folder.checkpoints)
        return state

    def _event(self, kind: str, flush: bool = False, **fields: Any) -> None:
        if distributed.rank() == 0:
            self._check_lease()
            self.log.append({"event": kind, "images": self.images, "time": time.time(), **fields}, flush=flush)

    def _check_lease(self) -> None:
        if self.lease:
            self.lease.check()


def build(spec: RunSpec, store: Store, streams: RandomStreams) -> models.Backbone:
    """The network of a run: backbone weights from stream `init`, the method's from `gate`; a floor run's perturbed."""
    channels, size = store.shape[0], store.shape[1]
    overrides: dict[str, Any] = {"in_channels": channels, "out_channels": channels, "image_size": size}
    if spec.dropout is not None:
        overrides["dropout"] = spec.dropout
    seeds = (streams.key("init"), streams.key("gate"))
    model = models.build(spec.backbone, spec.method_text, seeds=seeds, **overrides)
    if spec.perturbation:
        generator = streams.generator("perturbation")
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 + spec.perturbation * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def initial_change(spec: RunSpec, store: Store, streams: RandomStreams) -> float:
    """||w - w0|| / ||w0||: how far the initial weights of a run are from those of the unperturbed one, w0."""
    if not spec.perturbation:
        return 0.0
    networks = (build(one, store, streams) for one in (spec, spec.but(perturbation=0.0)))
    ours, plain = ([*map(Tensor.detach, network.parameters())] for network in networks)
    return float(nn.utils.get_total_norm(torch._foreach_sub(ours, plain)) / nn.utils.get_total_norm(plain))


def gradient_norm(weights: list[Tensor]) -> float:
    """Of all gradients together."""
    return float(nn.utils.get_total_norm(weight.grad for weight in weights if weight.grad is not None))
