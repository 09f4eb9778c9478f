"""How fast full-size datasets are read, as `perf --loader` prints it."""

import pytest

from bench.performance import loading
from bench.performance.loading import CASES, Case


def test_a_line_per_dataset_with_its_images_a_second(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, "ROWS", 512)
    monkeypatch.setattr(loading, "CASES", (Case("cifar10", 1, 0.001), Case("coco256", 2, 0.001)))
    loading.show(tmp_path / "none", steps=3)
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "dataset" and "images a second" in head and "on the clock" in head
    assert [line.split()[0] for line in lines] == ["cifar10", "coco256"] and "2 threads" in last
    assert all("random bytes" in line and line.endswith("%") for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_prepared_store_is_read_and_a_rank_reads_its_slice(tmp_path, ranks):
    import datasets
    from bench.performance.perf import write_store

    write_store(tmp_path, datasets.get("cifar10"), 256)
    batch, found = loading.measure(Case("cifar10", ranks, 0.001), tmp_path, 4)
    assert batch == 128 and found.images > 0 and 0 < found.seconds < 1 and 0 <= found.waiting < 1


def test_the_cases_are_those_of_the_paper():
    assert [(case.dataset, case.ranks) for case in CASES] == [
        ("cifar10", 1),
        ("celeba64", 1),
        ("imagenet64", 1),
        ("imagenet64", 8),
        ("coco256", 1),
    ]
