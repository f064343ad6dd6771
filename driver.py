"""One job: the historical command line and functions.

    python3 driver.py --host H --token T --col C --exp E --z-range 0,8 --y-range 0,1024 --x-range 0,1344

``driver.py upload`` and ``driver.py verify`` are ``nd-synapse upload`` and ``nd-synapse verify``.
"""

from __future__ import annotations

from nd_synapse.console import startup

if __name__ == "__main__":
    startup.begin()

import sys
from collections.abc import Sequence

from nd_synapse.job.api import driver, get_data, load_and_preproc, run_nomads, upload_results

__all__ = ["driver", "get_data", "load_and_preproc", "main", "run_nomads", "upload_results"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    from nd_synapse.cli import run, upload, verify

    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["upload"]:
        return upload.main(words[1:], prog="driver.py upload")
    if words[:1] == ["verify"]:
        return verify.main(words[1:], prog="driver.py verify")
    return run.main(words, prog="driver.py")


if __name__ == "__main__":
    from nd_synapse.console import app

    app.end(main())
