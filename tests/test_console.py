"""Every command alike: how it starts, reports errors, writes and ends, whatever its user and its machine do.

What is common to all is tested on one command as a process, what each command does itself in this process.
"""

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
from nd_synapse.console import app
from nd_synapse.credentials import Token
from nd_synapse.errors import LimitError, NDSynapseError, StorageError
from nd_synapse.job import delivery
from nd_synapse.machine import available_cores
from tests.conftest import REPOSITORY
from tests.in_process import main, restored

JOB = [
    *("--host", "http://127.0.0.1:9", "--col", "c", "--exp", "e", "--token", "public", "--no-push"),
    *("--z-range", "0,4", "--y-range", "0,4", "--x-range", "0,4"),
]
ND = "nd-synapse"
COMMANDS = [
    ["driver.py"],
    ["driver.py", "upload"],
    ["driver.py", "verify"],
    ["nd_multicore"],
    ["pymeda_driver"],
    [ND],
    [ND, "run"],
    [ND, "pipelines"],
    [ND, "batch"],
    [ND, "batch", "plan"],
    [ND, "batch", "status"],
    [ND, "evaluate"],
    [ND, "boss"],
    [ND, "boss", "ingest"],
    [ND, "demo"],
]
DRIVER = [sys.executable, str(REPOSITORY / "driver.py")]
REPORT = [sys.executable, "-m", "pymeda_driver"]
LIBRARIES = ["boto3", "botocore", "intern", "matplotlib", "requests", "scipy", "sklearn"]
LIMIT_S = 120
"""Against hangs."""

slow = partial(pytest.param, marks=pytest.mark.slow)
"""Parameters of a test that waits for a server which is not there."""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


def run(
    words: list[str], cwd: Path = REPOSITORY, shell_words: str = "{}", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a process, with redirections or limits of a shell."""
    text = f"set -o pipefail; {shell_words.format(shlex.join(words))}"
    return subprocess.run(
        ["bash", "-c", text], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=LIMIT_S
    )


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored():
        yield


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("z,y,x\n1,2,3\n2,3,4\n")
    return path


class TestOutput:
    """Output that cannot be written."""

    def test_a_help_on_a_full_disk_is_an_error(self) -> None:
        done = run([*DRIVER, "--help"], shell_words="{} > /dev/full")
        assert done.returncode == StorageError.exit_code
        assert done.stderr.endswith(" ERROR standard output: no space left on device. Send it where there is room.\n")
        assert done.stderr.count("\n") == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("redirected", ["{} | head -0", "{} >&-", "{} <&- >&- 2>&-"])
    def test_a_reader_that_has_read_enough_gets_no_error(self, redirected: str) -> None:
        done = run([*DRIVER, "--help"], shell_words=redirected)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.slow
    @pytest.mark.parametrize("redirected", ["{} 2>&-", "{} 2>/dev/full"])
    def test_an_error_that_cannot_be_written_keeps_its_exit_code(self, redirected: str) -> None:
        done = run([*DRIVER, "--no-such-option"], shell_words=redirected)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_a_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(*command, "--help") == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_a_help_imports_no_library_of_the_work() -> None:
    """They take most of a second."""
    program = f"""
import sys
from tests.in_process import main
for command in {COMMANDS!r}:
    main(*command, "--help")
print(*(name for name in {LIBRARIES!r} if name in sys.modules), file=sys.stderr)
"""
    done = run([sys.executable, "-c", program])
    assert (done.returncode, done.stderr) == (0, "\n")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no list of threads")
@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)], ids=["none", "given"])
def test_numpy_starts_no_thread_in_a_command_unless_one_is_wanted(given: dict[str, str], threads: int) -> None:
    """It waits for work by counting: 0.1 s of a core."""
    program = """
import os
from nd_synapse.console import startup
startup.begin()
import numpy
print(len(os.listdir("/proc/self/task")))
"""
    clean = {name: value for name, value in environment().items() if not name.endswith("_NUM_THREADS")}
    shown = subprocess.run(
        [sys.executable, "-c", program], env=clean | given, capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    assert int(shown.stdout) == min(threads, available_cores())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "words", [["--hel"], ["--no-such-option"], [f"--{'x' * 5000}", "a\nb"]], ids=["short", "unknown", "long"]
)
def test_an_invalid_command_line_is_one_sentence(
    command: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(*command, *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert " ERROR " in error
    assert len(error) < 1500


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_ends_a_command_in_a_sentence(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*DRIVER, "--help"], cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        (caught,) = (text for text in status.read_text().splitlines() if text.startswith("SigCgt:"))
        if int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1):
            break
        time.sleep(0.001)
    process.send_signal(number)
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, error
    assert b"it was stopped by a signal" in error
    assert error.count(b"\n") == 1


@pytest.mark.slow
def test_a_signal_while_a_report_is_drawn_ends_it_in_a_sentence(tmp_path: Path) -> None:
    table = tmp_path / "long.csv"
    rows = np.random.default_rng(0).normal(size=(4000, 6))
    table.write_text("a,b,c,d,e,f\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    words = [*REPORT, str(table), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(words, cwd=REPOSITORY, env=environment(), stderr=subprocess.PIPE)
    maps = Path(f"/proc/{process.pid}/maps")
    deadline = time.monotonic() + LIMIT_S
    while "sklearn/cluster" not in maps.read_text() and time.monotonic() < deadline:  # which orders the columns
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, error
    assert b"it was stopped by a signal" in error
    assert b"Traceback" not in error


class TestMachine:
    """What a machine or a shell does to a command."""

    def test_a_working_directory_that_was_removed_is_named(self, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        done = run([*DRIVER, "--list-pipelines"], cwd=gone, shell_words=f"rmdir {gone}; {{}}")
        assert done.returncode == StorageError.exit_code, done.stderr
        assert "ERROR the working directory: it does not exist any more. Change to a folder that exists." in done.stderr
        assert "Traceback" not in done.stderr

    def test_too_little_memory_for_imports_is_a_sentence(self) -> None:
        """With a little more, OpenBLAS ends the process itself, with a message of its own."""
        done = run([*DRIVER, "--help"], shell_words="ulimit -v 40000; {}")
        assert done.returncode == StorageError.exit_code, done.stderr
        assert "memory" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_a_report_is_drawn_whatever_backend_a_terminal_exports(self, table: Path, tmp_path: Path) -> None:
        backend = "module://matplotlib_inline.backend_inline"
        done = run([*REPORT, str(table), "--out", str(tmp_path / "out")], MPLBACKEND=backend)
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).is_file()

    def test_an_environment_without_our_libraries_is_a_sentence(self) -> None:
        done = subprocess.run(
            [sys.executable, "-S", "-E", "driver.py"], cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S
        )
        assert done.returncode == StorageError.exit_code
        assert "there is no module numpy" in done.stderr
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
def test_a_limit_of_the_machine_is_named(error: BaseException, words: str) -> None:
    meant = app.translated(error)
    assert isinstance(meant, LimitError)
    assert words in str(meant)
    assert meant.exit_code == 74


@pytest.mark.parametrize(
    "error", [ValueError("x"), FileNotFoundError(2, "no such file", "x"), RuntimeError(), KeyError()]
)
def test_what_is_no_limit_stays_a_defect(error: BaseException) -> None:
    assert app.translated(error) is None


UNSET = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nope", "AWS_SHARED_CREDENTIALS_FILE": "/nope"}
TABLES = ["--truth", "{table}", "--voxel-size-nm", "1,1,1"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["driver.py", "--list-pipelines"], 0),
        (["driver.py"], 2),
        (["driver.py", *JOB, "--block-size", "a"], 2),
        slow(["driver.py", *JOB], 69),
        (["driver.py", "upload", "{folder}", "--bucket", "abc"], 2),
        (["driver.py", "upload", "{wrong}", "--bucket", "abc"], 65),
        (["driver.py", "upload", "{table}/..", "--bucket", "no such bucket"], 2),
        (["driver.py", "verify", "{folder}", "--offline"], 2),
        (["driver.py", "verify", "{wrong}", "--offline"], 65),
        (["nd_multicore", "/nope/neurodata.cfg", "os:getcwd"], 2),
        ([ND], 0),
        ([ND, "--version"], 0),
        ([ND, "runn"], 2),
        ([ND, "pipelines"], 0),
        ([ND, "pipelines", "probabilistik"], 2),
        ([ND, "batch"], 2),
        ([ND, "batch", "plan", *JOB, "--block-size", "a"], 2),
        slow([ND, "batch", "plan", *JOB], 69),
        ([ND, "batch", "status", "no address"], 2),
        ([ND, "boss"], 2),
        ([ND, "boss", "ingest", "--data", "{folder}", "x"], 2),
        ([ND, "demo", "--path", "{wrong}"], 2),
        (["pymeda_driver", "{table}", "--out", "{folder}/out"], 0),
        (["pymeda_driver", "{wrong}/run.json", "--out", "{folder}"], 65),
        (["pymeda_driver", "{table}", "--out", "/proc/nowhere"], 74),
        ([ND, "evaluate", "--detections", "{table}", *TABLES], 0),
        ([ND, "evaluate", "--detections", "{wrong}/run.json", *TABLES], 65),
        ([ND, "evaluate", "--detections", "{table}", *TABLES, "--out", "/proc/nowhere"], 74),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_command_ends_with_the_exit_code_that_its_help_names(
    command: list[str],
    code: int,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Codes that take a server (3, 77, and more of the others) are with the tests of each command."""
    for name, value in UNSET.items():
        monkeypatch.setenv(name, value)
    places = {"table": table, "folder": tmp_path / "folder", "wrong": tmp_path / "wrong"}
    places["folder"].mkdir()
    places["wrong"].mkdir()
    (places["wrong"] / "run.json").write_text("no\nJSON,\n")
    assert main(*(word.format(**places) for word in command)) == code
    error = capsys.readouterr().err
    assert code == 0 or error.splitlines()[-1].count(" ERROR ") == 1


FORGED = "2026-01-01T00:00:00.000Z INFO all is well"


@pytest.mark.parametrize(
    "command",
    [
        ["driver.py", *JOB, "--z-range", f"0,4\n{FORGED}"],
        ["driver.py", *JOB, "--pipeline", f"a\n{FORGED}:c"],
        ["driver.py", *JOB, "--path", f"/proc/a\n{FORGED}"],
        [ND, "batch", "status", f"s3://b/x\n{FORGED}"],
        ["driver.py", "upload", f"a\n{FORGED}", "--bucket", "abc"],
        ["nd_multicore", f"a\n{FORGED}", "os:getcwd"],
        ["pymeda_driver", f"a\n{FORGED}", "--out", "/proc/x"],
    ],
    ids=lambda command: " ".join(command[:2] + command[-2:])[:60].replace("\n", " "),
)
def test_no_value_can_write_a_log_line_of_its_own(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in UNSET.items():
        monkeypatch.setenv(name, value)
    assert main(*command) not in (0, 1)
    lines = capsys.readouterr().err.splitlines()
    assert not [text for text in lines if text.startswith(FORGED)]
    assert " ERROR " in lines[-1]
    assert len(lines[-1]) < 3000


class TestUserFunctions:
    """A function of the user fails with its own error, whatever it raises."""

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
    def test_evaluation_reports_the_error_of_a_function(
        self, images: Path, table: Path, capsys: pytest.CaptureFixture[str], function: str, code: int, words: str
    ) -> None:
        against = ["--images", str(images), "--truth", str(table), "--voxel-size-nm", "70,100,100"]
        assert main(ND, "evaluate", *against, "--pipeline", function) == code
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1

    @pytest.mark.parametrize(
        "command",
        [
            ["driver.py", *JOB, "--pipeline", "odd_of_a_user:any"],
            ["nd_multicore", "neurodata.cfg", "odd_of_a_user:any"],
        ],
        ids=["driver.py", "nd_multicore"],
    )
    def test_a_module_that_raises_anything_is_a_sentence(
        self, images: Path, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(*command) == 2
        error = capsys.readouterr().err
        assert "importing odd_of_a_user ended with GeneratorExit: odd" in error
        assert error.count("\n") == 1


class Happened:
    """The part of an outcome that a step uses."""

    def __init__(self) -> None:
        self.failures: list[NDSynapseError] = []
        self.seconds: dict[str, float] = {}


def test_a_step_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    happened = Happened()
    logs.apply(logs.LogSettings())
    with logs.job_log(tmp_path / "job.log", Token("public")), delivery.step(happened, "plots"):  # type: ignore[arg-type] # the part of a job's record that it writes
        raise ValueError("no such backend")
    (failure,) = happened.failures
    assert "the step plots: ValueError: no such backend" in str(failure)
    assert failure.exit_code == 1
    assert "Traceback (most recent call last)" in (tmp_path / "job.log").read_text()
    with pytest.raises(ValueError, match="here"), delivery.step(happened, "files", collect=False):
        raise ValueError("here")
