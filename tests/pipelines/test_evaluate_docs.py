"""docs/evaluate.md shows what its example prints; ``python -m tests.pipelines.test_evaluate_docs`` updates it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "evaluate.md"
SHOWN = re.compile(r"<!-- example -->\n```\n(.*?)```\n", re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^```\n(nd-synapse evaluate .*?)^```", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def run(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    line = [sys.executable, *words]
    return subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=True
    ).stdout


def printed(folder: Path) -> str:
    """Return what the example prints in an empty folder."""
    text = DOCUMENT.read_text(encoding="utf-8")
    run(folder, "-c", PYTHON.findall(text)[0])
    (command,) = COMMAND.findall(text)
    return run(folder, "-m", "nd_synapse", *shlex.split(command.replace("\\\n", " "))[1:])


@pytest.mark.slow
def test_the_example_prints_what_is_shown(tmp_path: Path) -> None:
    """Numbers to two hundredths: another processor may round a random number differently."""
    (shown,) = SHOWN.findall(DOCUMENT.read_text(encoding="utf-8"))
    printout = printed(tmp_path)
    assert NUMBER.sub("n", printout).split() == NUMBER.sub("n", shown).split()
    for one, other in zip(NUMBER.findall(printout), NUMBER.findall(shown), strict=True):
        assert float(one.replace(",", "")) == pytest.approx(float(other.replace(",", "")), rel=0.02, abs=2)
    assert {file.suffix for file in (tmp_path / "evaluation").iterdir()} == {".csv", ".png"}


def test_the_functions_shown_run(tmp_path: Path) -> None:
    assert run(tmp_path, "-c", PYTHON.findall(DOCUMENT.read_text(encoding="utf-8"))[1]) == "2 1.0\n"


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        text = DOCUMENT.read_text(encoding="utf-8")
        example = printed(Path(place))
        DOCUMENT.write_text(SHOWN.sub(lambda _: f"<!-- example -->\n```\n{example}```\n", text), encoding="utf-8")
