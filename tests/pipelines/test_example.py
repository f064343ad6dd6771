"""The documents' examples of pipelines run, and their figures are those that the benchmark prints."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.data_sets import data_sets
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import DataError, UsageError
from nd_synapse.local_boss.synthetic import generate
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.listing import described, listed
from tests.conftest import REPOSITORY
from tests.markdown import fenced, section, tables

CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
PIPELINES = REPOSITORY / "docs" / "pipelines.md"
MEASUREMENTS = REPOSITORY / "docs" / "measurements.md"
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)


def installed(folder: Path) -> Path:
    """Install the example as another distribution would be: a module, and its entry point."""
    blocks = fenced(section(CONTRIBUTING, "A pipeline"))
    (code,) = (block for block in blocks if block.startswith('"""The pipeline'))
    (project,) = (block for block in blocks if block.startswith("[project.entry-points"))
    ((group, points),) = tomllib.loads(project)["project"]["entry-points"].items()
    ((name, target),) = points.items()
    (folder / f"{target.partition(':')[0]}.py").write_text(code)
    information = folder / "bright_spots-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-spots\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    return folder


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the example on the path of this process."""
    monkeypatch.syspath_prepend(str(installed(tmp_path)))
    monkeypatch.delitem(sys.modules, "bright_spots", raising=False)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("example")
def test_the_pipeline_of_the_example_is_listed_and_runs() -> None:
    assert registry.names()[-1] == "bright-spots"
    assert "bright-spots         one marker" in listed()
    assert "threshold above the mean (default 2.0 standard deviations)" in described("bright-spots")
    channels = generate((6, 96, 96)).channels
    many, few = (
        detect_arrays(registry.build("bright-spots", {"fold": fold}), channels, VOXEL_SIZE_NM) for fold in ("2", "6")
    )
    assert many.finding["threshold"] < few.finding["threshold"]
    assert len(many.table["id"]) > len(few.table["id"]) > 0


@pytest.mark.usefixtures("example")
def test_a_pipeline_with_other_names_than_its_entry_point_and_sets_or_without_roles_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record of a run would name a pipeline that nobody has; and a mistake would be a KeyError in every block."""
    example = importlib.import_module("bright_spots").BrightSpots
    channels = generate((2, 40, 40)).channels
    with monkeypatch.context() as other:
        other.setattr(example, "masks", ("Spots",))
        with pytest.raises(DataError, match="detect returns no set of that name"):
            detect_arrays(example(), channels, VOXEL_SIZE_NM)
    monkeypatch.setattr(example, "roles", ())
    with pytest.raises(UsageError, match="it has no roles, so it would get none"):
        detect_arrays(example(), {"PSD95": np.zeros((2, 9, 9), np.uint8)}, VOXEL_SIZE_NM)
    monkeypatch.setattr(example, "name", "spots")
    with pytest.raises(UsageError, match="its attribute name says 'spots'"):
        registry.build("bright-spots", {})
    assert "bright-spots         cannot be used: its entry point" in listed()


@pytest.mark.slow
def test_the_pipeline_of_the_example_passes_the_conformance_suite(tmp_path: Path) -> None:
    """By the command in the document."""
    (command,) = (block for block in fenced(section(CONTRIBUTING, "A pipeline")) if "-m pytest" in block)
    words = [sys.executable, *command.split()[1:], "-q", "-p", "no:cacheprovider"]
    path = os.pathsep.join([str(installed(tmp_path)), str(REPOSITORY)])
    done = subprocess.run(
        words, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 40, done.stdout


def test_the_function_of_the_example_gives_the_same_for_any_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = (block for block in fenced(section(PIPELINES, "A function of your own")) if block.startswith("import"))
    (tmp_path / "spots.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "spots", raising=False)
    channels = generate((6, 96, 96)).channels
    pipeline = registry.build("spots:spots", {})
    whole, parts = (
        detect_arrays(pipeline, channels, VOXEL_SIZE_NM, block_size=size) for size in ((6, 96, 96), (4, 30, 41))
    )
    assert tuple(whole.masks) == ("All", "Strong")
    assert 0 < np.count_nonzero(whole.masks["Strong"]) < np.count_nonzero(whole.masks["All"])
    for name, mask in whole.masks.items():
        assert np.array_equal(mask, parts.masks[name])


@pytest.mark.slow
def test_the_figures_on_planted_synapses_are_those_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """To half a hundredth: another processor may round a random number differently."""
    accuracy.on_points([next(data_sets())])
    shown = {row[0]: row for row in tables(section(MEASUREMENTS, "Accuracy of the pipelines"))[0]}
    for what, *cells in tables(capsys.readouterr().out)[-1]:
        then, now = ([float(n) for n in re.findall(r"[0-9.]+", " ".join(row))] for row in (shown[what][1:], cells))
        assert then == pytest.approx(now, abs=0.005), what


TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)

if __name__ == "__main__":
    printed = {table.split("|")[1]: table for table in TABLE.findall(Path(sys.argv[1]).read_text(encoding="utf-8"))}
    text = MEASUREMENTS.read_text(encoding="utf-8")
    text = TABLE.sub(lambda table: printed.get(table[0].split("|")[1], table[0]), text)
    MEASUREMENTS.write_text(text, encoding="utf-8")
