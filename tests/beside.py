"""A projection into MLflow beside training, watched from outside."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def said_beside(*words: object) -> str:
    """What a projection beside a moment of training prints: in a process of its own, whose forkserver has its stderr."""
    lines = "import sys, time\nfrom pathlib import Path\nfrom bench.launching import local\n"
    lines += (
        "with local.synced(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]):\n    time.sleep(0.1)"
    )
    done = subprocess.run([sys.executable, "-c", lines, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr
