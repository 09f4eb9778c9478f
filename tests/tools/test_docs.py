"""The pages of README and docs: links lead somewhere, every method has its row, figures are those of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import models

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """What a link may name after #: the headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target} leads nowhere"
        assert not heading or heading in anchors(there), f"{page.name}: {target} names no heading"


def test_every_page_is_linked_from_the_readme_or_from_another():
    linked = {Path(target).name for page in PAGES for target in re.findall(r"\]\(([^)\s#]+)", page.read_text())}
    assert {page.name for page in PAGES if page.parent.name == "docs"} <= linked


def test_every_method_and_its_parameters_have_a_row():
    text = (ROOT / "docs" / "methods.md").read_text()
    rows = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}
    built_in = [name for name in models.methods() if models.scaling.REGISTRY[name].__module__ == "models.scaling"]
    assert set(built_in) == set(rows)
    for name in built_in:
        for parameter in models.parse_method(name).params:
            assert f"`{parameter}`" in rows[name] or "as `constant`" in rows[name], (name, parameter)


def test_the_figure_of_factors_is_that_of_the_code(tmp_path):
    drawn = tmp_path / "methods.svg"
    subprocess.run([sys.executable, "-m", "tests.tools.factors", drawn], cwd=ROOT, check=True)
    assert drawn.read_text() == (ROOT / "docs" / "methods.svg").read_text()
