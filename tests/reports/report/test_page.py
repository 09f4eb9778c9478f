"""The report as its reader meets it: files, page, tables, figures; in a real browser, in print, and without torch."""

import csv
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import synthetic
import test_stability
from PIL import Image

import reports
from reports.report import sections, tree
from reports.report.samples import SMALL, enlarged
from reports.report.styles import INK, style

ROOT = Path(__file__).parents[3]
METHODS = {"inv_sqrt2": 1.0, "constant": 1.3, "learnable(r=4)": 1.5}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = synthetic.suite(tmp_path_factory.mktemp("whole"), METHODS)
    for method in ("none", "constant"):
        synthetic.grid(synthetic.find(folder, method, 0))
    reports.write(folder.parent, "s")
    return folder


def test_everything_is_written(whole):
    names = {str(path.relative_to(whole / "report")) for path in (whole / "report").rglob("*") if path.is_file()}
    figures = {f"figures/{kind}-digits-{b}-xs.svg" for kind in ("curves", "pairs", "levels") for b in ("uvit", "unet")}
    tables_of = {f"tables/speedup.{form}" for form in ("md", "tex", "csv")}
    assert {"index.html", "report.md", "report.json", "figures/forest.svg", *figures, *tables_of} <= names
    assert "![forest](figures/forest.svg)" in (whole / "report" / "report.md").read_text()


def test_every_column_of_every_table_has_something_to_say(whole):
    """An expression that names nothing would be a column of dashes."""
    report = tree.decode(whole / "report" / "report.json")
    silent = {"one dataset left out", "runs", "figures from outside"}
    for table in sections.tables(report):
        for i, column in enumerate(table.header):
            texts = {row[i] for row in table.rows}
            assert column in silent or not table.rows or texts != {"–"}, (table.name, column)
    empty = {table.name for table in sections.tables(report) if not table.rows}
    assert empty == {
        "measured",
        "growth",
        "growth-mean",
        "probed",
        "responses",
        "correlations",
        "failures",
        "tuning",
        "beside",
    }


def test_every_distance_is_called_by_its_extractor(whole):
    for name in ("index.html", "report.md", "tables/final.md", "figures/curves-digits-uvit-xs.svg"):
        text = (whole / "report" / name).read_text()
        text = re.split(r'id="claims"|## Claims', text)[0]  # the paper's claims are about FID
        assert "Frechet distance (small-conv)" in text and not re.search(r"\bFID\b", text), name


def test_tables_agree_with_each_other_and_with_the_json(whole):
    rows = list(csv.reader((whole / "report" / "tables" / "speedup.csv").open()))
    report = tree.decode(whole / "report" / "report.json")
    shown = [arm for arm in report.comparisons if arm.role == "paired"]
    assert [row[:2] for row in rows[1:]] == [[arm.cell, arm.method] for arm in shown]
    assert all(f"{arm.result.speedup:.2f}x" in row[2] for row, arm in zip(rows[1:], shown, strict=True))
    markdown = (whole / "report" / "tables" / "speedup.md").read_text().splitlines()[2:]
    assert len(markdown) == len(rows) + 1 and len({len(line) for line in markdown}) == 1
    tex = (whole / "report" / "tables" / "speedup.tex").read_text()
    assert r"\toprule" in tex and r"inv\_sqrt2" in tex and tex.count(r"\\") == len(rows)


def test_the_page_asks_nothing_of_the_network(whole):
    page = (whole / "report" / "index.html").read_text()
    linked = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert all(link.startswith(("data:", "#")) for link in linked), linked
    assert "<script" not in page and page.count("<svg") == len(list((whole / "report" / "figures").glob("*.svg")))


def test_the_same_folders_give_the_same_bytes(whole, tmp_path):
    reports.write(whole.parent, "s", tmp_path / "again")
    for path in (whole / "report").rglob("*"):
        if path.is_file() and path.name != "look.html":
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(whole / "report")).read_bytes(), path


def test_the_first_screen_has_the_question_the_answers_and_one_forest_plot(whole):
    page = (whole / "report" / "index.html").read_text()
    first = page[page.index("<h1>") : page.index("<nav")]
    assert "How many training images fewer than none" in first and first.count('class="answer"') == 3
    assert first.count("<svg") == 1 and "the paper's 1.5x" in first and "<table" not in first
    for word in ("cell", "arm", "pair", "Pilots", "Speedup", "null arm"):
        assert f"<em>{word}</em>" in first
    order = re.findall(r'<section id="(\w+)">', page)
    assert order == [one.key for one in sections.sections() if one.only in ("", "comparison") and one.key != "answer"]
    for key in ("numbers", "sceptic", "checks", "claims", "made"):
        assert re.search(rf'<section id="{key}">\s*<details><summary>', page), key


def test_page_and_markdown_have_the_same_sections(whole):
    titles = re.findall(r"^## (.*)$", (whole / "report" / "report.md").read_text(), re.MULTILINE)
    page = (whole / "report" / "index.html").read_text()
    assert "Stability" not in titles and titles[0] == "What holds" and titles[1:3] == ["Curves", "Pair by pair"]
    assert all(f"<h2>{title}</h2>" in page for title in titles[1:])


def test_the_forest_shows_both_intervals_and_marks_the_claim(whole):
    svg = (whole / "report" / "figures" / "forest.svg").read_text()
    report = tree.decode(whole / "report" / "report.json")
    for pool in report.pooled:
        one = pool.result
        assert f"{one.speedup:.2f}x [{one.low:.2f}, {one.high:.2f}]" in svg and f"{pool.method}, all cells" in svg
        assert one.low < one.descriptive.low < one.descriptive.high < one.high  # the deciding interval is the wider one
    colour = style("constant", report.arms).colour.lower()
    widths = {
        float(width)
        for path in re.findall(r'style="([^"]*)"', svg)
        if colour in path.lower()
        for width in re.findall(r"stroke-width: ([\d.]+)", path)
    }
    assert {1.4, 3.0, 6.0} <= widths and svg.count("null arm, digits") == 2


@pytest.mark.parametrize("baseline", ["plain", "no_skip"])
def test_another_baseline_is_named_everywhere_and_drawn_in_ink(tmp_path, baseline):
    """No word of `none` but as an arm; a number is only claimed over a baseline that a paper has."""
    arms = {"norm_cat": 1.5, "constant": 1.3}
    folder = synthetic.suite(tmp_path, arms, name="skip-dit", baseline=baseline, cells=("digits/dit-xs",))
    reports.write(tmp_path, "skip-dit")
    page, report = (folder / "report" / "index.html").read_text(), tree.decode(folder / "report" / "report.json")
    told = re.split(r"## Claims", (folder / "report" / "report.md").read_text())[0].replace("none, 8 bits", "")
    assert f"fewer than {baseline} does" in told and f"is {baseline} against itself under other seeds" in told
    assert not re.search(r"\bnone\b|[Nn]o scaling|without scaling", told) and "the paper" not in told
    pooled = sections.table(report, "pooled")
    claimed = ["about 4.4x"] * (baseline == "plain")
    assert pooled.header == ["method", "speedup", "verdict", *claimed, "pairs"]
    assert ("Skip-DiT's 4.4x" in page) == ("About 4.4x: " in told) == bool(claimed) and "1.5x of" not in told
    assert style(baseline, report.arms, baseline).colour == INK != style("none", ["none"], baseline).colour


def test_methods_keep_their_colour_and_arms_of_one_method_differ():
    arms = ["none", "inv_sqrt2", *(f"constant(kappa=0.{k})" for k in range(1, 10))]
    assert len({style(arm, arms) for arm in arms}) == len(arms)
    assert len({style(arm, arms).colour for arm in arms}) == 3
    assert style("constant(kappa=0.1)", arms).colour == style("constant").colour != style("a-new-method").colour


def test_samples_are_enlarged_to_whole_multiples(whole, tmp_path):
    run = synthetic.find(whole, "constant", 0)
    (path,) = (run / "samples").glob("*.png")
    enlarged(path, SMALL).save(tmp_path / "large.png")
    with Image.open(path) as small, Image.open(tmp_path / "large.png") as large:
        times = large.width // small.width
        assert times >= 9 and large.size == (small.width * times, small.height * times)
        assert (np.asarray(large)[::times, ::times] == np.asarray(small)).all()
    page = (whole / "report" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "constant, seed 0, 100,000 images" in page


def test_copied_without_checkpoints_and_samples(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "s", ignore=shutil.ignore_patterns("report", "checkpoints", "samples"))
    assert "No sample grids" in reports.write(tmp_path, "s").read_text()


def test_a_store_of_a_part_of_the_images_is_said(tmp_path, whole):
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=("digits/uvit-xs",))
    for run in synthetic.runs_of(folder):
        synthetic.change(run, lambda r: r["start"].update(data_partial=True))
    said = re.compile(r"prepared from a part of the originals</td><td[^>]*>digits</td>")
    assert said.search(reports.write(tmp_path, "s").read_text()) and not said.search(
        (whole / "report" / "index.html").read_text()
    )


def test_seeds_are_named_as_seeds(tmp_path):
    edit = lambda cfg, fid: None if cfg["label"] == "constant" and cfg["spec"]["seed"] in (2, 4) else fid
    report = synthetic.built(tmp_path, {"constant": 1.2}, cells=("digits/uvit-xs",), edit=edit)
    found = sections.table(report, "details")
    row = dict(zip(found.header, found.rows[0], strict=True))
    assert row["lost"] == "seeds 2, 4, –"
    with pytest.raises(ValueError, match="table: 'nothing' is unknown; choose from measured, measures, beside, growth"):
        sections.table(report, "nothing")


def test_a_hostile_method_name_stays_text(tmp_path):
    reports.write(
        synthetic.suite(tmp_path, {"<img src=x onerror=alert(1)>": 1.2}, cells=("digits/uvit-xs",)).parent, "s"
    )
    page = (tmp_path / "s" / "report" / "index.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page


def test_a_thousand_runs_take_seconds_and_little_memory(tmp_path, monkeypatch):
    """1,000 runs with 100 evaluations each, in a process of its own: processor time and peak memory."""
    monkeypatch.setattr(
        synthetic, "IMAGES", np.unique(np.rint(np.geomspace(0.1 * synthetic.TAU, synthetic.TAU, 100)).astype(int))
    )
    arms = {f"constant(kappa=0.{k})": 1.1 for k in range(1, 10)}
    folder = synthetic.suite(tmp_path, arms, n=9, cells=[f"d{c}/uvit-xs" for c in range(10)])
    work = f"import reports; reports.write({str(tmp_path)!r}, 's')"
    # Started by a small process: Linux counts the memory of the one that starts it, this one, into the peak.
    script = (
        f"import resource, subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}], check=True); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    seconds, mebibytes = map(float, done.stdout.split())
    assert len(synthetic.runs_of(folder)) > 1000 and seconds < 60 and mebibytes < 1000, (seconds, mebibytes)


def test_reports_needs_neither_torch_nor_the_harness(whole, tmp_path):
    """In a fresh interpreter in which both cannot be imported."""
    script = (
        "import sys\nclass Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'bench', 'models', 'datasets', 'timm', 'mlflow'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"import reports; reports.write({str(whole.parent)!r}, 's', {str(tmp_path)!r})\n"
        f"reports.load({str(whole.parent)!r}, 's')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for path in (ROOT / "reports").rglob("*.py") for line in path.read_text().splitlines()]
    imported = [line for line in lines if re.match(r"\s*(import|from) ", line)]
    assert not [line for line in imported if re.search(r"\b(torch|bench|models|datasets)\b", line)]


# In a browser

needs_browser = pytest.mark.skipif(
    not shutil.which("chromium"), reason="chromium is not installed: apt-get install chromium"
)


@pytest.fixture
def browser(tmp_path):
    """Calls headless Chromium with further options."""
    quiet = (
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    )
    base = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        *quiet,
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    return lambda *options: subprocess.run([*base, *options], capture_output=True, text=True, timeout=120)


@needs_browser
def test_a_browser_shows_it(whole, tmp_path, browser):
    page = (whole / "report" / "index.html").as_uri()
    shot = tmp_path / "page.png"
    done = browser("--window-size=400,3000", f"--screenshot={shot}", page)
    assert shot.stat().st_size > 10_000 and "CONSOLE" not in done.stderr
    dom = browser("--dump-dom", page).stdout
    names = [path.stem for path in (whole / "report" / "figures").glob("*.svg")]
    assert len(names) == 7 and all(f'id="figure-{name}"' in dom for name in names)
    seen = look(browser, whole / "report" / "index.html")
    assert seen["needs"] <= 400 and seen["fetched"] == [] and seen["clipped"] == []


@needs_browser
@pytest.mark.parametrize("width", [1280, 1920])
def test_a_wide_screen_is_used_and_everything_fits(whole, browser, width):
    seen = look(browser, whole / "report" / "index.html", width)
    assert (
        seen["needs"] <= width
        and seen["clipped"] == []
        and seen["scroll"] == []
        and seen["widest"] > 0.85 * min(width, 1780)
    )


@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_a_screen_reader_hears_what_is_drawn(whole, browser, width):
    """Headings leave no level out, figures tell their numbers, tables have a name and, on a phone too, their headers."""
    seen = look(browser, whole / "report" / "index.html", width)
    levels = seen["levels"]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    assert len(seen["told"]) == 7 and all(re.search(r"\d", text) for text in seen["told"])
    assert re.match(r"inv_sqrt2, all cells: \d\.\d+x \[", seen["told"][0])
    assert seen["unnamed"] == [] and seen["headless"] == []


@needs_browser
def test_everything_that_opens_is_reached_by_the_keyboard(whole, browser):
    seen = look(browser, whole / "report" / "index.html", 1280)
    assert seen["reached"] == seen["controls"] > 10


def test_words_stand_out_from_what_they_stand_on_in_light_and_in_dark():
    """WCAG's contrast of at least 4.5, for every colour of text on every ground."""

    def luminance(colour):
        digits = colour * 2 if len(colour) == 3 else colour
        channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    css = (ROOT / "reports" / "report" / "page.css").read_text()
    themes = [dict(re.findall(r"--(\w+): #(\w+)", line)) for line in css.splitlines() if "--ink:" in line]
    assert len(themes) == 2
    for theme in themes:
        for text, ground in (*product(("ink", "quiet", "link"), ("paper", "soft")), ("paper", "bad")):
            dark, light = sorted(luminance(theme[name]) for name in (text, ground))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


@needs_browser
def test_folded_sections_are_printed(whole, browser, tmp_path):
    """Closed sections have no height on the screen; in print they do."""
    printed = look(browser, whole / "report" / "index.html", 1280, media="print")
    screen = look(browser, whole / "report" / "index.html", 1280)
    assert screen["folded"] == 0 < printed["folded"]
    browser(f"--print-to-pdf={tmp_path / 'page.pdf'}", (whole / "report" / "index.html").as_uri())
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@needs_browser
def test_a_page_of_measurements_fits_a_screen(tmp_path, browser):
    folder = test_stability.probed(tmp_path, seeds=(0, 1))
    seen = look(browser, reports.write(tmp_path, folder.name), 1280)
    assert seen["needs"] <= 1280 and seen["scroll"] == [] and seen["clipped"] == []


@needs_browser
def test_long_names_are_neither_clipped_nor_cut(tmp_path, browser):
    long = "constant(kappa=0.7, index='concat')"
    page = reports.write(
        synthetic.suite(tmp_path, {"constant": 1.3, long: 1.2}, cells=("imagenet64/uvit-s-2-deep",)).parent, "s"
    )
    seen = look(browser, page)
    assert seen["needs"] <= 400 and seen["clipped"] == [] and "…" not in page.read_text()


@needs_browser
def test_the_look_at_a_page_sees_what_is_wrong(tmp_path, browser):
    page = tmp_path / "bad.html"
    page.write_text(
        '<img src="http://127.0.0.1:9/x.png"><div style="width:900px">wide</div>'
        '<svg viewBox="0 0 50 20" width="50"><text x="40" y="10">much too long</text></svg>'
    )
    seen = look(browser, page)
    assert (
        seen["needs"] > 400 and seen["fetched"] == ["http://127.0.0.1:9/x.png"] and seen["clipped"] == ["much too long"]
    )


LOOK = """<iframe id=f style='width:{}px;height:900px;border:0' src='{}'></iframe><pre id=o></pre><script>
f.onload = () => {{
  const d = f.contentDocument, clipped = [];
  if ('{}' == 'print') d.querySelectorAll('style').forEach(
    s => s.textContent = s.textContent.replaceAll('@media print', '@media all'));
  d.querySelectorAll('svg text').forEach(t => {{
    const s = t.closest('svg').getBoundingClientRect(), b = t.getBoundingClientRect();
    if (b.left < s.left - 2 || b.right > s.right + 2 || b.top < s.top - 2 || b.bottom > s.bottom + 2)
      clipped.push(t.textContent);
  }});
  const scroll = [...d.querySelectorAll('.wide')].filter(w => w.scrollWidth > w.clientWidth).map(w => w.firstChild.id);
  const entries = f.contentWindow.performance.getEntriesByType('resource');
  const fetched = entries.map(e => e.name).filter(n => !n.startsWith('data:'));
  const widest = Math.max(0, ...[...d.querySelectorAll('main > section')].map(s => s.clientWidth));
  const closed = [...d.querySelectorAll('section > details:not([open]) table')];
  const folded = closed.filter(t => t.checkVisibility({{contentVisibilityAuto: true}})).length;
  const needs = d.documentElement.scrollWidth, all = q => [...d.querySelectorAll(q)];
  const levels = all('h1, h2, h3, h4').map(h => +h.tagName[1]);
  const told = all('figure[id]').map(g => g.querySelector('figcaption').textContent);
  const unnamed = all('table').filter(t => !d.getElementById(t.getAttribute('aria-labelledby'))?.textContent);
  all('details').forEach(e => e.open = true);
  const headless = all('thead').filter(h => getComputedStyle(h).display == 'none').map(h => h.parentNode.id);
  const controls = all('a[href], summary'), focused = c => (c.focus(), d.activeElement == c);
  const reached = controls.filter(c => c.tabIndex >= 0 && focused(c)).length;
  o.textContent = 'SEEN' + JSON.stringify({{needs, fetched, clipped, scroll, widest, folded,
    levels, told, unnamed: unnamed.map(t => t.id), headless, controls: controls.length, reached}}) + 'END';
}};</script>"""


def look(browser, page, width=400, media="screen"):
    """At so many pixels: the width that the page needs, what it fetched, labels that stick out of their figures, the
    tables that do not fit, the widest section, how many tables of closed sections can be seen; levels of headings, what
    figures tell, tables without a name or headers, and how many links and summaries take the focus."""
    file = page.parent / "look.html"
    file.write_text(LOOK.format(width, page.as_uri(), media))
    options = (
        "--allow-file-access-from-files",
        f"--window-size={width + 40},1000",
        "--virtual-time-budget=4000",
        "--dump-dom",
    )
    dom = browser(*options, file.as_uri()).stdout
    file.unlink()
    found = re.search(r"<pre id=\"o\">SEEN(.*)END</pre>", dom)[1]
    return json.loads(found.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
