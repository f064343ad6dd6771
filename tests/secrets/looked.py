"""Where a secret could show, and whether it does: output, files, S3, and programs that are started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import tifffile

from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer

MARK = "d5f07b31e9c4a8620bd5f07b31e9c4a8620bd5f0"
"""The token of all tests here; the server takes it, and every trace of it is a leak."""

FORMS = {
    MARK.encode(),
    MARK[:16].encode(),
}
SHAPE = (4, 48, 56)
LIMIT_S = 120
RANGES = ["--z-range", "0,4", "--y-range", "0,48", "--x-range", "0,56"]
ROWS: list[tuple[str, int, str, int]] = []
"""What was looked at: command, exit code, places, leaks."""


@dataclass
class Looked:
    """Places that were looked at, by name, and those where the token was."""

    command: str
    places: dict[str, int] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    printed: str = ""

    def at(self, place: str, body: bytes | str) -> None:
        body = body.encode("utf-8", "replace") if isinstance(body, str) else body
        self.places[place] = self.places.get(place, 0) + len(body)
        if any(form in body for form in FORMS):
            self.leaks.append(place)

    def below(self, folder: Path) -> None:
        """Look into every file, and into what TIFF compresses or hides."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.at(path.suffix.lstrip(".") or path.name, path.read_bytes())
                self.at("file names", str(path.relative_to(folder)))
            if path.name.endswith(".tiff"):
                with tifffile.TiffFile(path) as tif:
                    self.at("TIFF description", tif.pages.first.description)

    def done(self, code: int) -> None:
        """Note what was found, and refuse any trace."""
        ROWS.append((self.command, code, ", ".join(self.places), len(self.leaks)))
        assert sum(self.places.values()) > 0
        assert not self.leaks, self.command


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command, without what the machine may have of ours."""
    ours = ("RESULTS_BUCKET", "BOSS_TOKEN")
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **more}


def run(looked: Looked, words: list[str], code: int, **more: str) -> None:
    """Run a command, look at all that it prints, and at its children while it runs."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watcher = threading.Thread(target=_watch, args=(process, looked), daemon=True)
    watcher.start()
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    watcher.join(10)
    looked.at("stdout", out)
    looked.at("stderr", err)
    looked.printed = (out + err).decode(errors="replace")
    assert process.returncode == code, err.decode(errors="replace")[-2000:]


def _watch(process: subprocess.Popen[bytes], looked: Looked) -> None:
    """Look at command lines and environments of what a process starts, as other programs of its user can."""
    while process.poll() is None:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, IndexError, ValueError):
                    continue  # it has ended
        ours = {process.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        for pid in ours - {process.pid}:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if words == Path(f"/proc/{process.pid}/cmdline").read_bytes():
                    continue  # it shows its parent's until it is a program of its own
                looked.at("children's cmdline", words)
                looked.at("children's environ", Path(f"/proc/{pid}/environ").read_bytes())
            except OSError:
                continue
        time.sleep(0.05)


WATCH = """
import _posixsubprocess, os
_start = _posixsubprocess.fork_exec

def fork_exec(args, *more):
    given = [word if isinstance(word, bytes) else os.fsencode(word) for word in args]
    # None is what this process itself has
    has = more[4] if more[4] is not None else [key + b"=" + value for key, value in os.environb.items()]
    with open(os.environ["STARTED"], "ab") as log:
        log.write(b" ".join(given) + b" " + b" ".join(has) + bytes([10]))
    return _start(args, *more)

_posixsubprocess.fork_exec = fork_exec
"""
"""Writes down what each program is started with, however short it lives."""


def where(server: BossServer | str, exp: str = "plain") -> list[str]:
    url = server if isinstance(server, str) else server.url
    return ["--host", url, "--col", "small", "--exp", exp, *RANGES]


def config(path: Path, url: str, exp: str = "plain") -> Path:
    """Write a neurodata.cfg that holds the token."""
    path.write_text(
        f"[Default]\ntoken = {MARK}\nhost = {url}\n[shared]\ncollection = small\nexperiment = {exp}\n"
        "[Parallel]\nx_range = 0,56\ny_range = 0,48\nz_range = 0,4\n"
    )
    return path
