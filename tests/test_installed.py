"""Our entry points, read without those of all other distributions."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from nd_synapse.console import commands
from nd_synapse.installed import own_entry_points
from nd_synapse.pipeline import registry


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install another distribution that has a command and a pipeline of ours."""
    information = tmp_path / "impostor-1.0.dist-info"
    information.mkdir()
    text = "Metadata-Version: 2.1\nName: impostor\nVersion: 1.0\n"
    (information / "METADATA").write_text(text)
    points = "[nd_synapse.pipelines]\nnomads-unsupervised = os:nothing\n[nd_synapse.commands]\npipelines = os:nothing\n"
    (information / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()


@pytest.mark.usefixtures("impostor")
def test_nobody_replaces_a_command_or_a_pipeline_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert registry.build("nomads-unsupervised", {}).name == "nomads-unsupervised"
    assert registry.names()[0] == "nomads-unsupervised"
    assert commands.run(["pipelines"]) == 0
    assert "two markers, one mask" in capsys.readouterr().out


def test_a_clone_that_is_not_installed_has_no_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    assert own_entry_points(commands.ENTRY_POINTS) == {}
