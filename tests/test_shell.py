"""Every command alike: how it begins, tells errors, writes and ends, whatever its user and its surroundings do."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nd_synapse import logs
from nd_synapse.cli.evaluate import main as evaluate
from nd_synapse.console import app
from nd_synapse.credentials import Token
from nd_synapse.errors import LimitError, NDSynapseError, StorageError
from nd_synapse.job import delivery
from tests.conftest import REPOSITORY

JOB = [
    *("--host", "http://127.0.0.1:9", "--col", "c", "--exp", "e", "--token", "public", "--no-push"),
    *("--z-range", "0,4", "--y-range", "0,4", "--x-range", "0,4"),
]
COMMANDS = {
    "driver.py": ["driver.py"],
    "driver.py upload": ["driver.py", "upload"],
    "driver.py verify": ["driver.py", "verify"],
    "nd_multicore": ["-m", "nd_multicore"],
    "batch": ["-m", "nd_synapse", "batch"],
    "batch plan": ["-m", "nd_synapse", "batch", "plan"],
    "batch status": ["-m", "nd_synapse", "batch", "status"],
    "pymeda_driver": ["-m", "pymeda_driver"],
    "pipelines.evaluate": ["-m", "nd_synapse", "evaluate"],
    "local_boss": ["-m", "nd_synapse", "boss"],
    "local_boss ingest": ["-m", "nd_synapse", "boss", "ingest"],
    "local_boss.demo": ["-m", "nd_synapse", "demo"],
}
PROGRAMS = [name for name in COMMANDS if " " not in name]
"""Each main program once: what comes before the parsing is common to its commands."""

slow = partial(pytest.param, marks=pytest.mark.slow)
"""Parameters of a test that waits for a server which is not there."""

LIMIT_S = 120
HANDLED = 1 << (signal.SIGTERM - 1)


def line(name: str, *words: str) -> list[str]:
    """Return a command line that works from any folder."""
    first, *rest = COMMANDS[name]
    return [sys.executable, str(REPOSITORY / first) if first.endswith(".py") else first, *rest, *words]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


def run(
    words: list[str], cwd: Path = REPOSITORY, shell_words: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command, with redirections or limits of a shell."""
    text = f"set -o pipefail; {shell_words.format(shlex.join(words)) if shell_words else shlex.join(words)}"
    return subprocess.run(
        ["bash", "-c", text], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=LIMIT_S
    )


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    logs.apply(None)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("z,y,x\n1,2,3\n2,3,4\n")
    return path


@pytest.mark.parametrize("name", COMMANDS)
class TestOutput:
    """Output that nobody takes."""

    def test_a_help_that_cannot_be_written_is_told_so(self, name: str) -> None:
        done = run(line(name, "--help"), shell_words="{} > /dev/full")
        assert done.returncode == StorageError.exit_code
        assert done.stderr.endswith(" ERROR standard output: no space left on device. Send it where there is room.\n")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("taken", ["{} | head -0", "{} >&-", "{} <&- >&- 2>&-"])
    def test_who_has_read_enough_is_not_told(self, name: str, taken: str) -> None:
        done = run(line(name, "--help"), shell_words=taken)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("taken", ["{} 2>&-", "{} 2>/dev/full"])
    def test_an_error_that_nobody_hears_keeps_its_exit_code(self, name: str, taken: str) -> None:
        done = run(line(name, "--no-such-option"), shell_words=taken)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("words", [["--hel"], ["--no-such-option"], [f"--{'x' * 5000}", "a\nb"]])
def test_a_command_line_that_cannot_be_meant_is_one_sentence(name: str, words: list[str]) -> None:
    done = run(line(name, *words))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert " ERROR " in done.stderr
    assert len(done.stderr) < 1500


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_signal_while_a_command_is_imported_ends_it_in_a_sentence(name: str, number: signal.Signals) -> None:
    """Before it hears them, the signal ends Python as it ends any program."""
    process = subprocess.Popen(
        line(name, "--help"), cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        (caught,) = (text for text in status.read_text().splitlines() if text.startswith("SigCgt:"))
        if int(caught.split()[1], 16) & HANDLED:
            break
        time.sleep(0.001)
    process.send_signal(number)
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, told
    assert b"it was stopped by a signal" in told
    assert told.count(b"\n") == 1


def test_a_signal_while_a_report_is_drawn_ends_it_in_a_sentence(tmp_path: Path) -> None:
    table = tmp_path / "long.csv"
    rows = np.random.default_rng(0).normal(size=(4000, 6))
    table.write_text("a,b,c,d,e,f\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    words = line("pymeda_driver", str(table), "--out", str(tmp_path / "out"))
    process = subprocess.Popen(words, cwd=REPOSITORY, env=environment(), stderr=subprocess.PIPE)
    maps = Path(f"/proc/{process.pid}/maps")
    deadline = time.monotonic() + LIMIT_S
    while "sklearn/cluster" not in maps.read_text() and time.monotonic() < deadline:  # what orders the columns
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, told
    assert b"it was stopped by a signal" in told
    assert b"Traceback" not in told


@pytest.mark.parametrize("name", PROGRAMS)
class TestSurroundings:
    """What a machine, a shell, or another program does to all commands."""

    def test_a_folder_that_is_gone_is_named(self, name: str, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        done = run(line(name, "--version"), cwd=gone, shell_words=f"rmdir {gone}; {{}}")
        assert done.returncode == StorageError.exit_code, done.stderr
        assert "ERROR the working directory: it is not there any more. Change to a folder that exists." in done.stderr
        assert "Traceback" not in done.stderr

    def test_too_little_memory_to_be_imported_is_told_in_a_sentence(self, name: str) -> None:
        """Libraries in C print lines of their own; the help of the local BOSS loads none of them."""
        done = run(line(name, "--help"), shell_words="ulimit -v 60000; {}")
        if name == "local_boss":
            assert (done.returncode, done.stderr) == (0, "")
            return
        assert done.returncode == StorageError.exit_code, done.stderr
        assert "memory" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr

    def test_settings_of_other_programs_are_not_looked_at(self, name: str, tmp_path: Path) -> None:
        others = {
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "MATPLOTLIBRC": str(tmp_path),
            "TQDM_MININTERVAL": "x",
            "TQDM_NCOLS": "x",
        }
        (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
        done = run(line(name, "--help"), **others)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("backend", ["nope", "module://matplotlib_inline.backend_inline"])
def test_a_report_is_drawn_whatever_backend_a_terminal_exports(table: Path, tmp_path: Path, backend: str) -> None:
    done = run(line("pymeda_driver", str(table), "--out", str(tmp_path / "out")), MPLBACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_file()


def test_an_environment_without_our_libraries_is_told_in_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", "driver.py"], cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == StorageError.exit_code
    assert "No module named" in done.stderr
    assert "requirements.txt" in done.stderr
    assert done.stderr.count("\n") == 1


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files", "x"), "ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), "fs.file-max"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "no more memory"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (MemoryError(), "no more memory"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (ImportError("a.so: failed to map segment from shared object"), "no more memory"),
        (chained(ImportError("numpy"), ImportError("b.so: failed to map segment from shared object")), "memory"),
        (chained(ValueError("x"), OSError(errno.EMFILE, "Too many open files")), "ulimit -n"),
    ],
)
def test_a_limit_of_the_machine_is_named_wherever_it_is_met(error: BaseException, words: str) -> None:
    meant = app.translated(error)
    assert isinstance(meant, LimitError)
    assert words in str(meant)
    assert meant.exit_code == 74


@pytest.mark.parametrize(
    "error", [ValueError("x"), FileNotFoundError(2, "no such file", "x"), RuntimeError(), KeyError()]
)
def test_what_is_no_limit_stays_a_defect(error: BaseException) -> None:
    assert app.translated(error) is None


def test_a_defect_is_told_in_a_line_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(words: list[str], _environ: object) -> int:
        return int(words[0])

    assert app.run(broken, ["two\nlines"]) == 1
    told = capsys.readouterr().err
    assert "a defect of nd-synapse, please report it" in told
    assert "ValueError: invalid literal" in told
    assert "test_shell.py:" in told
    assert told.count("\n") == 1


UNSET = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nope", "AWS_SHARED_CREDENTIALS_FILE": "/nope"}


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("driver.py", ["--list-pipelines"], 0),
        ("driver.py", [], 2),
        ("driver.py", [*JOB, "--block-size", "a"], 2),
        slow("driver.py", JOB, 69),
        ("driver.py upload", ["{folder}", "--bucket", "abc"], 2),
        ("driver.py upload", ["{wrong}", "--bucket", "abc"], 65),
        ("driver.py upload", ["{table}/..", "--bucket", "no such bucket"], 2),
        ("driver.py verify", ["{folder}", "--offline"], 2),
        ("driver.py verify", ["{wrong}", "--offline"], 65),
        ("nd_multicore", ["/nope/neurodata.cfg", "os:getcwd"], 2),
        ("batch plan", [*JOB, "--block-size", "a"], 2),
        slow("batch plan", JOB, 69),
        ("batch", [], 2),
        ("batch status", ["no address"], 2),
        ("local_boss", [], 2),
        ("local_boss ingest", ["--data", "{folder}", "x"], 2),
        ("local_boss.demo", ["--path", "{wrong}"], 2),
        ("pymeda_driver", ["{table}", "--out", "{folder}/out"], 0),
        ("pymeda_driver", ["{wrong}/run.json", "--out", "{folder}"], 65),
        ("pymeda_driver", ["{table}", "--out", "/proc/nowhere"], 74),
        ("pipelines.evaluate", ["--detections", "{table}", "--truth", "{table}", "--voxel-size-nm", "1,1,1"], 0),
        (
            "pipelines.evaluate",
            ["--detections", "{wrong}/run.json", "--truth", "{table}", "--voxel-size-nm", "1,1,1"],
            65,
        ),
        (
            "pipelines.evaluate",
            ["--detections", "{table}", "--truth", "{table}", "--voxel-size-nm", "1,1,1", "--out", "/proc/nowhere"],
            74,
        ),
    ],
)
def test_a_command_ends_with_the_exit_code_that_its_help_names(
    name: str, words: list[str], code: int, table: Path, tmp_path: Path
) -> None:
    """Those that take a server (3, 77, and more of the others) are with the tests of each command."""
    places = {"table": table, "folder": tmp_path / "folder", "wrong": tmp_path / "wrong"}
    places["folder"].mkdir()
    places["wrong"].mkdir()
    (places["wrong"] / "run.json").write_text("no\nJSON,\n")
    done = run(line(name, *(word.format(**places) for word in words)), **UNSET)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert code == 0 or done.stderr.splitlines()[-1].count(" ERROR ") == 1


FORGED = "2026-01-01T00:00:00.000Z INFO all is well"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("driver.py", [*JOB, "--z-range", f"0,4\n{FORGED}"]),
        ("driver.py", [*JOB, "--pipeline", f"a\n{FORGED}:c"]),
        ("driver.py", [*JOB, "--path", f"/proc/a\n{FORGED}"]),
        slow("driver.py", [*JOB, "--block-size", "4,4,4", "--shared", f"s3://b/a\n{FORGED}", "--phase", "report"]),
        slow("driver.py", [*JOB, "--block-size", "4,4,4", "--shared", "x" * 5000, "--phase", "report"]),
        ("driver.py", [*JOB, "--param", "y" * 5000]),
        ("batch status", [f"s3://b/x\n{FORGED}"]),
        ("driver.py upload", [f"a\n{FORGED}", "--bucket", "abc"]),
        ("driver.py verify", [f"a\n{FORGED}", "--offline"]),
        ("nd_multicore", [f"a\n{FORGED}", "os:getcwd"]),
        ("pymeda_driver", [f"a\n{FORGED}", "--out", "/proc/x"]),
        ("pipelines.evaluate", ["--detections", f"a\n{FORGED}", "--truth", "b", "--voxel-size-nm", "1,1,1"]),
    ],
)
def test_no_value_can_write_a_line_of_its_own_or_fill_the_log(name: str, words: list[str]) -> None:
    done = run(line(name, *words), AWS_EC2_METADATA_DISABLED="true")
    assert done.returncode not in (0, 1), done.stderr
    assert not [text for text in done.stderr.splitlines() if text.startswith(FORGED)]
    assert " ERROR " in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()[-1]) < 3000


class TestPipelinesOfOnesOwn:
    """What a function of the user's does costs its result, and says so, whatever it raises."""

    @pytest.fixture
    def images(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "PSD95.tif", np.ones((4, 8, 8), np.uint8), photometric="minisblack")
        (tmp_path / "hostile_of_a_user.py").write_text(
            "import sys\n"
            "class Odd(BaseException): pass\n"
            "def raises(channels): raise ValueError('too\\nbad')\n"
            "def exits(channels): sys.exit(0)\n"
            "def odd(channels): raise Odd('odd')\n"
        )
        (tmp_path / "odd_of_a_user.py").write_text("raise GeneratorExit('odd')\n")
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path / "images"

    @pytest.mark.parametrize(
        ("function", "code", "words"),
        [
            ("hostile_of_a_user:raises", 65, "ValueError: too\\nbad"),
            ("hostile_of_a_user:exits", 65, "SystemExit: 0"),
            ("hostile_of_a_user:odd", 65, "Odd: odd"),
            ("odd_of_a_user:any", 2, "importing odd_of_a_user ended with GeneratorExit: odd"),
        ],
    )
    def test_evaluation_tells_what_a_function_did(
        self, images: Path, table: Path, capsys: pytest.CaptureFixture[str], function: str, code: int, words: str
    ) -> None:
        against = ["--images", str(images), "--truth", str(table), "--voxel-size-nm", "70,100,100"]
        assert evaluate([*against, "--pipeline", function]) == code
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1

    @pytest.mark.parametrize("name", ["driver.py", "nd_multicore"])
    def test_a_module_that_raises_whatever_it_likes_is_told_in_a_sentence(
        self, images: Path, tmp_path: Path, name: str
    ) -> None:
        path = "odd_of_a_user:any"
        words = [*JOB, "--pipeline", path] if name == "driver.py" else ["neurodata.cfg", path]
        done = run(line(name, *words), cwd=images.parent)
        assert done.returncode == 2
        assert "importing odd_of_a_user ended with GeneratorExit: odd" in done.stderr
        assert done.stderr.count("\n") == 1


class Happened:
    """As much of an outcome as a step looks at."""

    def __init__(self) -> None:
        self.failures: list[NDSynapseError] = []
        self.seconds: dict[str, float] = {}


def test_a_step_that_fails_in_any_way_costs_no_other(tmp_path: Path) -> None:
    happened = Happened()
    logs.apply(logs.LogSettings())
    with logs.job_log(tmp_path / "job.log", Token("public")), delivery.step(happened, "plots"):  # type: ignore[arg-type]
        raise ValueError("no such backend")
    (failure,) = happened.failures
    assert "the step plots: ValueError: no such backend" in str(failure)
    assert failure.exit_code == 1
    assert "Traceback (most recent call last)" in (tmp_path / "job.log").read_text()
    with pytest.raises(ValueError, match="here"), delivery.step(happened, "files", collect=False):  # type: ignore[arg-type]
        raise ValueError("here")
