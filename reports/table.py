"""A table of text, and its three forms."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

Row = tuple[str, ...]

TEX = str.maketrans({"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
                     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
                     "≥": r"$\geq$", "≤": r"$\leq$", "–": "--", "×": r"$\times$", "→": r"$\to$"})


@dataclass(frozen=True)
class Table:
    """name: also of its files. rows: text; numeric: which columns hold numbers, for alignment."""

    name: str
    caption: str
    header: Row
    rows: list[Row]
    numeric: frozenset[int] = field(default=frozenset())

    def markdown(self) -> str:
        """Aligned Markdown; "" without rows."""
        if not self.rows:
            return ""
        escaped = [[inline(text) for text in line] for line in (self.header, *self.rows)]
        widths = [max(3, *(len(line[i]) for line in escaped)) for i in range(len(self.header))]
        lines = ["| " + " | ".join(_pad(text, width, i in self.numeric) for i, (text, width) in enumerate(zip(line, widths, strict=True))) + " |"
                 for line in escaped]
        rule = "|" + "|".join("-" * (width + 1) + (":" if i in self.numeric else "-") for i, width in enumerate(widths)) + "|"
        return "\n".join([lines[0], rule, *lines[1:]]) + "\n"

    def latex(self) -> str:
        """A booktabs tabular with its caption as a comment."""
        columns = "".join("r" if i in self.numeric else "l" for i in range(len(self.header)))
        lines = [" & ".join(text.translate(TEX) for text in row) + r" \\" for row in (self.header, *self.rows)]
        return "\n".join([f"% {self.caption}", "% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0],
                          r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"

    def csv(self) -> str:
        """Comma-separated, quoted where needed."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.header, *self.rows])
        return out.getvalue()


def inline(text: str) -> str:
    """Text that cannot leave its cell, nor become markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
