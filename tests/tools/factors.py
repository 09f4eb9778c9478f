"""Draw docs/methods.svg: the factor that each method puts on each long skip of a U-ViT with six of them, before training.

python -m tests.tools.factors docs/methods.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import models
from models.scaling import LongSkip

N, TOKENS = 6, 16
SHOWN = (
    "none", "inv_sqrt2", "constant", "constant(kappa=0.7)", "constant(kappa=0.95)", "constant_reversed", "learnable",
    "sigmoid_scalar", "rezero", "skip_tuning",
)  # fmt: skip


def factors(method: str) -> list[float]:
    """Mean factor on skips 1 (shallowest) to N of a method that multiplies them, as it is initialised."""
    skips = [LongSkip(i, N, level=i, levels=N, channels=8, tokens=TOKENS, patches=TOKENS) for i in range(1, N + 1)]
    torch.manual_seed(0)
    scaling = models.parse_method(method).build(skips)
    with torch.no_grad():
        return [float(scaling.skip(torch.ones(1, TOKENS, 8), where).mean()) for where in skips]


def main() -> None:
    """Write the figure."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "skipbench", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.4), layout="constrained")
    marks = "osD^vP*X<>"
    for method, mark in zip(SHOWN, marks, strict=True):
        axes.plot(range(1, N + 1), factors(method), marker=mark, label=method, linewidth=1.2, markersize=5)
    axes.set_xlabel("long skip, 1 the shallowest")
    axes.set_ylabel("factor before training")
    axes.set_ylim(-0.05, 1.1)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(Path(sys.argv[1]), metadata={"Date": None})


if __name__ == "__main__":
    main()
