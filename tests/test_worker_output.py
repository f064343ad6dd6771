"""What workers print and log comes out of their parent: whole, in its order, by its settings, and without secrets."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nd_synapse import logs
from nd_synapse.blocks import output
from nd_synapse.blocks.output import RecordSender
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, Failed
from nd_synapse.credentials import Token
from nd_synapse.geometry import Box
from nd_synapse.redaction import hidden, redacted

SECRET = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
ONE = Box.of_shape((1, 1, 1))


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    logs.apply(None)


def outcome(function: Callable[[Box], object]) -> Done | Failed:
    with BlockPool(1) as pool:
        (one,) = pool.run(function, Boxes([ONE]))
    return one


def talks(_: Box) -> None:
    print("first")
    logging.getLogger("of.a.user").warning("second %s", SECRET)
    sys.stderr.write("no end of a line")
    logging.getLogger("of.a.user").info("third")
    logging.getLogger("of.a.user").debug("fourth")
    print("\N{GREEK SMALL LETTER MU} fifth", flush=True)


def test_each_line_goes_where_it_would_in_the_parent(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    logs.apply(logs.LogSettings(logging.INFO))
    with logs.job_log(tmp_path / "job.log", Token(SECRET)):
        outcome(talks)
    out, err = capsys.readouterr()
    assert out == "first\n\N{GREEK SMALL LETTER MU} fifth\n"
    assert "no end of a line" in err
    assert [word for word in ("second ***", "third", "fourth") if word in err] == ["second ***", "third"]
    written = (tmp_path / "job.log").read_text()
    assert [word for word in ("second ***", "third", "fourth") if word in written] == ["second ***", "third", "fourth"]
    assert f"of.a.user[{os.getpid()}]" not in written  # the process is the worker
    assert "of.a.user[" in written
    assert SECRET not in out + err + written


def test_a_program_that_imports_us_gets_no_secret_in_its_own_handlers(caplog: pytest.LogCaptureFixture) -> None:
    logs.apply(logs.LogSettings(logging.INFO))
    with hidden(Token(SECRET)):
        outcome(talks)
    assert "second ***" in caplog.messages
    assert SECRET not in caplog.text


def crashes(_: Box) -> None:
    print("before the end")
    os.write(2, b"last words\n")
    os.abort()


def test_what_a_worker_prints_before_it_crashes_is_shown_before_its_block_is_said_to_have_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.apply(logs.LogSettings(logging.INFO))
    assert isinstance(outcome(crashes), Failed)
    out, err = capsys.readouterr()
    assert out.count("before the end") == 2
    assert err.index("last words") < err.index("tried again alone")


def leaves_one_running(_: Box) -> int:
    return subprocess.Popen(["sleep", "60"]).pid


def test_a_program_that_a_function_leaves_running_holds_nobody_up() -> None:
    started = time.monotonic()
    done = outcome(leaves_one_running)
    assert isinstance(done, Done)
    os.kill(done.result, 9)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["closed", "of-a-program"])
def test_any_standard_output_will_do(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    assert isinstance(outcome(talks), Done)
    assert stream is None or stream.getvalue().startswith("first\n")


def test_a_secret_in_a_line_without_end_is_not_cut_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_LONGEST_LINE", 2000)
    monkeypatch.setattr(output, "_HELD_BACK", 500)
    for at in range(1400, 2001, 7):
        line = "x" * at + SECRET + "x" * (2001 - at)
        for end in range(2001, len(line), 19):  # what came by now
            with hidden(Token(SECRET)):
                first, rest = output._cut(line[:end].encode())
                second, rest = output._cut(rest + line[end:].encode() + b"\n")
                shown = redacted(first.decode()) + redacted(second.decode())
            assert (shown, rest) == (f"{'x' * at}***{'x' * (2001 - at)}\n", b"")


def test_a_record_that_no_parent_reads_is_lost_and_nothing_else() -> None:
    sender = RecordSender()
    os.close(sender._descriptor)
    sender.handle(logging.makeLogRecord({"msg": "nobody reads this"}))
