"""`python -m bench`."""

import io
import sys
from importlib.util import find_spec

OURS = ("bench", "datasets", "models", "reports")


def run() -> int:
    """The command line; a package that this Python lacks is one line and 2, a module of ours a traceback."""
    try:
        from bench.cli.parser import main

        return main()
    except ModuleNotFoundError as error:
        package = (error.name or OURS[0]).partition(".")[0]
        if package in OURS or find_spec(package):
            raise
        use = "call make setup and .venv/bin/python -m bench"
        print(f"skipbench: {package!r} is not installed in this Python; {use}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names as they are, whatever the locale
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.exit(run())
