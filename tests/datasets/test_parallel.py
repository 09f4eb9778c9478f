"""How many processors are ours."""

import os

import pytest

from datasets.parallel import cores


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "max 100000"}, 16),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "9900000 100000"}, 16),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ("0::/docker/of/the/host", {"cpu.max": "300000 100000"}, 3),
        ("3:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "500000", "cpu/x/cpu.cfs_period_us": "100000"}, 5),
        ("3:cpu:/x\n4:cpuset:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("1:name=systemd:/", {"cpu.max": "100000 100000"}, 16),
        ("0::/", {"cpu.max": ""}, 16),
        (None, {}, 16),
    ],
)
def test_the_quotas_of_a_container_and_the_affinity_are_what_counts(groups, files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    texts = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in (texts if groups is None else texts | {"proc/self/cgroup": groups}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cores(tmp_path) == expected
