"""The cost of probes: a row per cell."""

import re

from tests.tools import probing


def test_the_cost_is_shown_per_cell(tiny, data, capsys, monkeypatch):
    monkeypatch.setattr(probing, "STEPS", 4)
    cells = [{"dataset": "digits", "backbone": name} for name in ("unet-xs", "uvit-xs")]
    probing.show(tiny(cells=cells, checkpoints=2), data)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("digits/")]
    assert [row[0] for row in rows] == ["digits/unet-xs", "digits/uvit-xs"]
    for row in rows:
        assert row[1] == "learnable(r=4)" and row[-1] == "2" and re.fullmatch(r"-?\d+\.\d\d%", row[-3])
        assert float(row[2]) > 0 and row[5:8] == ["30", "of", "30"]
