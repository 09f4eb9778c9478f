# models/contrib/halved.py
from collections.abc import Sequence

from torch import Tensor

from models import LongSkip, Scaling, register


@register("halved")
class Halved(Scaling):
    """Every long skip times a factor, 0.5 by default. An example."""

    def __init__(self, long_skips: Sequence[LongSkip], factor: float = 0.5) -> None:
        super().__init__(long_skips)  # one LongSkip each: index (1, the shallowest, to N), level, channels, ...
        self.factor = factor

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return s * self.factor
