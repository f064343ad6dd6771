"""What the cases of `surroundings` do and look at."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from batch.arguments import for_container
from nd_synapse.aws import connection as aws
from nd_synapse.aws.bucket import Bucket
from nd_synapse.aws.errors import meaning_in_s3
from nd_synapse.blocks import pool as pools
from nd_synapse.blocks.pool import BlockPool, Boxes, Done, Failed
from nd_synapse.boss.connection import connect
from nd_synapse.boss.resource import NeuroDataResource
from nd_synapse.console import app
from nd_synapse.credentials import Token
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box, Frame
from nd_synapse.job import delivery, forecast
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.job import Job
from nd_synapse.multicore.run import _Report
from nd_synapse.progress import reporting
from nd_synapse.redaction import describe_error, hidden, redacted
from nd_synapse.values import parse_gib

SECRET = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
ONE = Box.of_shape((1, 1, 1))


def refusal(call: Callable[[], object]) -> str:
    """Return how a call fails, with its exit code."""
    try:
        return f"not refused: {call()}"
    except BaseException as error:  # noqa: BLE001 - a defect is a result here
        with mock.patch.object(app, "log"):
            code = app.log_error(error) if isinstance(error, NDSynapseError) else app.log_uncaught(error)
        return f"{code}: {error}"


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[list[str]]:
    """Collect what is logged."""
    lines: list[str] = []
    handler = logging.Handler(level)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign] # shorter than a class
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def given(**variables: str) -> Any:
    """Change the environment while a context lasts."""
    return mock.patch.dict(os.environ, variables)


# secrets


def raises_all(_box: Box) -> None:
    """A function of a user that says all it finds in the environment."""
    raise RuntimeError(f"{dict(os.environ)}")


def says_so(_box: Box) -> None:
    """A function of a user that ran."""
    raise ValueError("it ran")


def failed(function: Callable[[Box], object], setup: Callable[..., None] | None = None) -> Failed:
    """Return what the parent gets of a function that raises."""
    with BlockPool(1, setup) as pool:
        (outcome,) = pool.run(function, Boxes([ONE]))
    assert isinstance(outcome, Failed)
    return outcome


def keys_in_a_failure(_folder: Path) -> str:
    with given(AWS_SECRET_ACCESS_KEY=SECRET, AWS_SESSION_TOKEN=SECRET, BOSS_TOKEN=SECRET):
        outcome = failed(raises_all)
    text = outcome.reason + outcome.traceback
    return f"the secret is {'there' if SECRET in text else 'not there'}"


def variables_of_a_worker(_folder: Path) -> str:
    def found(_box: Box) -> str:
        secret = ("AWS_SECRET", "AWS_CONTAINER", "BOSS_TOKEN")
        return ", ".join(sorted(name for name in os.environ if name.startswith(secret))) or "none"

    with (
        given(AWS_SECRET_ACCESS_KEY=SECRET, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/x", BOSS_TOKEN=SECRET),
        BlockPool(1) as pool,
    ):
        (outcome,) = pool.run(found, Boxes([ONE]))
    return str(outcome.result) if isinstance(outcome, Done) else outcome.reason


def environment_meanwhile(_folder: Path) -> str:
    """What another thread sees in the environment while a worker starts."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.add(f"{os.environ.get('BOSS_TOKEN')} {os.environ.get('OMP_NUM_THREADS')}")

    with given(BOSS_TOKEN="public", OMP_NUM_THREADS="7"):
        watcher = threading.Thread(target=watch)
        watcher.start()
        failed(raises_all)
        ended.set()
        watcher.join()
    return "; ".join(sorted(seen))


def secret_that_is_cut(_folder: Path) -> str:
    with hidden(Token(SECRET)):
        text = describe_error(RuntimeError("x" * 310 + SECRET + "y" * 900))
    return f"a part of it is {'there' if SECRET[:10] in text else 'not there'}"


def hidden_in(text: str, **variables: str) -> Callable[[Path], str]:
    def observe(_folder: Path) -> str:
        with given(**variables):
            return redacted(text)

    return observe


def secret_of_a_job_description(_folder: Path) -> str:
    with given(AWS_SECRET_ACCESS_KEY=SECRET):
        return refusal(lambda: for_container(["--param", f"key={SECRET}"], None))


# the way to BOSS


def proxies(host: str, **variables: str) -> Callable[[Path], str]:
    def observe(_folder: Path) -> str:
        with given(**variables):
            for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
                os.environ.pop(name, None)
            try:
                remote = connect(host, "public")
            except NDSynapseError as error:
                return str(error)
        return str(remote.volume_service.session_send_opts["proxies"].get("https", "none"))

    return observe


# AWS


def headers_of_an_object(_folder: Path) -> str:
    """Return the headers with digests that a conditional write sends."""
    sent: dict[str, str] = {}

    def answer(request: Any, **_: object) -> AWSResponse:
        sent.update(request.headers)
        raw = SimpleNamespace(stream=lambda *_: iter(()), read=lambda *_: b"")
        return AWSResponse(request.url, 200, {"ETag": '"x"'}, raw)

    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "testing")
    with given(**keys, AWS_DEFAULT_REGION="us-east-1", AWS_REQUEST_CHECKSUM_CALCULATION="when_required"):
        bucket = Bucket("mine", "Go on")
        bucket._client.meta.events.register("before-send.s3", answer)
        bucket.put_new("key", b"body")
    return ", ".join(sorted(name.lower() for name in sent if "md5" in name.lower() or "checksum" in name.lower()))


def answer_of_a_store(status: int, code: str) -> Callable[[Path], str]:
    def observe(_folder: Path) -> str:
        response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        kind, _, hint = meaning_in_s3(ClientError(response, "PutObject"))
        return f"{kind.exit_code}: {hint}"

    return observe


def program_of_credentials(program: str) -> Callable[[Path], str]:
    def observe(folder: Path) -> str:
        (folder / "program.py").write_text(program)
        command = shlex.join([sys.executable, str(folder / "program.py")])
        (folder / "config").write_text(f"[profile mine]\ncredential_process = {command}\n")
        with given(AWS_CONFIG_FILE=str(folder / "config"), AWS_PROFILE="mine", AWS_DEFAULT_REGION="us-east-1"):
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                os.environ.pop(name, None)
            with mock.patch.object(aws, "_PROGRAM_S", 0.2):
                return refusal(lambda: aws.s3_client("Go on")).partition(". Set up")[0]

    return observe


# what a plan says


class Opened:
    """What a plan asks an opened volume for."""

    channels = image_channels = requested_channels = ("PSD95_1", "synapsin_1", "DAPI")
    frame = Frame("opened", Box.of_shape((64, 4000, 4000)), (70.0, 100.0, 100.0))
    identity = "opened"

    def dtype(self, _channel: str) -> np.dtype[Any]:
        return np.dtype(np.uint16)


def a_job(**options: Any) -> Job:
    requested: dict[str, Any] = {"host": "h.invalid", "token": Token("public"), "push": False, "cpus": 2}
    box = Box.of_shape((64, 4000, 4000))
    return Job(**{**requested, "collection": "c", "experiment": "e", "box": box, **options})


def planned(job: Job, folder: Path) -> Plan:
    source = cast("NeuroDataResource", Opened())
    roles = job.pipeline.choose(Opened.channels, {})
    return forecast.plan_of(job, source, roles, ResultFolder.named(folder, job.results_key))


def memory_that_is_printed(folder: Path) -> str:
    job = a_job(memory_bytes=2**33, block_size=(32, 512, 512))
    text = forecast.forecast(job, planned(job, folder))
    line = next(line for line in text.splitlines() if line.startswith("memory"))
    again = replace(job, memory_bytes=parse_gib("--memory", line.split()[2]))
    return f"{line.split(maxsplit=1)[1]}; with it: blocks of {planned(again, folder).block_size}"


def memory_that_is_refused(folder: Path) -> str:
    job = a_job(memory_bytes=2**30, block_size=(32, 512, 512), cpus=2)
    found = refusal(lambda: planned(job, folder))
    needed = parse_gib("--memory", found.split("--memory ")[1].split(",")[0])
    return f"{found.partition(': ')[2]} With it: {planned(replace(job, memory_bytes=needed), folder).block_size}"


def excess(**options: Any) -> Callable[[Path], str]:
    def observe(folder: Path) -> str:
        free = SimpleNamespace(free=2**30 if options == {} else 2**50)
        with (
            mock.patch("nd_synapse.machine.available_cores", return_value=4),
            mock.patch("nd_synapse.job.forecast.available_bytes", return_value=2**36),
            mock.patch("shutil.disk_usage", return_value=free),
            logged(logging.WARNING) as lines,
        ):
            job = a_job(**options)
            forecast.warn_of_excess(job, planned(job, folder))
        return "; ".join(lines).replace(str(folder), "FOLDER") or "nothing"

    return observe


# what is said meanwhile


def lines_of_a_block(_folder: Path) -> str:
    with logged() as lines:
        feed: Any = SimpleNamespace(remaining=2, pull_s={})
        _Report(lambda *_: None, 2, feed).note(Done(ONE, 0.0, 1.0, 2**20))
    return f"{len(lines)} lines without --verbose"


def beginning_of_a_step(_folder: Path) -> str:
    outcome: Any = SimpleNamespace(seconds={}, failures=[])
    off_terminal = mock.patch("nd_synapse.progress.on_terminal", return_value=False)
    with logged() as lines, off_terminal, reporting(shown=True) as report:
        report("detect", 0, 12)
        with delivery.step(outcome, "plots"):
            pass
    return "; ".join(lines) or "nothing"


# what a machine lacks


def setting(name: str, value: str) -> Callable[[Path], str]:
    def observe(_folder: Path) -> str:
        with given(**{name: value}):
            return refusal(lambda: BlockPool(1))

    return observe


def suspected(name: str, value: str) -> Callable[[Path], str]:
    """Return what is said of an error of a library in an environment."""

    def observe(_folder: Path) -> str:
        with given(**{name: value}), logged() as lines:
            code = app.log_uncaught(ValueError("no number"))
        return f"{code}: {lines[0]}"

    return observe


def no_memory() -> None:
    """Set a worker up where no memory is left."""
    raise MemoryError


def without_proc(_folder: Path) -> str:
    with mock.patch.object(pools, "_PROCESSES", Path("/no/proc")):
        return failed(says_so).reason


def without_python(_folder: Path) -> str:
    with mock.patch.object(sys, "executable", "/no/such/python"):
        return refusal(lambda: failed(raises_all))


def slow_worker(_folder: Path) -> str:
    with mock.patch.object(pools, "_START_LIMIT_S", 0.01):
        return refusal(lambda: failed(raises_all))


def worker_without_memory(_folder: Path) -> str:
    return refusal(lambda: failed(raises_all, no_memory))
