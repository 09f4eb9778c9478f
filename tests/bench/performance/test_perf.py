"""What `perf` prints: ratios, the agreement, memory, and the share of a chip's peak."""

import re
from pathlib import Path

import numpy as np
import pytest

from bench.performance import chips
from bench.training import environment
from bench.planning import compute_defaults as fastest
from bench.performance import frechet_speed
from bench.performance import memory
from bench.performance import perf
from bench.cli.parser import main
from bench.performance.perf import Measurement


@pytest.mark.parametrize(("name", "teraflops"), [
    ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H200", 989), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L40S", 362),
    ("NVIDIA L4", 121), ("NVIDIA L40", None), ("NVIDIA A1000", None), ("Some Processor", None), ("", None),
])
def test_the_peak_of_a_chip_by_its_drivers_name(name, teraflops):
    assert chips.peak(name) == (teraflops and 1e12 * teraflops)


def test_the_share_counts_a_backward_pass_as_two_forward_ones():
    assert chips.share(10**9, 98_900, "NVIDIA H100 80GB HBM3") == pytest.approx(0.3)
    assert chips.share(10**9, 98_900, "abacus") is None


def shown(monkeypatch, capsys, words, found, chip="NVIDIA H100 80GB HBM3"):
    """What is printed for given measurements, by choice."""
    named = {str(choice): name for name, choice in perf.CHOICES.items()}
    monkeypatch.setattr(perf, "measure", lambda preset, choice, *_: found[named[str(choice)]])
    monkeypatch.setattr(environment, "device_name", lambda kind: chip)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert main(["perf", "--preset", "uvit-xs", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_table_on_an_accelerator(monkeypatch, capsys):
    plain = Measurement(0.1, 0.098, 0.001, [1.0, 2.0], 4 * 10**9, 10**11)
    fast = Measurement(0.02, 0.016, 0.001, [1.0, 2.01], 2 * 10**9, 10**11)
    wrong = Measurement(0.01, 0.01, 0.001, [1.0, 2.03], 2 * 10**9, 10**11)
    lines = shown(monkeypatch, capsys, ["--device", "cuda", "--batch", "8", "--choice", "bf16", "--choice", "bf16 compiled"],
                  {"fp32": plain, "bf16": fast, "bf16 compiled": wrong})
    rows = {line.split("  ")[1].strip(): line.split() for line in lines[1:4]}
    assert rows["fp32"][2:8] == ["80.00", "1.00x", "1.020", "1.00%", "0.00%", "4.0"] and rows["fp32"][8] == "2.4%"  # 3 x 1e11 x 80 / 989e12
    assert rows["bf16"][2:5] == ["400.00", "5.00x", "1.250"] and rows["bf16"][8] == "12.1%"
    assert rows["bf16 compiled"][3:5] == ["800.00", "10.00x"] and "1.50%" in rows["bf16 compiled"]
    assert len({len(line) for line in lines[:4]}) == 1 and lines[4] == "uvit-xs: the fastest that agrees is bf16"
    assert "NVIDIA H100 80GB HBM3 (cuda)" in lines[5] and "wall time" in lines[5]


@pytest.mark.parametrize(("device", "chip"), [("cpu", "NVIDIA H100 80GB HBM3"), ("cuda", "a chip of tomorrow")])
def test_no_share_where_no_peak_is_known(monkeypatch, capsys, device, chip):
    plain = Measurement(0.1, 0.098, 0.001, [1.0], 10**9, 10**11)
    lines = shown(monkeypatch, capsys, ["--device", device, "--choice", "fp32"], {"fp32": plain}, chip)
    assert lines[1].endswith("–") and lines[2] == "uvit-xs: the fastest that agrees is fp32"


def test_a_row_is_shown_before_the_next_is_measured(monkeypatch, capsys):
    rows = []

    def measure(*_):
        rows.append(capsys.readouterr().out)
        return Measurement(0.1, 0.1, 0.001, [1.0], 10**9, 10**11)

    monkeypatch.setattr(perf, "measure", measure)
    assert main(["perf", "--preset", "uvit-xs", "--choice", "bf16"]) == 0
    assert "images/s" in rows[0] and "fp32" in rows[1]


@pytest.mark.parametrize(("words", "said"), [(["--device", "cuda"], "--device: 'cuda' is not there"),
                                             (["--threads", "100000"], "--threads: 100,000 is more than the")])
def test_what_the_machine_has_not_is_one_line(monkeypatch, capsys, words, said):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["perf", "--preset", "uvit-xs", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_an_unknown_choice_is_one_line(capsys):
    assert main(["perf", "--choice", "fp8"]) == 2
    assert "--choice: 'fp8'" in capsys.readouterr().err


def test_the_peak_of_memory_is_that_of_the_work_alone():
    memory.restart("cpu")
    before = memory.peak("cpu")
    block = np.ones(30_000_000)  # 240 MB, every page touched
    grown = memory.peak("cpu") - before
    del block
    memory.restart("cpu")
    assert 200e6 < grown < 400e6
    assert memory.peak("cpu") < before + 120e6


def test_the_routes_to_the_frechet_term_agree(capsys):
    assert main(["perf", "--fid", "48"]) == 0
    said = capsys.readouterr().out
    assert "48 dimensions" in said and all(route in said for route in ("eigh", "torch-fidelity", "scipy sqrtm"))
    found = frechet_speed.measure(96)
    for value, seconds in found.values():
        assert value == pytest.approx(found["eigh"][0], rel=1e-6) and seconds > 0


@pytest.mark.parametrize("words", [["--fid", "0"], ["--fid", "much"]])
def test_a_bad_dimension_is_refused(words, capsys):
    assert main(["perf", *words]) == 2
    assert "--fid" in capsys.readouterr().err


def test_the_document_says_what_the_table_of_defaults_holds():
    text = (Path(__file__).parents[3] / "docs" / "speed.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    told = {(preset, row[1]): row[2] for row in rows for preset in re.findall(r"`([\w-]+)`", row[0])}
    held = {(preset, device): " ".join(sorted(key.replace("_", "-") for key in choice))
            for preset, devices in fastest.table().items() for device, choice in devices.items()}
    assert told == held
