"""No room imports one above it, and no file imports in a circle, also not by imports inside functions."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = {"models": {"models"}, "datasets": {"datasets"}, "reports": {"reports"}}
ROOMS["bench"] = {"bench", *ROOMS}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
}


def imported(path: Path) -> set[str]:
    """The modules of this project that a file imports, but for types alone."""
    tree = ast.parse(path.read_text())
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    skipped = {id(inner) for node in typing for inner in ast.walk(node)}
    found = set()
    for node in (node for node in ast.walk(tree) if id(node) not in skipped):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return found & FILES.keys()


def test_no_room_imports_one_above_it():
    for name, path in FILES.items():
        above = {other for other in imported(path) if other.partition(".")[0] not in ROOMS[name.partition(".")[0]]}
        assert not above, (name, above)


def test_what_a_run_folder_holds_lies_below_all_reports():
    for name, path in FILES.items():
        if name.startswith("reports.records"):
            assert all(other.startswith("reports.records") for other in imported(path)), name


def test_no_file_imports_in_a_circle():
    TopologicalSorter({name: imported(path) - {name} for name, path in FILES.items()}).prepare()
