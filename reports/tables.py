"""Tables of a report: each once as rows of text, then as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from reports import sentences as say


@dataclass(frozen=True)
class Table:
    """A name (also of its files), a caption, a header and rows of text."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """Aligned Markdown."""
        lines = [self.header, *self.rows]
        escaped = [[text.replace("|", "\\|") for text in line] for line in lines]
        widths = [max(3, *(len(line[i]) for line in escaped)) for i in range(len(self.header))]
        rendered = ["| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in escaped]
        return "\n".join([rendered[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rendered[1:]]) + "\n"

    def latex(self) -> str:
        """A booktabs tabular."""
        body = [" & ".join(map(_tex, row)) + r" \\" for row in self.rows]
        return "\n".join([f"% {self.caption}", rf"\begin{{tabular}}{{{'l' * len(self.header)}}}", r"\toprule",
                          " & ".join(map(_tex, self.header)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def csv(self) -> str:
        """Comma-separated, quoted where needed."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.header, *self.rows])
        return out.getvalue()


TEX = str.maketrans({"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
                     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "≥": r"$\geq$", "≤": r"$\leq$", "–": "--"})


def _tex(text: str) -> str:
    return text.translate(TEX)


def tables(report: dict[str, Any]) -> list[Table]:
    """All tables, in the order of the page."""
    return [speedups(report), pooled(report), null(report), details(report), final(report), axes(report), targets(report), networks(report), pairs(report), gates(report)]


def speedups(report: dict[str, Any]) -> Table:
    """Dataset x backbone x method: speedup, interval, word, reach rates."""
    rows = [(c["cell"], c["method"], say.headline(c), "" if c["withheld"] else say.scaled(c["word"], report["scale"]),
             *_reached(c)) for c in report["comparisons"] if c["role"] == "paired"]
    return Table("speedup", "Speedup to target: images of the baseline over images of the arm, geometric mean over paired seeds with a "
                 "95 % t interval. Words of single cells are descriptive.",
                 ("cell", "method", "speedup", "word", "baseline reached", "arm reached"), rows)


def _reached(row: dict[str, Any]) -> tuple[str, str]:
    if not row.get("reached"):
        return "–", "–"
    return tuple(f"{k}/{row['n']} [{r['low']:.2f}, {r['high']:.2f}]" if row["n"] else "–"
                 for k, r in zip(row["reached"], row["reach_rates"], strict=True))


def pooled(report: dict[str, Any]) -> Table:
    """Over cells."""
    rows = [(p["method"], say.interval(p), f"{p['p_holm']:.2g}" if say.finite(p["p_holm"]) else "–", say.scaled(p["word"], report["scale"]),
             ", ".join(p["cells"]) or "–", ", ".join(p["left_out"]) or "–",
             " to ".join(map(say.ratio, p["leave_one_out"])) if p["leave_one_out"] else "–") for p in report["pooled"]]
    return Table("pooled", "Over cells: geometric mean with equal weights, t interval with Satterthwaite's degrees of freedom, Holm over the arms.",
                 ("method", "speedup", "Holm p", "word", "cells", "left out", "leave one dataset out"), rows)


def null(report: dict[str, Any]) -> Table:
    """The A/A arm."""
    rows = [(c["cell"], say.headline(c), f"{c['p']:.2g}" if say.finite(c.get("p")) else "–", str(c["n"])) for c in report["comparisons"] if c["role"] == "null"]
    return Table("aa", "A/A: the baseline against itself under other seeds, through the whole pipeline.", ("cell", "speedup", "p", "pairs"), rows)


def details(report: dict[str, Any]) -> Table:
    """What stands beside each headline."""
    rows = []
    for c in report["comparisons"]:
        if not c["n"]:
            continue
        sensitivity = " / ".join(say.ratio(c["sensitivity"][k]["value"]) for k in ("low", "high", "first"))
        rows.append((c["cell"], c["method"], str(c["n"]), say.interval(c["restricted"]), f"{c['chance']:.2f}",
                     f"{c['sign_flip']:.3f}" if say.finite(c["sign_flip"]) else "–", f"{c['correlation']:.2f}" if say.finite(c["correlation"]) else "–",
                     sensitivity + (f" (flips: {', '.join(c['flips'])})" if c["flips"] else ""),
                     str(c["seeds_needed"] or "–"), ", ".join(map(str, c["missing"])) or "–"))
    return Table("details", "Beside the headline: restricted-mean ratio (jackknife t), chance that the arm is faster on the same seed, exact sign-flip p, "
                 "correlation of the pair, speedup with T read as the low end, the high end and the first evaluation, seeds that would decide.",
                 ("cell", "method", "pairs", "restricted mean", "P(faster)", "sign-flip p", "correlation", "low / high / first", "seeds", "seeds missing"), rows)


def final(report: dict[str, Any]) -> Table:
    """At the full budget."""
    rows = []
    for c in report["comparisons"]:
        finals = [r["final_fid"] for r in report["runs"] if r["cell"] == c["cell"] and _arm(r) == (c["role"], c["method"]) and say.finite(r["final_fid"])]
        base = [r["final_fid"] for r in report["runs"] if r["cell"] == c["cell"] and _arm(r) == ("paired", report["baseline"]) and say.finite(r["final_fid"])]
        if finals and base and c["n"]:
            rows.append((c["cell"], c["method"], f"{sum(base) / len(base):.3f}", f"{sum(finals) / len(finals):.3f}", say.interval(c["final"])))
    name = next((c["measure"]["name"] for c in report["cells"] if c["measure"]), "distance")
    return Table("final", f"{name} at the full budget: means over seeds, and the paired ratio arm / baseline with its 95 % interval (below 1: the arm is better).",
                 ("cell", "method", "baseline", "arm", "arm / baseline"), rows)


def _arm(run: dict[str, Any]) -> tuple[str, str]:
    return run["role"], "A/A" if run["role"] == "null" else run["method"]


def axes(report: dict[str, Any]) -> Table:
    """Images, seconds and FLOPs side by side."""
    rows = [(c["cell"], c["method"], say.headline(c), *("–" if c["withheld"] else say.interval(c[axis]) for axis in ("seconds", "flops")))
            for c in report["comparisons"] if c["n"]]
    return Table("axes", "The same speedup in images, in training seconds (on the machine the runs were made on) and in floating-point operations.",
                 ("cell", "method", "images", "seconds", "FLOPs"), rows)


def targets(report: dict[str, Any]) -> Table:
    """The frozen targets."""
    rows = [(c["cell"], say.count(c["tau"]), f"{c['target']:.3f}" if say.finite(c["target"]) else "–", c["label"] or "ok",
             ", ".join(f"{int(r['fraction'] * 100)} %: {r['target']:.3g}{' (flat here)' if r['flat'] else ''}" for r in c["ladder"]) or "–",
             f"{c['progress']:.2f}" if say.finite(c["progress"]) else "–", f"{100 * c['noise']:.1f} %" if say.finite(c["noise"]) else "–") for c in report["cells"]]
    return Table("targets", "Targets, frozen from the pilots before the first comparison run; the ladder is what they reach at 20, 40, 60 and 80 % of the budget. "
                 "End / tenth: distance at the end over that after a tenth. Noise: coefficient of variation of an evaluation over sampling seeds.",
                 ("cell", "budget (images)", "target", "label", "ladder", "end / tenth", "noise"), rows)


def networks(report: dict[str, Any]) -> Table:
    """The matching table."""
    rows = [(r["cell"], r["method"], say.count(r["params"]), say.count(r["method_params"]), f"{r['flops'] / 1e6:,.2f}") for r in report["matching"]["networks"]]
    ratios = "; ".join(f"{b['cells'][1]} has {b['params']:.3f} of the parameters and {b['flops']:.3f} of the FLOPs of {b['cells'][0]}"
                       for b in report["matching"]["backbones"])
    return Table("networks", f"Are the networks matched? {ratios}.", ("cell", "method", "parameters", "of the method", "forward MFLOPs per image"), rows)


def pairs(report: dict[str, Any]) -> Table:
    """Hash of the initial weights per pair."""
    rows = [(p["cell"], str(p["seed"]), say.digest(p["digest"]), "equal" if p["equal"] else "DIFFERENT", ", ".join(p["methods"])) for p in report["matching"]["pairs"]]
    return Table("pairs", "Initial backbone weights of each pair, sha256, over all its arms.", ("cell", "seed", "initial weights", "within the pair", "arms"), rows)


def gates(report: dict[str, Any]) -> Table:
    """What failed."""
    rows = [(g["cell"], g["method"] or "all", g["field"], g["what"], ", ".join(g["runs"])) for g in report["gates"]]
    return Table("gates", "Gates that failed." if rows else "Gates: all passed.", ("cell", "arm", "field", "what", "runs"), rows)
