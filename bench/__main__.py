"""`python -m bench`."""

import io
import sys

from bench.cli.parser import main

if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names as they are, whatever the locale
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.exit(main())
