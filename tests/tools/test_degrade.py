"""The study of spoilt images on drawn ones."""

import sys
from pathlib import Path

import datasets
from datasets import Options
from tests.tools import degrade

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
import miniatures


def test_noise_and_lost_kinds_take_images_away_from_their_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(degrade, "SAMPLES", 80)
    miniatures.cifar10(tmp_path, per_batch=40)
    store = datasets.prepare("cifar10-16", tmp_path, Options(tmp_path, partial=True, workers=1))
    found = degrade.rows(store, "small-conv", tmp_path)
    assert list(found) == ["unchanged", *degrade.LEVELS] and [len(row) for row in found.values()] == [1, 5, 5, 5, 5]
    noise = found["noise, standard deviation"]
    assert noise == sorted(noise) and noise[-1] > 2 * found["unchanged"][0] > 0
