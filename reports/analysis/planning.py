"""What the pairs at hand can show and how many would settle it: from the sd of d alone, never from the estimate."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq

from reports.analysis.curves import Array
from reports.analysis.verdicts import CLEAR, SAME, VERDICT_PAIRS

ALPHA, POWER = 0.05, 0.8
MOST_PAIRS = 10_000
NODES, WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(80))  # on an interval of length 1, around 0


@dataclass(frozen=True)
class Plan:
    """detectable: the smallest speedup that is called faster with probability .8, nan without variance.

    pairs_to_settle: pairs per cell at which a method without effect is called equivalent with probability .8; None
    without variance or beyond 10,000. Both at the standard deviation found; `_upper` at its upper 80 % limit.
    """

    detectable: float
    detectable_upper: float
    pairs_to_settle: int | None
    pairs_to_settle_upper: int | None


class Planned:
    """A result that has a plan: its numbers at the standard deviation found."""

    plan: Plan

    @property
    def detectable(self) -> float:
        """As in `Plan`."""
        return self.plan.detectable

    @property
    def pairs_to_settle(self) -> int | None:
        """As in `Plan`."""
        return self.plan.pairs_to_settle


def plan(sds: Sequence[float], pairs: Sequence[int], alpha: float = ALPHA) -> Plan:
    """The plan of a mean over cells, each with its standard deviation and number of pairs, decided at 1 - alpha."""
    error, freedom = map(float, standard_error(sds, pairs))
    if not error > 0:
        return Plan(math.nan, math.nan, None, None)
    up = upper(freedom)
    shift, wide = noncentrality(freedom, alpha) * error, [sd * up for sd in sds]
    detectable = CLEAR * math.exp(shift), CLEAR * math.exp(shift * up)
    return Plan(*detectable, pairs_to_settle(sds, alpha), pairs_to_settle(wide, alpha))


def standard_error(sds: ArrayLike, pairs: ArrayLike, used: ArrayLike = True) -> tuple[Array, Array]:
    """Standard error (...) of the equal-weight mean over cells, and Satterthwaite's degrees of freedom (1946).

    sds (C, ...), each of so many pairs, of the cells that are used. v_c = s_c^2 / n_c; se^2 = sum v_c / C^2;
    nu = (sum v_c)^2 / sum(v_c^2 / (n_c - 1)), nan without variance and where a cell has one pair.
    """
    n, s, weight = np.asarray(pairs), np.asarray(sds, dtype=float), np.asarray(used)
    v = np.where(weight, s**2 / n, 0.0)
    total, cells = v.sum(axis=0), np.broadcast_to(weight, v.shape).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(total) / cells, total**2 / (v**2 / (n - 1)).sum(axis=0)


def half_width(error: ArrayLike, freedom: ArrayLike, alpha: float) -> Array:
    """Half of the width (...) of Student's two-sided interval at level 1 - alpha."""
    width: Array = stats.t.ppf(1 - alpha / 2, freedom) * np.asarray(error)
    return width


def upper(freedom: float) -> float:
    """The factor from a standard deviation to its upper 80 % limit."""
    return float(np.sqrt(freedom / stats.chi2.ppf(1 - POWER, freedom)))


@cache
def noncentrality(freedom: float, alpha: float = ALPHA) -> float:
    """lambda with P(T'_nu(lambda) > t(1 - alpha / 2, nu)) = .8, T' noncentral t."""
    t = stats.t.ppf(1 - alpha / 2, freedom)
    return float(brentq(lambda shift: stats.nct.sf(t, freedom, shift) - POWER, 0.0, 4 * t + 4))


def pairs_to_settle(sds: Sequence[float], alpha: float = ALPHA) -> int | None:
    """The smallest n >= 6 with `equivalence_power` of at least .8; None beyond 10,000 or without variance."""
    if not max(sds, default=0.0) > 0:
        return None
    counts = range(VERDICT_PAIRS, MOST_PAIRS + 1)
    at = bisect_left(counts, True, key=lambda pairs: equivalence_power(sds, pairs, alpha) >= POWER)
    return counts[at] if at < len(counts) else None


def equivalence_power(sds: Sequence[float], pairs: int, alpha: float = ALPHA) -> float:
    """The probability that a method without effect is called equivalent, `sds` being the true standard deviations.

    The integral of 2 Phi((Delta - t* u se) / se) - 1 over the density of u, u^2 ~ chi^2_nu / nu, from 0 to
    Delta / (t* se): Gauss-Legendre in the probability of u.
    """
    error, freedom = map(float, standard_error(sds, pairs))
    t, delta = float(stats.t.ppf(1 - alpha / 2, freedom)), math.log(SAME)
    end = float(stats.chi2.cdf(freedom * (delta / (t * error)) ** 2, freedom))
    u = np.sqrt(stats.chi2.ppf(end * (NODES + 0.5), freedom) / freedom)
    return float(end * WEIGHTS @ (2 * stats.norm.cdf(delta / error - t * u) - 1))
