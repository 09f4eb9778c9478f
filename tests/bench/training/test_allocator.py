"""What a trainer asks of its heap is so afterwards; each case in a process of its own, since it is for good."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def python(text):
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@glibc
def test_large_blocks_are_kept_and_come_back():
    faults = "resource.getrusage(resource.RUSAGE_SELF).ru_minflt"
    said = python(f"""
import resource, torch
from bench.training import allocator
assert allocator.keep() and allocator.keep()
for _ in range(12):  # until glibc alternates between the same places
    torch.ones(4 << 20)
before = {faults}
for _ in range(20):
    torch.ones(4 << 20)
print({faults} - before)""")
    assert int(said) < 100  # 16 MB each, 4,096 pages of 4 KB


@glibc
@pytest.mark.skipif(not HUGE.is_file() or "[never]" in HUGE.read_text(), reason="needs a kernel with huge pages")
def test_tensors_lie_in_huge_pages():
    said = python("""
import torch
from bench.training import allocator
allocator.keep()
blocks = [torch.ones(1 << 18) for _ in range(64)]
inside, flags = False, set()
for line in open("/proc/self/smaps"):
    if "-" in line.split()[0]:
        start, end = (int(address, 16) for address in line.split()[0].split("-"))
        inside = sum(start <= block.data_ptr() < end for block in blocks)
    elif line.startswith("VmFlags") and inside:
        flags.add(("hg" in line.split(), inside))
print(flags)""")
    assert said == "{(True, 64)}"


@glibc
def test_a_heap_that_was_full_and_empty_is_kept():
    said = python("""
import ctypes
from bench.training import allocator
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [libc.malloc(100_000) for _ in range(60)]
allocator.keep()
before = len(allocator._heap())
for block in blocks:
    libc.free(block)
print(len(allocator._heap()) >= before > allocator.AHEAD)""")
    assert said == "True"


@glibc
def test_limited_addresses_are_left_to_others():
    said = python("""
import resource
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from bench.training import allocator
print(allocator.keep(), len(allocator._heap()) < allocator.AHEAD)""")
    assert said == "True True"


def test_elsewhere_nothing_is_done():
    assert python("import sys; sys.platform = 'darwin'; from bench import allocator; print(allocator.keep())") == "False"
