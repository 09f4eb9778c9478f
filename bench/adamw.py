"""AdamW without the bookkeeping that torch does per parameter and step; the same kernel, the same bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW over one group of parameters. Loshchilov and Hutter 2019, arXiv 1711.05101.

    torch walks all parameters in Python at every step and counts the steps of each: of a miniature's step, 4 %. Here
    the lists are kept, and one counter serves all parameters. As soon as one of them has no gradient, torch's own way
    is taken from there on.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options, fused=True)
        self.parameters: list[Tensor] = self.param_groups[0]["params"]
        self.lists: tuple[list[Tensor], ...] | None = None  # exp_avgs, exp_avg_sqs, counters
        self.shared = True

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step along the gradients at hand."""
        gradients = [p.grad for p in self.parameters]
        if self.lists is None and self.shared:
            self._collect()
        if not self.shared or any(gradient is None for gradient in gradients):
            self._separate()
            super().step()
            return
        group, (averages, squares, counters) = self.param_groups[0], self.lists
        counters[0].add_(1)  # every entry is this one
        torch._fused_adamw_(self.parameters, gradients, averages, squares, [], counters, lr=group["lr"], beta1=group["betas"][0],
                            beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"],
                            amsgrad=False, maximize=False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        for p in self.parameters:
            p.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore; the lists are made anew."""
        super().load_state_dict(state_dict)
        self.parameters, self.lists, self.shared = self.param_groups[0]["params"], None, True

    def _collect(self) -> None:
        """Begin with zeros, or with what was restored, if all its counters agree."""
        if not self.state:
            self.state.update({p: {"step": torch.zeros((), device=p.device), "exp_avg": torch.zeros_like(p),
                                   "exp_avg_sq": torch.zeros_like(p)} for p in self.parameters})
        states = [self.state.get(p) for p in self.parameters]
        self.shared = all(states) and len({float(state["step"]) for state in states}) == 1
        if self.shared:
            for state in states:
                state["step"] = states[0]["step"]
            self.lists = tuple([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))

    def _separate(self) -> None:
        """A counter for each parameter, as torch has it; none where there was no step yet."""
        if self.lists is not None:
            for state in self.state.values():
                state["step"] = state["step"].clone()
            if not float(self.lists[2][0]):
                self.state.clear()
        self.lists, self.shared = None, False
