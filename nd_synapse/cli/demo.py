"""The demonstration: a synthetic sample in a local BOSS, the job run on it as a user would, its results verified.

It needs neither network nor accounts. Where moto's server is installed, it receives the results as S3.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.errors import NDSynapseError, StorageError, UnavailableError, UsageError
from nd_synapse.geometry import Box

if TYPE_CHECKING:
    from nd_synapse.local_boss.sample import SampleInfo

__all__ = ["main", "make_room"]

_BUCKET = "nd-synapse-demo"
_MARKER = ".nd-synapse-demo"  # marks a folder whose boss/ and results/ a demonstration may remove
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 10.0
_MATCH_NM = 300.0
_JOB_LIMIT_S = 3600.0  # it takes half a minute
_COMMAND = [sys.executable, "-m", "nd_synapse"]


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration."""
    parser = Parser(prog="nd-synapse demo", description="Run the main job on a synthetic sample.")
    parser.add_argument(
        "--path",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="empty, or of an earlier demonstration; default: %(default)s",
    )

    def command(words: list[str], _environ: Mapping[str, str]) -> int:
        return _demonstrate(parser.parse_args(words).path)

    return app.run(command, argv, remedy="The same command starts over")


def _demonstrate(path: Path) -> int:
    """Write the sample, serve it, run the job, and verify and score its results."""
    # a help appears sooner without them
    from nd_synapse.local_boss.boss import Boss
    from nd_synapse.local_boss.sample import COLLECTION, DESCRIPTION, EXPERIMENT, write_sample
    from nd_synapse.local_boss.tokens import writing_token

    make_room(path)
    data = path / "boss"
    _write(f"1. A sample: writing {COLLECTION}/{EXPERIMENT} ({DESCRIPTION.lower()}) to {data}")
    boss = Boss(data)
    try:
        sample = write_sample(boss)
    finally:
        boss.close()
    with ExitStack() as servers:
        url = servers.enter_context(_served_boss(data))
        environment = {**os.environ, "BOSS_TOKEN": writing_token(data)}
        environment.pop("RESULTS_BUCKET", None)
        if importlib.util.find_spec("moto") is not None:
            environment.update(servers.enter_context(_served_s3()), RESULTS_BUCKET=_BUCKET)
        words = ["run", *_arguments(url, sample.box), "--path", str(path / "results")]
        _write(f"2. The job, on a local BOSS at {url}:\n   nd-synapse {' '.join(words)}")
        started = time.monotonic()
        code = _run([*_COMMAND, *words], environment)
        if code:
            return code
        (folder,) = (path / "results").iterdir()
        words = ["verify", str(folder)]
        _write(
            f"3. Done in {time.monotonic() - started:.1f} s. Its results, verified:\n   nd-synapse {' '.join(words)}"
        )
        code = _run([*_COMMAND, *words], environment)
        if code:
            return code
    _write_score(folder, sample)
    (report,) = folder.glob("*.html")
    _write(f"\nReport: {report.resolve()}")
    return 0


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command; return its exit code."""
    try:
        return subprocess.run(command, env=environment, check=False, timeout=_JOB_LIMIT_S).returncode
    except subprocess.TimeoutExpired as error:
        found = f"it did not end within {_JOB_LIMIT_S:.0f} s"
        raise UnavailableError("the demonstration's job", found, "See what keeps the machine busy") from error


def make_room(path: Path) -> None:
    """Remove what an earlier demonstration left in a folder; refuse a folder with anything else."""
    requested, marker = f"--path {path}", path / _MARKER
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not marker.is_file() and any(path.iterdir()):
            raise UsageError(
                requested, "no demonstration made this folder, and it is not empty", "Name an empty folder"
            )
        marker.touch()
        for name in ("boss", "results"):
            if (path / name).exists():
                shutil.rmtree(path / name)
    except NDSynapseError:
        raise
    except OSError as error:
        raise StorageError(requested, error.strerror or str(error), "Name a folder that you may write to") from error


def _arguments(url: str, box: Box) -> list[str]:
    from nd_synapse.local_boss.sample import COLLECTION, EXPERIMENT

    ranges = [text for axis, (a, b) in zip("zyx", box.ranges, strict=True) for text in (f"--{axis}-range", f"{a},{b}")]
    return ["--host", url, "--col", COLLECTION, "--exp", EXPERIMENT, *ranges]


def _write_score(folder: Path, sample: SampleInfo) -> None:
    """Print how the table compares with the planted synapses."""
    from nd_synapse.evaluate.evaluation import evaluate_points
    from nd_synapse.evaluate.truth import read_points

    planted, detected = read_points(sample.truth_csv, None), read_points(folder / "synapses.csv", None)
    result = evaluate_points(planted, detected, _MATCH_NM)
    _write(
        f"4. Score: planted synapses found (centroid within {_MATCH_NM / 1000:g} um): "
        f"{result.hits} of {len(planted)}, {len(result.false_alarms)} detections matched none"
    )
    for kind, group in result.by_kind.items():
        _write(f"   {kind}: {group.matched} of {group.total}")


@contextmanager
def _served_boss(data: Path) -> Iterator[str]:
    """Serve a data folder from a process of its own; yield the URL."""
    process = subprocess.Popen([*_COMMAND, "boss", "serve", "--data", str(data)], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(_START_LIMIT_S, process.kill)
    watchdog.start()
    try:
        # the server prints its address or ends; either way this line returns
        url = process.stdout.readline().strip() if process.stdout else ""
        watchdog.cancel()
        if not url:
            found = f"the server ended, or did not start within {_START_LIMIT_S:.0f} s"
            raise UnavailableError("a local BOSS", found, "Read its message above, if there is one")
        yield url
    finally:
        watchdog.cancel()
        _stop(process)


@contextmanager
def _served_s3() -> Iterator[dict[str, str]]:
    """Serve S3 from a process of its own; yield the environment that leads to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        _stop(process)


def _wait_for(port: int) -> None:
    """Wait until a server listens."""
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise UnavailableError("an S3 server on this machine", f"no response within {_START_LIMIT_S:.0f} s", "Try again")


def _stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a server."""
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        # a process in an uninterruptible wait is left behind
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_LIMIT_S)
    if process.stdout is not None:
        process.stdout.close()


def _write(text: str) -> None:
    """Write a line at once: the job writes to the same terminal."""
    app.write_stdout(f"{text}\n")
