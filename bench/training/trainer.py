"""The training story of one run: start or resume, train, evaluate, record, end. Images are the unit, never steps.

Everything drawn is keyed by its position (see `streams`), so a run that is killed and resumed ends with the same bits.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

import models
from bench.training import allocator
from bench.runs import checkpoint
from bench.diffusion import schedules as diffusion
from bench.training import environment
from bench.planning import compute_defaults as fastest
from bench.training import distributed as ranks
from bench.launching import snapshot
from bench.training.adamw import AdamW
from bench.diffusion.batches import Batch, Batches
from bench.evaluation.evaluator import Evaluator, Measured, save_grid
from bench.runs.event_log import EventLog
from bench.runs.lock import FolderLock
from bench.planning.plan import Run, claim, method_text
from bench.training.probes import Probes
from bench.runs.record import write_json
from bench.diffusion.random_streams import Streams
from datasets import Store
from reports.records import reading

LOG_POINTS = 64  # train events per run; another number gives the same weights


def execute(run: Run, root: Path, data: Path, startup: float = 0.0) -> str:
    """Train one run, or go on with it, until its end; returns its status, complete or diverged. Locks its folder.

    startup: seconds that starting this process took, if nothing has told them yet; told with what setting up the run takes.
    """
    folder, began = run.folder(root), time.perf_counter() - startup
    with FolderLock(folder) as lock:
        claim(folder, run)
        result = folder / "result.json"
        if result.is_file():
            return reading.read_json(result)["status"]
        trainer = Trainer(run, folder, data, lock)
        trainer.start(lock.note, began)
        return trainer.finish(trainer.fit())


class Trainer:
    """The state of one run while it is trained."""

    def __init__(self, run: Run, folder: Path, data: Path, lock: FolderLock | None = None) -> None:
        self.lock = lock  # on the folder; None where another process of the run holds it
        self.run, self.folder, self.spec = run, folder, run.spec
        spec = run.spec
        allocator.keep()
        torch.set_num_threads(spec["threads"])
        threadpool_limits(spec["threads"])  # numpy's BLAS too: another number of threads gives other bits
        torch.use_deterministic_algorithms(spec["device"] == "cpu")
        torch.utils.deterministic.fill_uninitialized_memory = False  # 7 % of a step of unet-xs; nothing here reads such memory
        self.device = torch.device(spec["device"])
        self.store = Store.open(data, spec["dataset"])
        self.streams = Streams(spec["dataset"], spec["backbone"], spec["seed"])
        self.schedule = diffusion.schedule(spec["diffusion"])
        self.batches = Batches(spec, self.store, self.streams, self.schedule)
        self.evaluator = Evaluator(spec, self.store, data)
        self.model = fastest.apply(build(spec, self.store, self.streams).to(self.device), spec)
        self.network = ranks.wrap(self.model, self.device)  # what is trained; the same weights
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.weights = list(self.ema.parameters()), list(self.model.parameters())  # to walk the modules takes 2 % of a step
        # 2^(-batch / half-life): after `half_life` of the budget an old weight counts half.
        self.decay = 0.5 ** (spec["batch"] / (spec["ema"]["half_life"] * spec["budget"]))
        optimizer = spec["optimizer"]
        self.optimizer = AdamW(self.model.parameters(), lr=optimizer["lr"], betas=tuple(optimizer["betas"]),
                               weight_decay=optimizer["weight_decay"])
        self.log = EventLog(folder / "events.jsonl")
        self.images, self.seconds, self.draws = 0, 0.0, ""
        self.saving = 0.0  # seconds spent on checkpoints since this process took the run
        self.losses: list[float] = []  # since the last train event
        self.probes = Probes(self.model, self.schedule, self.streams.cell(), spec["budget"], spec["batch"]) if run.probes else None

    # Start and resume -------------------------------------------------------------------------------------------------

    def start(self, note: str | None = None, began: float | None = None) -> None:
        """Begin the log, or restore the newest whole checkpoint and cut off what the log holds beyond it.

        note: what the lock says. began: the moment, on the clock perf_counter, when work on this run began.
        """
        reading.read_events(self.folder, live=True)  # a log that is broken further up is bad input, before anything is cut
        size, whole = self.log.path.stat().st_size, self.log.whole()
        state, notes = checkpoint.load(self.folder / "checkpoints", self.run.hash, whole)
        self.log.cut(state["log_bytes"] if state else 0)
        if state:
            self._restore(state)
        else:
            described = environment.describe(self.spec, self.run, self.model, self.store, self.evaluator)
            self._event("start", **described, startup_seconds=0.0 if began is None else time.perf_counter() - began)
        if size:
            self._event("resume", code=snapshot.digest(), note="; ".join([f"from {self.images} images", *([note] if note else []),
                                                   *(["cut a torn last line"] if whole < size else []), *notes]))
        ranks.wait()

    def follow(self) -> None:
        """What a rank other than 0 does with the run, beside rank 0."""
        ranks.wait()
        state, _ = checkpoint.load(self.folder / "checkpoints", self.run.hash, self.log.whole())
        if state:
            self._restore(state)
        self.fit()

    def _restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.images, self.seconds, self.draws, self.losses = (state[k] for k in ("images", "seconds", "draws", "losses"))
        if self.probes:
            self.probes.restore(state["probes"])

    def save(self) -> None:
        """Write a checkpoint. Its event goes first, so that the log up to `log_bytes` is the log of these weights."""
        began = time.perf_counter()
        self._event("checkpoint", flush=True, seconds=self.seconds, file=checkpoint.name(self.images))
        checkpoint.save(self.folder / "checkpoints", self.images, {
            "hash": self.run.hash, "images": self.images, "seconds": self.seconds, "draws": self.draws,
            "losses": self.losses, "log_bytes": self.log.size, "model": self.model.state_dict(),
            "ema": self.ema.state_dict(), "optimizer": self.optimizer.state_dict(),
            "probes": self.probes.state if self.probes else {}})
        self.saving += time.perf_counter() - began

    # Train ------------------------------------------------------------------------------------------------------------

    def fit(self) -> str:
        """Train to the budget; returns complete, or diverged at the first loss that is not finite."""
        spec, batch = self.spec, self.spec["batch"]
        steps = spec["budget"] // batch
        every = max(1, steps // LOG_POINTS)
        evaluations = set(spec["evaluation"]["images"])
        saves = {steps * k // self.run.checkpoints * batch for k in range(1, self.run.checkpoints + 1)}
        self._compile()
        while self.images < spec["budget"]:
            logged = (self.images // batch + 1) % every == 0
            began = time.perf_counter()
            loss = self.step()
            norm = gradient_norm(self.model) if logged else None
            self.seconds += self._elapsed(began)
            if not math.isfinite(loss):
                return "diverged"
            if logged:
                self._log_training(norm)
            if self.images in evaluations and ranks.rank() == 0:
                self.evaluate()
            if self.images in saves and ranks.rank() == 0:
                self._probe_response()
                self.save()
        return "complete"

    def _compile(self) -> None:
        """Compile where the spec says so, and once through, so that no compilation runs on the training clock.

        Runs of one method in one process share graphs. Every method adds two; from the ninth on torch would compute eagerly
        and only warn, so that a run's bits would hang on the runs before it.
        """
        if self.spec["compile"] and self.images < self.spec["budget"]:
            torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit
            torch._dynamo.config.fail_on_recompile_limit_hit = True
            self.model.compile()
            self.ema.compile()
            self.gradients(self.batches.draw(self.images).part(ranks.rank(), ranks.count()).to(self.device))

    def step(self) -> float:
        """One optimizer step on the next batch; returns its loss."""
        watch = self.probes.watch() if self.probes and self.images + self.spec["batch"] in self.probes.points else None
        with watch.forward() if watch else nullcontext():
            loss = self.gradients(self.batch())
        if watch:
            watch.after_backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(*self.weights, 1 - self.decay)
        self.images += self.spec["batch"]
        self.losses.append(ranks.mean(loss).item())
        if self.probes:
            self.probes.loss(self.losses[-1])
        if watch:
            self._event("probe", probe="norms", **watch.after_step())
        return self.losses[-1]

    def gradients(self, batch: Batch) -> Tensor:
        """Set the gradients of the loss on a batch, in `accumulate` parts; returns the loss, a scalar, of this rank."""
        parts, total = self.spec["accumulate"], torch.zeros((), device=self.device)
        self._seed(self.streams.key("dropout", self.images, *([ranks.rank()] if ranks.count() > 1 else [])))
        self.optimizer.zero_grad(set_to_none=True)
        for index in range(parts):
            part, last = batch.part(index, parts), index + 1 == parts
            with nullcontext() if last or ranks.count() == 1 else self.network.no_sync():
                with fastest.autocast(self.spec):
                    loss = diffusion.loss(self.network, self.schedule, part.x, part.t, part.noise, part.condition) / parts
                loss.backward()
            total += loss.detach()
        return total

    def _seed(self, key: int) -> None:
        """Of the masks of dropout. torch.manual_seed seeds every kind of device and keeps three stack traces for it: 0.4 ms."""
        cuda = self.device.type == "cuda"
        generator = torch.cuda.default_generators[torch.cuda.current_device()] if cuda else torch.default_generator
        generator.manual_seed(key)

    def batch(self) -> Batch:
        """This rank's slice of the next batch, on the device; counts the whole batch into the digest of all draws."""
        drawn = self.batches.draw(self.images)
        self.draws = hashlib.blake2b(bytes.fromhex(self.draws) + drawn.drawn, digest_size=16).hexdigest()
        return drawn.part(ranks.rank(), ranks.count()).to(self.device)

    def learning_rate(self) -> float:
        """Linear warm-up over a fraction of the budget, then constant."""
        optimizer, batch = self.spec["optimizer"], self.spec["batch"]
        warmup = optimizer["warmup"] * self.spec["budget"]
        return optimizer["lr"] * min(1.0, (self.images + batch) / max(warmup, batch))

    def _log_training(self, norm: float | None) -> None:
        self._event("train", seconds=self.seconds, loss=sum(self.losses) / len(self.losses),
                    lr=self.optimizer.param_groups[0]["lr"], grad_norm=norm)
        self.losses = []

    def _elapsed(self, began: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def _probe_response(self) -> None:
        """Off the training clock."""
        if self.probes:
            batch = self.batches.draw(0).to(self.device)  # the same images at each checkpoint, and for each arm
            self._event("probe", probe="response", **self.probes.response(batch))

    # Evaluate and end -------------------------------------------------------------------------------------------------

    def evaluate(self) -> None:
        """Measure the EMA and record it; the training clock stands still."""
        began = time.perf_counter()
        measured = self._measure()
        save_grid(self.folder / "samples" / f"{self.images:012d}.png", measured.grid)
        self._event("eval", flush=True, seconds=self.seconds, fid=measured.fid, eval_seconds=time.perf_counter() - began,
                    sample_seconds=measured.sample_seconds, feature_seconds=measured.feature_seconds,
                    nfe=measured.nfe, samples=self.spec["evaluation"]["samples"], draws=self.draws)

    def _measure(self, repeat: int = 0) -> Measured:
        return self.evaluator(self.ema, repeat)

    def finish(self, status: str) -> str:
        """Write the last events and result.json; pilots also measure the noise of an evaluation, at the end of the budget."""
        if status == "complete" and self.run.role == "pilot" and self.spec["evaluation"]["repeats"]:
            measured = [self._measure(repeat) for repeat in range(1, self.spec["evaluation"]["repeats"] + 1)]
            self._event("probe", probe="evaluation_noise", fids=[one.fid for one in measured],
                        sample_seconds=sum(one.sample_seconds for one in measured))
        if self.probes:
            for found in self.probes.conclude(reading.read_events(self.folder)):
                self._event("probe", **found)
        reason = {"reason": f"loss is {self.losses[-1]} at {self.images} images"} if status == "diverged" else {}
        self._event("end", flush=True, seconds=self.seconds, checkpoint_seconds=self.saving, status=status, **reason)
        self.log.close()
        write_json(self.folder / "result.json", reading.summarize(self.run.config, reading.read_events(self.folder)))
        return status

    def _event(self, kind: str, flush: bool = False, **fields: object) -> None:
        if ranks.rank() == 0:
            if self.lock:
                self.lock.check()
            self.log.append({"event": kind, "images": self.images, "time": time.time(), **fields}, flush=flush)


def build(spec: dict, store: Store, streams: Streams) -> nn.Module:
    """The network of a run: backbone weights from the stream `init`, the method's from `gate`, which the method never shifts."""
    channels, size = store.shape[0], store.shape[1]
    overrides = {"in_channels": channels, "out_channels": channels, "image_size": size}
    if spec["dropout"] is not None:
        overrides["dropout"] = spec["dropout"]
    return models.build(spec["backbone"], method_text(spec), seeds=(streams.key("init"), streams.key("gate")), **overrides)


def gradient_norm(model: nn.Module) -> float:
    """Of all gradients together."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(nn.utils.get_total_norm(gradients))
