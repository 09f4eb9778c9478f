"""AdamW without the bookkeeping that torch does per parameter and step; the same kernel, the same bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW over one group of parameters. Loshchilov and Hutter 2019, arXiv 1711.05101.

    torch walks all parameters in Python at every step, and raises the count of steps of each by a call of its own. Here the lists
    are kept, and the counts lie side by side in one tensor.
    """

    _lists: tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]] | None = None  # no part of a copy, as of torch's optimizers

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step along the gradients at hand; torch's own way at the first, and wherever a parameter has no gradient."""
        group, = self.param_groups
        gradients = [p.grad for p in group["params"]]
        if len(self.state) < len(gradients) or any(gradient is None for gradient in gradients):
            super().step()
            return
        counts, each, averages, squares = self._lists = self._lists or self._collect(group["params"])
        counts.add_(1)
        torch._fused_adamw_(group["params"], gradients, averages, squares, [], each, lr=group["lr"], beta1=group["betas"][0],
                            beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore; the lists are made anew."""
        super().load_state_dict(state_dict)
        self._lists = None

    def _collect(self, parameters: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """All counts, a view of each, first and second moments; what `state` holds from here on are those views."""
        states = [self.state[p] for p in parameters]
        counts = torch.stack([state["step"] for state in states])
        for state, count in zip(states, counts.unbind(), strict=True):
            state["step"] = count
        each, averages, squares = ([state[key] for state in states] for key in ("step", "exp_avg", "exp_avg_sq"))
        return counts, each, averages, squares
