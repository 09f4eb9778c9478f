"""What `perf` prints: ratios, the agreement, memory, and the share of a chip's peak."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.cli.parser import main, parser
from bench.performance import perf
from bench.performance.perf import Measurement
from bench.training import environment

ROOT = Path(__file__).parents[3]
H100 = "NVIDIA H100 80GB HBM3"
PEAKS = [
    (H100, 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H200", 989), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L40S", 362),
    ("NVIDIA L4", 121), ("NVIDIA L40", None), ("NVIDIA A1000", None), ("Some Processor", None), ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "teraflops"), PEAKS)
def test_the_peak_of_a_chip_by_its_drivers_name(name, teraflops):
    assert perf.peak_flops(name) == (teraflops and 1e12 * teraflops)


def shown(monkeypatch, capsys, words, found, chip=H100):
    """What is printed for given measurements, by choice."""
    monkeypatch.setattr(perf, "measure", lambda preset, choice, *_: found[choice])
    monkeypatch.setattr(environment, "device_name", lambda kind: chip)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert main(["perf", "--preset", "uvit-xs", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_table_on_an_accelerator(monkeypatch, capsys):
    plain = Measurement(0.1, 0.098, 0.001, [1.0, 2.0], 4 * 10**9, 10**11)
    fast = Measurement(0.02, 0.016, 0.001, [1.0, 2.01], 2 * 10**9, 10**11)
    wrong = Measurement(0.01, 0.01, 0.001, [1.0, 2.03], 2 * 10**9, 10**11)
    words = ["--device", "cuda", "--batch", "8", "--choice", "bf16", "--choice", "bf16 compiled"]
    lines = shown(monkeypatch, capsys, words, {"fp32": plain, "bf16": fast, "bf16 compiled": wrong})
    rows = {line.split("  ")[1].strip(): line.split() for line in lines[1:4]}
    assert rows["fp32"][2:8] == ["80.00", "1.00x", "1.020", "1.00%", "0.00%", "4.0"]
    assert rows["fp32"][8] == "2.4%"  # 3 x 1e11 x 80 / 989e12: a backward pass counts as two forward ones
    assert rows["bf16"][2:5] == ["400.00", "5.00x", "1.250"] and rows["bf16"][8] == "12.1%"
    assert rows["bf16 compiled"][3:5] == ["800.00", "10.00x"] and "1.50%" in rows["bf16 compiled"]
    assert len({len(line) for line in lines[:4]}) == 1 and lines[4] == "uvit-xs: the fastest that agrees is bf16"
    assert f"{H100} (cuda)" in lines[5] and "wall time" in lines[5]


@pytest.mark.parametrize(("device", "chip"), [("cpu", H100), ("cuda", "a chip of tomorrow")])
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
    assert "images/s" in rows[0] and rows[0].splitlines()[-1].split() == ["uvit-xs", "fp32"]
    assert "1.00x" in rows[1] and rows[1].splitlines()[-1].split() == ["uvit-xs", "bf16"]


@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs-class", "unet-xs-t2i"])
def test_every_condition_is_measured(capsys, preset):
    words = ["--choice", "fp32 recomputed", "--choice", "fp32 channels-last", "--batch", "4", "--steps", "2"]
    assert main(["perf", "--preset", preset, *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [re.split(r"  +", line) for line in lines[1:4]]
    assert [row[:2] for row in rows] == [[preset, name] for name in ("fp32", "fp32 channels-last", "fp32 recomputed")]
    for row in rows:
        assert float(row[2]) > 0 and float(row[4]) > 0 and float(row[6].rstrip("%")) <= 1  # losses agree
    assert "medians of 2 steps, processor time" in lines[-1]


UNAVAILABLE = [
    (["--device", "cuda"], "--device: 'cuda' is not there"),
    (["--threads", "100000"], "--threads: 100,000 is more than the"),
    (["--choice", "fp8"], "--choice: 'fp8' is unknown; choose from fp32, "),
]


@pytest.mark.parametrize(("words", "said"), UNAVAILABLE)
def test_what_the_machine_has_not_is_one_line(monkeypatch, capsys, words, said):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["perf", "--preset", "uvit-xs", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.skipif(not perf.RESET.exists(), reason="only Linux begins the peak of a process anew")
def test_the_peak_of_memory_is_that_of_the_work_alone():
    perf.restart_memory("cpu")
    before = perf.peak_memory("cpu")
    block = np.ones(30_000_000)  # 240 MB, every page touched
    grown = perf.peak_memory("cpu") - before
    del block
    perf.restart_memory("cpu")
    assert 200e6 < grown < 400e6
    assert perf.peak_memory("cpu") < before + 120e6


def test_the_document_says_what_the_table_of_defaults_holds():
    text = (ROOT / "docs/gpu-and-speed.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    told = {(name, row[1]): row[2] for row in rows for name in re.findall(r"`([\w-]+)`", row[0])}
    table = yaml.safe_load((ROOT / "bench/planning/compute_defaults.yaml").read_text())
    held = {(preset, device): choice for preset, choices in table.items() for device, choice in choices.items()}
    assert told == {key: " ".join(sorted(name.replace("_", "-") for name in choice)) for key, choice in held.items()}


def test_every_command_of_the_document_parses():
    """The verbs and options of `python -m bench` that docs/gpu-and-speed.md names exist."""
    commands = re.findall(r"python -m bench (perf [^`#\n]+)", (ROOT / "docs/gpu-and-speed.md").read_text())
    assert len(commands) >= 3
    for command in commands:
        parser().parse_args(command.split())
