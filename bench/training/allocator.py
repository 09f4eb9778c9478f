"""The heap of a trainer: memory that was freed is kept, and its first GB lies in pages of 2 MB. No result depends on it.

glibc hands large blocks back to the kernel at every free, and every next one comes back page by page: kept, there are ten times
fewer page faults in training and sampling the miniatures. And a step walks through tens of megabytes, where looking up pages of
4 KB takes time (docs/speed.md has how much).
"""

from __future__ import annotations

import ctypes
import functools
import resource
import sys
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt(3)
NEVER = -1  # threshold of trimming: a heap that was given back once is made of small pages for good
HUGEPAGE, COLLAPSE = 14, 25  # madvise(2): huge pages from here on; what is there already, at once (Linux 6.1)
PAGE = 1 << 21  # bytes of a huge page
LARGEST = 1 << 30  # bytes
AHEAD = LARGEST - PAGE  # bytes of the heap beyond what is in use; they take no memory before they are written to


@functools.cache
def keep() -> bool:
    """Set this process up, once; False where there is no glibc. A kernel without huge pages declines, and only they are missing."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not all(libc.mallopt(*o) for o in ((TRIM_THRESHOLD, NEVER), (MMAP_THRESHOLD, LARGEST))):
        return False
    used = _heap()
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:  # else others may need the addresses
        _grow(libc)
    for heap, advice in ((_heap(), HUGEPAGE), (used, COLLAPSE)):
        start, end = -(-heap.start // PAGE) * PAGE, heap.stop // PAGE * PAGE
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(max(0, end - start)), advice)
    return True


def _heap() -> range:
    """Addresses of this process's heap; none where it has none or the system does not tell."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return range(0)
    parts = [line.split()[0].split("-") for line in maps.splitlines() if line.endswith("[heap]")]
    return range(int(parts[0][0], 16), int(parts[-1][1], 16)) if parts else range(0)


def _grow(libc: ctypes.CDLL) -> None:
    """Have the heap end AHEAD bytes beyond what is in use: advice reaches only what is there."""
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    libc.free(libc.malloc(AHEAD))
