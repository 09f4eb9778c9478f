"""The files that a sweep's snapshot holds are all that the code reads."""

import subprocess

import pytest

from bench.runs import source_code


def test_every_file_of_the_packages_is_part_of_the_code():
    """A template of a kind that nobody listed would be missing in every job."""
    done = subprocess.run(
        ["git", "-C", str(source_code.TREE), "ls-files", *source_code.PACKAGES], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("not a checkout")
    tracked = {name for name in done.stdout.split() if not name.startswith(("bench/suites/", "bench/clusters/"))}
    assert tracked and tracked <= {path.as_posix() for path in source_code.files()}
