"""``python -m tests.gallery FOLDER`` writes the report of every pipeline on one volume, for docs/gallery.md."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tifffile

from nd_synapse.local_boss.synthetic import generate
from nd_synapse.pipeline import registry

SHAPE = (24, 384, 384)
MORE = {"puncta": ("--channels", "marker=PSD95")}
"""What the names of the channels do not decide."""


def report(name: str, volume: Path, pages: Path) -> None:
    """Run a pipeline, and keep the page of its report."""
    line = [sys.executable, "-m", "nd_synapse", "run", "--source", str(volume), "--voxel-size-nm", "70,100,100"]
    line += ["--pipeline", name, *MORE.get(name, ()), "--cpus", "1", "--path", str(volume.parent / name)]
    done = subprocess.run(line, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    (page,) = (volume.parent / name).glob("*/PyMeda_*.html")
    page.rename(pages / f"{name}.html")


def write_reports(pages: Path) -> None:
    """Write the page of every pipeline, two at a time."""
    pages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=pages.parent) as scratch, ThreadPoolExecutor(2) as two:
        volume = Path(scratch) / "synthetic"
        volume.mkdir()
        for channel, voxels in generate(shape=SHAPE, seed=0).channels.items():
            tifffile.imwrite(volume / f"{channel}.tif", voxels)
        for one in [two.submit(report, name, volume, pages) for name in registry.names()]:
            one.result()


if __name__ == "__main__":
    write_reports(Path(sys.argv[1]))
