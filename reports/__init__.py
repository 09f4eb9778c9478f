"""From run folders to conclusions. Reads files only: needs neither torch nor the harness."""

from reports.comparison import Comparison, compare
from reports.crossing import Crossing, Curve, crossing
from reports.frame import load
from reports.write import check, write

__all__ = ["Comparison", "Crossing", "Curve", "check", "compare", "crossing", "load", "write"]
