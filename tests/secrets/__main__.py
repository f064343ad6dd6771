"""Run all tests of secrets and print what was looked at: command, exit code, places, leaks.

``python -m tests.secrets``
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def main() -> int:
    """Return the exit code of the tests."""
    code = pytest.main([str(Path(__file__).parent), "-m", "", "-q", "--no-header"])
    # not before: pytest rewrites the assertions of what is not imported yet
    from tests.secrets.looked import ROWS

    for command, ended_with, places, leaks in ROWS:
        print(f"{command} | {ended_with} | {places} | {leaks}")
    print(f"{len(ROWS)} commands and calls, {sum(row[3] for row in ROWS)} places with the token")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
