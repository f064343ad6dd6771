"""The fingerprint of finished blocks covers all code that can change a byte of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nd_synapse
from nd_synapse.detection import fingerprint
from nd_synapse.pipeline import registry

PACKAGE = Path(nd_synapse.__file__).resolve().parent
ROOT = PACKAGE.parent

WITHOUT_EFFECT = {
    "nd_synapse/__init__.py": "names what users import",
    "nd_synapse/credentials.py": "keeps the token out of texts",
    "nd_synapse/errors.py": "what is raised",
    "nd_synapse/files/__init__.py": "empty",
    "nd_synapse/importing.py": "finds the function of a pipeline, which is covered itself",
    "nd_synapse/installed.py": "finds pipelines, which are covered themselves, and versions",
    "nd_synapse/limits.py": "names what ended a worker",
    "nd_synapse/logs.py": "what is logged",
    "nd_synapse/machine.py": "sizes of the machine",
    "nd_synapse/paths.py": "names of files",
    "nd_synapse/progress.py": "what is reported",
    "nd_synapse/redaction.py": "keeps secrets out of texts",
    "nd_synapse/text.py": "texts of messages",
    "nd_synapse/values.py": "reads options",
    "nd_synapse/version.py": "names the version",
    "nd_synapse/wording.py": "names of options in messages",
    "nd_synapse/volumes.py": "the contract of a source; its voxels are compared by digests",
}
"""Modules that workers import and that cannot change a byte of a block."""

WORKER = """
import sys
from nd_synapse.blocks.worker import work
from nd_synapse.detection import blocks, features, joining, workspace
from nd_synapse.pipeline import registry
for name in registry.names():
    registry.build(name, {})
print(*(module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)), sep="\\n")
"""


@pytest.fixture(scope="module")
def imported() -> set[Path]:
    """Return our files that functions on blocks import, with all pipelines."""
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True, cwd=ROOT)
    files = {Path(line).resolve() for line in done.stdout.splitlines()}
    return {file for file in files if file.is_relative_to(PACKAGE) or file.is_relative_to(ROOT / "pipelines")}


def test_what_workers_import_is_covered_or_cannot_change_a_byte(imported: set[Path]) -> None:
    covered = {*fingerprint.covered_files(), *(ROOT / "pipelines").glob("*.py")}
    assert len(imported & covered) > 30
    other = {str(file.relative_to(ROOT)) for file in imported - covered}
    assert other <= WITHOUT_EFFECT.keys()


@pytest.mark.parametrize("file", ["blocks/tiles.py", "detection/objects.py", "pipeline/contract.py", "geometry.py"])
def test_a_change_of_a_covered_file_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    assert PACKAGE / file in fingerprint.covered_files()
    before = fingerprint.code.__wrapped__()
    change(monkeypatch, PACKAGE / file)
    assert fingerprint.code.__wrapped__() != before


@pytest.mark.parametrize("name", registry.names())
def test_a_change_of_any_file_of_a_pipeline_changes_its_fingerprint(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pipeline = registry.build(name, {})
    before = fingerprint.code_of(pipeline)
    for file in sorted((ROOT / "pipelines").glob("*.py")):
        with monkeypatch.context() as patch:
            change(patch, file)
            assert fingerprint.code_of(pipeline) != before


def change(monkeypatch: pytest.MonkeyPatch, changed: Path) -> None:
    """Let a file have one more byte when it is read."""
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read(file) + b" " * (file == changed))
