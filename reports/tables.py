"""The tables of a report, each made from report.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports import formats as say
from reports.sentences import MEASURED, PROGRESS
from reports.table import Row, Table
from reports.words import INTERVAL_SEEDS

Report = dict[str, Any]
READINGS = {"low": "last evaluation above", "high": "first fitted evaluation below", "first": "first evaluation below"}


def tables(report: Report) -> list[Table]:
    """All tables, in the order of the page."""
    return [make(report) for make in MADE.values()]


def pooled(report: Report) -> Table:
    """Over cells."""
    rows = [(p["method"], say.interval(p), say.p(p["p_holm"]), say.scaled(p["word"], report["scale"]), ", ".join(p["cells"]) or say.DASH,
             ", ".join(p["left_out"]) or say.DASH, " to ".join(map(say.ratio, p["leave_one_out"])) if p["leave_one_out"] else say.DASH,
             _seeds(p)) for p in report["pooled"]]
    return Table("pooled", "Over cells: geometric mean with equal weights, 95 % t interval with Satterthwaite's degrees of freedom, Holm's "
                 "correction over the arms. This is the confirmatory test.",
                 ("method", "speedup", "Holm p", "word", "cells", "left out", "one dataset left out", "seeds needed"), rows)


def speedup(report: Report) -> Table:
    """Dataset x backbone x method."""
    rows = [(c["cell"], c["method"], headline(c), word(c, report), *_reached(c), _n(c)) for c in report["comparisons"] if c["role"] == "paired"]
    return Table("speedup", "Speedup to target per cell: images of the baseline over images of the arm, geometric mean over paired seeds, 95 % "
                 "t interval. A cell's word uses its own interval alone and is descriptive.",
                 ("cell", "method", "speedup", "word", "baseline reached", "arm reached", "pairs"), rows, frozenset({6}))


def details(report: Report) -> Table:
    """What stands beside each headline."""
    rows = [(c["cell"], c["method"], say.interval(c["restricted"]),
             *((_two(c["chance"]), say.p(c["sign_flip"]), _two(c["correlation"])) if say.finite(c["speedup"]) else (say.DASH,) * 3), _seeds(c),
             _numbers(c["missing"]), _numbers(c["diverged"]["baseline"] + c["diverged"]["arm"])) for c in _shown(report)]
    return Table("details", "Beside the headline: ratio of mean images to target, each at most the budget (jackknife t); chance that the arm "
                 "is faster on the same seed; exact sign-flip p; correlation within pairs (above 0: pairing paid); seeds that would decide. Without a "
                 "headline the restricted mean and the reach rates are all there is.",
                 ("cell", "method", "restricted mean", "P(faster)", "sign-flip p", "correlation", "seeds needed", "missing", "diverged"), rows)


def sensitivity(report: Report) -> Table:
    """The headline under other ways to read the time to target."""
    rows = [(c["cell"], c["method"], headline(c), *(say.interval(c["sensitivity"][key]) for key in READINGS),
             f"flips ({', '.join(READINGS[key] for key in c['flips'])})" if c["flips"] else "holds" if c["n"] >= INTERVAL_SEEDS else say.DASH)
            for c in _shown(report)
            if say.finite(c["speedup"])]
    return Table("sensitivity", "Does the conclusion depend on how the time to target is read? As the last evaluation before the fitted curve "
                 "crosses, as the first after it, and as the first evaluation that lies below by itself.",
                 ("cell", "method", "as reported", *READINGS.values(), "conclusion"), rows)


def ladder(report: Report) -> Table:
    """Speedup over the target ladder."""
    rungs = sorted({rung["fraction"] for c in report["comparisons"] for rung in c.get("ladder", [])})
    rows = [(c["cell"], c["method"], *(_rung(c, fraction) for fraction in rungs)) for c in _shown(report) if c["ladder"]]
    return Table("ladder", "Speedup to what the pilots reach at these parts of the budget, so that no one target is picked.",
                 ("cell", "method", *(f"{fraction:.0%}" for fraction in rungs)), rows)


def final(report: Report) -> Table:
    """At the full budget."""
    rows = [(c["cell"], c["method"], say.significant(c["final"]["baseline"]), say.significant(c["final"]["arm"]), say.spread(c["final"]["difference"]),
             say.interval(c["final"]["ratio"]).replace("x", ""), "yes" if c["final"]["discussed"] else "no", str(c["final"]["n"]))
            for c in report["comparisons"] if c.get("final", {}).get("n") and not c["withheld"].startswith("gate")]
    return Table("final", f"{distance(report)} at the full budget: means over the pairs that came to the end, paired difference (below 0: the "
                 "arm is better) and ratio with 95 % t intervals. Gaps under 1.3 % are not discussed as differences.",
                 ("cell", "method", "baseline", "arm", "difference", "arm / baseline", "gap over 1.3 %", "pairs"), rows, frozenset({2, 3, 7}))


def axes(report: Report) -> Table:
    """Images, seconds and FLOPs side by side."""
    rows = [(c["cell"], c["method"], headline(c), *(say.interval(c["axes"][axis]["speedup"], c["bound"]) for axis in ("seconds", "flops")))
            for c in _shown(report)]
    return Table("axes", "The same speedup in training images, in training seconds on the machine of the runs, and in floating-point operations "
                 "(three forward passes an image).", ("cell", "method", "images", "seconds", "FLOPs"), rows)


def needed(report: Report) -> Table:
    """What the target takes on every axis."""
    rows = [(c["cell"], c["method"], *(_reach(c, axis) for axis in ("images", "seconds", "flops"))) for c in _shown(report)]
    return Table("needed", "What the target takes, baseline → arm, geometric means. ≥: some runs did not reach it and count with the whole budget. "
                 "≤: some were below it at their first evaluation. ~: both.",
                 ("cell", "method", "images to target", "seconds to target", "FLOPs to target"), rows)


def null(report: Report) -> Table:
    """The A/A arm."""
    rows = [(c["cell"], headline(c), say.p(c.get("p")), "yes" if c["cell"] in report["aa"]["missing_one"] else "no", _n(c))
            for c in report["comparisons"] if c["role"] == "null"]
    aa = report["aa"]
    if aa["cells"]:
        rows.append(("all cells, 99.9 %", say.interval(aa), say.p(aa["p"]), "FAILED" if aa["failed"] else "passed", ""))
    return Table("aa", f"A/A: {report['null_method']} against itself under other seeds, through the whole pipeline. Cells whose interval misses 1: "
                 f"{len(aa['missing_one'])}, expected by chance: {aa['expected']:.2g}.", ("cell", "speedup", "p", "misses 1", "pairs"), rows, frozenset({4}))


def targets(report: Report) -> Table:
    """The frozen targets."""
    rows = [(c["cell"], say.count(c["tau"]), str(c["evaluations"]), say.significant(c["target"], 4), c["label"] or "usable",
             ", ".join(f"{r['fraction']:.0%}: {say.significant(r['target'])}{' (flat here)' if r['flat'] else ''}" for r in c["ladder"]) or say.DASH,
             f"{c['progress']:.2f}{' (too little)' if c['progress'] > PROGRESS else ''}" if say.finite(c["progress"]) else say.DASH,
             f"{100 * c['noise']:.1f} %" if say.finite(c["noise"]) else say.DASH) for c in report["cells"]]
    return Table("targets", "Targets, frozen from the pilots before the first comparison run. End / tenth: distance at the end over that after a "
                 "tenth of the budget. Noise: coefficient of variation of one evaluation over sampling seeds.",
                 ("cell", "budget (images)", "evaluations", "target", "state", "ladder", "end / tenth", "noise"), rows, frozenset({1, 2, 3}))


def networks(report: Report) -> Table:
    """The matching table."""
    rows = [(r["cell"], r["method"], say.count(r["params"]), say.count(r["method_params"]), say.significant(r["flops"] / 1e6, 4) if r["flops"] else say.DASH)
            for r in report["matching"]["networks"]]
    ratios = "; ".join(f"{b['cells'][1]} has {b['params']:.3f} of the parameters and {b['flops']:.3f} of the FLOPs of {b['cells'][0]}"
                       for b in report["matching"]["backbones"])
    return Table("networks", f"Are the networks matched? {ratios + '.' if ratios else ''}",
                 ("cell", "method", "parameters", "of the method", "forward MFLOPs per image"), rows, frozenset({2, 3, 4}))


def weights(report: Report) -> Table:
    """Digest of the initial weights per pair."""
    rows = [(p["cell"], str(p["seed"]), say.digest(p["digest"]), "equal" if p["equal"] else "DIFFERENT", ", ".join(p["methods"]))
            for p in report["matching"]["weights"]]
    return Table("weights", "Initial backbone weights of each seed, sha256, over all its arms.", ("cell", "seed", "initial weights", "over the arms", "arms"),
                 rows, frozenset({1}))


def gates(report: Report) -> Table:
    """Every gate."""
    rows = [(g["gate"], g["rule"], f"{g['failed']} failed" if g["failed"] else "passed") for g in report["gates"]]
    return Table("gates", "Nothing is printed as a comparison unless these hold.", ("gate", "rule", "result"), rows)


def failures(report: Report) -> Table:
    """What failed."""
    rows = [(f["cell"], f["method"] or "all", f["gate"], f["field"], f["what"], ", ".join(f["runs"])) for f in report["failures"]]
    return Table("failures", "What failed, by runs and field.", ("cell", "arm", "gate", "field", "what", "runs"), rows)


def claims(report: Report) -> Table:
    """The paper's claims."""
    rows = [(c["id"], c["text"], say.scaled(c["verdict"], report["scale"]), c["evidence"],
             "; ".join(f"{f['text']} ({f['label']}{', ' + f['source'] if f['tag'] != 'U' else ''})" for f in c["published"]) or say.DASH,
             f"{c['source']}{', unverified' if c['tag'] == 'U' else ''}") for c in report["claims"]]
    return Table("claims", "The paper's claims, each with its verdict on this suite.", ("claim", "what", "verdict", "evidence", "figures from outside", "source"), rows)


def measured(report: Report) -> Table:
    """The claims that probes test."""
    return _claims("measured", "The claims on stability, each with its verdict on this suite.", [c for c in report["claims"] if c["test"] in MEASURED], report)


def tested(report: Report) -> Table:
    """The claims that this suite has runs for."""
    return _claims("tested", "The claims that this suite can test, each with its verdict.", [c for c in report["claims"] if c["runs"]], report)


def _claims(name: str, caption: str, those: list[dict[str, Any]], report: Report) -> Table:
    rows = [(c["id"], c["text"], say.scaled(c["verdict"], report["scale"]), c["evidence"]) for c in those]
    return Table(name, caption, ("claim", "what", "verdict", "evidence"), rows)


def probed(report: Report) -> Table:
    """The norms that the probes measured beside what the theory predicts."""
    rows = [(r["cell"], str(r["skips"]), r["method"], _fixed(r["sum_squares"]), say.significant(r["feature_norm"]), _banded(r, "feature"),
             say.significant(r["gradient_norm"]), _banded(r, "gradient"), str(r["n"])) for r in (report["stability"] or {}).get("rows", [])]
    return Table("probed", "Norms, geometric means over seeds and the second half of training, of features also the mean over decoder blocks. The "
                 "theory predicts their order by the sum of squared factors; a dash: the method has no fixed factor. Oscillation: half the band in a "
                 "moving window of 9 probes. In brackets: over the norm.",
                 ("cell", "skips", "method", "sum of squares", "feature norm", "its oscillation", "gradient norm", "its oscillation", "seeds"),
                 rows, frozenset({1, *range(3, 9)}))


def responses(report: Report) -> Table:
    """What else the probes measured."""
    rows = [(r["cell"], str(r["skips"]), r["method"], _fixed(r["bound"]), say.significant(r["input_sensitivity"]),
             say.significant(r["update_ratio"]), _spikes(r), str(r["n"])) for r in (report["stability"] or {}).get("rows", [])]
    return Table("responses", "Response of the output to the worst small change of the input. Its bound in the theory, with all Lipschitz constants 1, "
                 "is the sum of the factors + 1; a dash: the method has no fixed factor. Update: norm of a step over the norm of the "
                 "weights. Spikes of the loss: mean count, and the largest over the median before it.",
                 ("cell", "skips", "method", "bound", "response", "update", "spikes", "seeds"), rows, frozenset({1, *range(3, 8)}))


def _fixed(value: Any, places: int | None = None) -> str:
    return say.DASH if value is None else f"{value:.3g}" if places is None else f"{value:.{places}f}"


def _spikes(row: dict[str, Any]) -> str:
    if row["loss_spikes"] is None:
        return say.DASH
    return f"{row['loss_spikes']:.1f}" + (f", up to {row['largest_spike']:.1f}x" if row["loss_spikes"] else "")


def _banded(row: dict[str, Any], name: str) -> str:
    share = row[f"{name}_oscillation_relative"]
    return say.significant(row[f"{name}_oscillation"]) + (f" ({share:.1%})" if say.finite(share) else "")


def growth(report: Report) -> Table:
    """Growth with depth."""
    rows = [(g["family"], g["method"], _fixed(g["predicted"], 2), _exponent(g["start"]), _exponent(g), _exponent(g["mean"]), str(g["n"]))
            for g in (report["stability"] or {}).get("growth", [])]
    return Table("growth", "Growth of the norm of the shallowest decoder block with the number of long skips N: exponent p of N^p, with a 95 % t interval over "
                 "seeds. 0: the norm does not depend on the depth. Theory: of the root of the sum of squared factors; a dash: the method has no fixed factor. "
                 "Start: at the initial weights. Mean over blocks: over the second half too; the theorem bounds deeper blocks by fewer skips.",
                 ("family", "method", "theory", "at the start", "second half", "mean over blocks", "seeds"), rows, frozenset({2, 3, 4, 5, 6}))


def _exponent(found: dict[str, Any]) -> str:
    if not say.finite(found["exponent"]):
        return say.DASH
    return f"{found['exponent']:.2f}" + (f" [{found['low']:.2f}, {found['high']:.2f}]" if say.finite(found["low"]) else "")


RANKED = {"feature_start": "norm, start", "feature_shallowest": "norm, second half", "feature_norm_of_each_block": "norm of each block",
          "feature_oscillation": "oscillation", "gradient_oscillation": "gradient's oscillation", "input_sensitivity": "response"}


def ranks(report: Report) -> Table:
    """Rank correlation of the theory with what was measured."""
    section = report["stability"] or {}
    rows = [(cell, *(_rho([r["rho"] for r in section["rank"] if (r["cell"], r["quantity"]) == (cell, quantity)]) for quantity in RANKED))
            for cell in dict.fromkeys(r["cell"] for r in section.get("rank", []))]
    if len(rows) > 1:
        rows.append(("mean", *(_rho([r["rho"] for r in section["rank_means"] if r["quantity"] == quantity]) for quantity in RANKED)))
    return Table("ranks", "Spearman's correlation of the theory's predictions with what was measured, over the arms with fixed factors. Predictions: for the "
                 "response the bound, else the sum of squares. Norm: of the shallowest decoder block. Of each block: over arms and "
                 "decoder blocks i, the sum of squares from skip i to the deepest. "
                 "+1: the same order; a single value of so few arms says little.", ("cell", *RANKED.values()), rows, frozenset(range(1, len(RANKED) + 1)))


def _rho(found: list[float]) -> str:
    return f"{found[0]:+.2f}" if found else say.DASH


def learnt(report: Report) -> Table:
    """The gates."""
    rows = [(g["cell"], g["method"], str(g["skip"]), *(f"{g[key][-1]:.2f}" for key in ("low", "middle", "high")))
            for g in (report["stability"] or {}).get("gates", [])]
    return Table("learnt", "The learnt gates at the end of training: 10, 50 and 90 % of each skip's (1 is the shallowest), means over seeds.",
                 ("cell", "method", "skip", "10 %", "50 %", "90 %"), rows, frozenset({2, 3, 4, 5}))


def headline(row: dict[str, Any]) -> str:
    """The speedup of a comparison: the interval, or why there is none."""
    if row["withheld"]:
        return row["withheld"]
    return say.interval(row) if say.finite(row.get("speedup")) else row["word"] if row["n"] else row["label"] or "no runs"


def word(row: dict[str, Any], report: Report) -> str:
    """The word of a comparison, none where its number is withheld."""
    return say.DASH if row["withheld"] else row["label"] or (say.scaled(row["word"], report["scale"]) if row["n"] else say.DASH)


def distance(report: Report) -> str:
    """What the distance of this suite is called."""
    return " or ".join(sorted({c["measure"]["name"] for c in report["cells"] if c["measure"]})) or "Distance"


def _shown(report: Report) -> list[dict[str, Any]]:
    return [c for c in report["comparisons"] if c["n"] and not c["withheld"]]


def _rung(row: dict[str, Any], fraction: float) -> str:
    rung = next((r for r in row["ladder"] if r["fraction"] == fraction), None)
    if rung is None:
        return say.DASH
    return "flat here" if rung["flat"] else say.interval(rung) if say.finite(rung["speedup"]) else rung["word"]


def _reached(row: dict[str, Any]) -> Row:
    if not row["n"] or row["withheld"]:
        return say.DASH, say.DASH
    rates = row["reach_rates"]
    return tuple(f"{row['reached'][side]}/{row['n']} [{rates[side]['low']:.2f}, {rates[side]['high']:.2f}]" for side in ("baseline", "arm"))


def _reach(row: dict[str, Any], axis: str) -> str:
    """What both sides need to the target; a bound where runs did not reach it, or reached it before they were looked at."""
    return " → ".join(say.BOUNDS[_bound([pair[side] for pair in row["pairs"]])] + say.prefixed(row["axes"][axis]["to_target"][side])
                      for side in ("baseline", "arm"))


def _bound(crossings: list[dict[str, Any]]) -> str:
    above, below = any(c["status"] == "censored" for c in crossings), any(c["at_first"] for c in crossings)
    return "mixed" if above and below else ">=" if above else "<=" if below else ""


def _n(row: dict[str, Any]) -> str:
    return str(row["n"])


def _two(value: Any) -> str:
    return f"{value:.2f}" if say.finite(value) else say.DASH


def _numbers(seeds: list[int]) -> str:
    """Which seeds, so that none reads as a count."""
    return f"seed{'' if len(set(seeds)) == 1 else 's'} {', '.join(map(str, sorted(set(seeds))))}" if seeds else say.DASH


def _seeds(row: dict[str, Any]) -> str:
    return f"about {row['seeds_needed']}" if row["seeds_needed"] and row.get("role") != "null" else say.DASH


MADE: dict[str, Callable[[Report], Table]] = {
    "pooled": pooled, "speedup": speedup, "ladder": ladder, "targets": targets, "details": details, "sensitivity": sensitivity, "final": final,
    "axes": axes, "needed": needed, "aa": null, "networks": networks, "weights": weights, "gates": gates, "failures": failures, "claims": claims,
    "tested": tested, "measured": measured, "probed": probed, "responses": responses, "growth": growth, "ranks": ranks, "learnt": learnt,
}
