"""Whatever answers in the place of AWS, and however a body breaks: whole, or a named error; never a defect of ours."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.config import Config

from batch import client as batch_client
from batch.client import BatchClient
from batch.runs import Records, Submitted
from nd_synapse.aws import bucket, connection
from nd_synapse.aws.errors import scrub
from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.errors import NDSynapseError, UnavailableError, UsageError
from nd_synapse.job.upload import compare_folder, upload_folder
from nd_synapse.text import one_line
from tests.raw_line import speaking

Answer = bytes | Callable[[socket.socket], None]
BODY = bytes(range(256)) * 20
SHA256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
ETAG = 'ETag: "x"\r\n'


def says(body: bytes = b"", status: str = "200 OK", headers: str = "Content-Type: application/xml\r\n") -> bytes:
    """Return an answer in full."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


WHOLE = says(BODY, headers=f"{ETAG}x-amz-checksum-sha256: {SHA256}\r\n")
DAMAGED = WHOLE[:-1] + b"\0"


def cut(answer: bytes) -> Answer:
    """Return an answer after which the line ends."""
    return lambda line: line.sendall(answer)


def lost(line: socket.socket) -> None:
    """Say nothing, and hang up."""
    line.close()


def reset(line: socket.socket) -> None:
    """Break in the middle of a body."""
    line.sendall(WHOLE[:3000])
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


class Server:
    """Answers each request by its first line; one with one answer after the other, and the last again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requested: list[str] = []

    def speak(self, line: socket.socket, _ended: threading.Event) -> None:
        """Speak on a connection until an answer is one that ends it."""
        with line.makefile("rb") as lines:
            while first := lines.readline():
                headers = dict(iter(lambda: lines.readline().lower().partition(b":")[::2], (b"\r\n", b"")))
                if b"expect" in headers:
                    line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = lines.read(int(headers.get(b"content-length", 0)))
                self.requested.append(first.decode().rpartition(" ")[0])
                answer = self.answer(self.requested[-1], body)
                if not isinstance(answer, bytes):
                    answer(line)
                    return
                line.sendall(answer)

    def answer(self, requested: str, body: bytes) -> Answer:
        """Choose the answer to a request."""
        answers = next((some for start, some in self.answers.items() if re.match(start, requested)), [says()])
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Forgetful(Server):
    """An S3 that does what it is asked to write once, and says nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}

    def answer(self, requested: str, body: bytes) -> Answer:
        method, _, key = requested.partition(" ")
        if method == "HEAD":
            return f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.objects[key])}\r\n{ETAG}\r\n".encode()
        if method == "GET":
            return says(self.objects[key], headers=ETAG)
        if key in self.objects:
            return says(b"<Error><Code>PreconditionFailed</Code></Error>", "412 Precondition Failed")
        self.objects[key] = body
        return lost


@contextmanager
def serving(server: Server, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be S3 and Batch, under an address with a password in it."""
    with speaking(server.speak, None) as host:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_BATCH"):
            patch.setenv(name, f"http://user:s3cret@{host}")
        yield


@pytest.fixture(scope="module", autouse=True)
def patch() -> Iterator[pytest.MonkeyPatch]:
    """Credentials that are none, one attempt of botocore's, no pauses."""
    once = Config(retries={"mode": "standard", "total_max_attempts": 1})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
        }.items():
            patch.setenv(name, value)
        patch.setattr(connection, "_CONFIG", connection._CONFIG.merge(once))
        patch.setattr(batch_client, "_READING", batch_client._READING.merge(once))
        for module in (bucket, batch_client):
            patch.setattr(module, "sleep", lambda _: None)
        yield patch


@pytest.fixture(scope="module")
def running(patch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    with serving(server, patch):
        yield server


@pytest.fixture(scope="module")
def shared_store(running: Server) -> S3SharedStore:
    return S3SharedStore("s3://bucket/prefix")


@pytest.fixture(scope="module")
def door(running: Server) -> BatchClient:
    door = BatchClient("us-east-1")
    assert door._submitting
    return door


@pytest.fixture
def server(running: Server, shared_store: S3SharedStore, door: BatchClient, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that knows no answers yet, and one client of it for all: making one takes longer than all answers."""
    running.answers, running.requested = {}, []
    monkeypatch.setattr(bucket, "s3_client", lambda remedy: shared_store._bucket._client)
    return running


HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n{ETAG}\r\n".encode()
BREAKS: dict[str, Answer] = {"cut short": cut(WHOLE[:3000]), "reset": reset}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("times", [1, 5])
def test_a_body_that_breaks_is_fetched_again_five_times_in_all(
    server: Server, shared_store: S3SharedStore, how: str, times: int
) -> None:
    server.answers = {"HEAD": [HEAD], "GET": [*[BREAKS[how]] * times, WHOLE]}
    if times < 5:
        assert shared_store.get("kind", "name", 2**20) == BODY
    else:
        with pytest.raises(UnavailableError, match=r"fetching s3://bucket/prefix/kind/name"):
            shared_store.get("kind", "name", 2**20)
    assert len(server.requested) == 1 + min(times + 1, 5)


def test_a_damaged_body_is_an_error(server: Server, shared_store: S3SharedStore) -> None:
    server.answers = {"HEAD": [HEAD], "GET": [DAMAGED]}
    with pytest.raises(UnavailableError, match=r"damaged on the way"):
        shared_store.get("kind", "name", 2**20)


def test_an_object_larger_than_allowed_is_none(server: Server, shared_store: S3SharedStore) -> None:
    server.answers = {"HEAD": [HEAD], "GET": [WHOLE]}
    assert shared_store.get("kind", "name", len(BODY)) == BODY
    assert shared_store.get("kind", "name", len(BODY) - 1) is None


def test_an_object_without_checksum_is_compared_by_its_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "synapses.csv").write_bytes(BODY)
    server.answers = {
        "HEAD .*synapses.csv": [HEAD],
        "HEAD": [MISSING],
        "GET .*synapses.csv": [cut(WHOLE[:3000]), WHOLE],
        "GET .*list-type": [says(b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")],
    }
    assert compare_folder(tmp_path, "bucket", "key") == {}


def listing(entry: str = "", more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    """Return a list, or something like one."""
    return f"<ListBucketResult><Name>bucket</Name>{more}{entry}</ListBucketResult>".encode()


ODD_LISTS = {
    "nothing": b"",
    "a page that is no XML": b"<!doctype html><br>",
    "an entry without a key": listing("<Contents><Size>1</Size></Contents>"),
    "a key from elsewhere": listing("<Contents><Key>other/a</Key></Contents>"),
    "more, but not where": listing(more="<IsTruncated>true</IsTruncated>"),
    "the same again and again": listing(
        more="<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    ),
}


@pytest.mark.parametrize("body", ODD_LISTS.values(), ids=ODD_LISTS)
def test_what_is_no_list_is_not_taken_for_an_empty_one(
    server: Server, shared_store: S3SharedStore, body: bytes
) -> None:
    server.answers["GET"] = [says(body)]
    with pytest.raises(UnavailableError, match="listing s3://bucket/prefix/kind"):
        shared_store.names("kind")


MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
ODD_UPLOADS: dict[str, dict[str, Answer]] = {
    "a size of an object": {"HEAD /bucket/key": b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n"},
    "nothing to a file": {"PUT": says()},
    "nothing to the first of parts": {"POST .*uploads": says()},
    "nothing to a part": {
        "POST .*uploads": says(b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
    },
}


@pytest.mark.parametrize("name", ODD_UPLOADS)
def test_an_upload_takes_nothing_for_done_that_was_not_said(server: Server, tmp_path: Path, name: str) -> None:
    large = "part" in name
    (tmp_path / "synapses.csv").write_bytes(b"a" * (9_000_000 if large else 9))
    server.answers = {start: [answer] for start, answer in ODD_UPLOADS[name].items()}
    server.answers.setdefault("HEAD /bucket/key", [MISSING])
    with pytest.raises(UnavailableError, match=f"nd-synapse upload {tmp_path}") as caught:
        upload_folder(tmp_path, "bucket", "key")
    told = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in told
    assert not isinstance(caught.value, UsageError)


JSON = "Content-Type: application/json\r\n"
NONSENSE = {
    "nothing": says(headers=JSON),
    "half a value": says(b'{"jobs": [', headers=JSON),
    "a page": says(b"<html></html>", headers="Content-Type: text/html\r\n"),
    "jobs that are none": says(b'{"jobs": [{"jobId": "a"}]}', headers=JSON),
    "a cut answer": cut(says(b'{"jobs": []}', headers=JSON)[:-1]),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_batch_that_answers_nonsense_is_unavailable_and_no_password_shows(
    server: Server, door: BatchClient, answer: Answer
) -> None:
    server.answers["POST"] = [answer]
    with pytest.raises(UnavailableError, match="describing the jobs") as caught:
        door.describe(["a"])
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("form", ["http://user:s3cret@{}", "http://user:s3/cret@{}"])
def test_a_password_in_the_address_of_batch_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, s3_nowhere: str, form: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", form.format(s3_nowhere.removeprefix("http://")))
    with pytest.raises(NDSynapseError) as caught:
        BatchClient("us-east-1").describe(["a"])
    told = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in told
    assert "cret@" not in told


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts of botocore's: the second is what finds the first one's object."""
    both = Config(retries={"mode": "standard", "total_max_attempts": 2})
    monkeypatch.setattr(connection, "_CONFIG", connection._CONFIG.merge(both))
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


@pytest.mark.usefixtures("twice")
def test_a_note_whose_answer_was_lost_is_ours_and_one_of_somebody_else_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Forgetful()
    with serving(server, monkeypatch):
        records = Records("s3://bucket/runs/a")
        records.add(Submitted(1, "report", "job-1"))
        assert [requested.partition(" ")[0] for requested in server.requested] == ["PUT", "PUT", "HEAD", "GET"]
        with pytest.raises(UsageError, match="somebody else resumes it"):
            records.add(Submitted(1, "report", "job-2"))


CONFLICT = says(b"<Error><Code>ConditionalRequestConflict</Code></Error>", "409 Conflict")


def test_a_write_beside_another_that_may_yet_fail_is_tried_again(server: Server, shared_store: S3SharedStore) -> None:
    server.answers["PUT"] = [CONFLICT, CONFLICT, says(headers=ETAG)]
    shared_store.put("kind", "name", b"body")
    assert len(server.requested) == 3
    server.answers["PUT"] = [CONFLICT]
    with pytest.raises(UnavailableError, match="ConditionalRequestConflict"):
        shared_store.put("kind", "name", b"body")
    assert len(server.requested) == 7


REQUEST = {"jobName": "nd-synapse-a-report", "jobQueue": "queue", "jobDefinition": "definition"}


class TestSubmission:
    """A job that is submitted once, and whose answer is lost."""

    def test_it_is_found_by_its_name(self, server: Server, door: BatchClient) -> None:
        server.answers["POST /v1/submitjob"] = [lost]
        empty, there = (says(f'{{"jobSummaryList": [{one}]}}'.encode(), headers=JSON) for one in ("", '{"jobId": "x"}'))
        server.answers["POST /v1/listjobs"] = [empty, there]
        assert door.submit(REQUEST) == "x"
        assert server.requested == ["POST /v1/submitjob", "POST /v1/listjobs", "POST /v1/listjobs"]

    @pytest.mark.parametrize(
        "listed", [says(b'{"jobSummaryList": []}', headers=JSON), says(b"{}", "403 Forbidden", JSON)]
    )
    def test_the_error_says_how_to_find_a_job_that_is_not_found(
        self, server: Server, door: BatchClient, listed: bytes
    ) -> None:
        server.answers = {"POST /v1/submitjob": [lost], "POST /v1/listjobs": [listed]}
        with pytest.raises(UnavailableError, match="is not known") as caught:
            door.submit(REQUEST)
        name = re.search(r"aws batch list-jobs .*values=(nd-synapse-a-report-[0-9a-f]{8})`", str(caught.value))
        assert name, caught.value
        assert server.requested.count("POST /v1/submitjob") == 1

    def test_one_that_was_refused_is_not_looked_for(self, server: Server, door: BatchClient) -> None:
        server.answers["POST"] = [says(b"{}", "429 Too Many", f"{JSON}x-amzn-ErrorType: TooManyRequestsException\r\n")]
        with pytest.raises(UnavailableError, match="TooManyRequests"):
            door.submit(REQUEST)
        assert server.requested == ["POST /v1/submitjob"]


def test_what_would_steer_a_terminal_is_escaped() -> None:
    assert one_line("é a\tb\x1b[31m\r\n\x9b\u202e", keep="\t") == "é a\tb\\x1b[31m\\r\\n\\x9b\\u202e"
    error = ValueError("http://user:s3cret@host \x1b]0;x\x07")
    scrub(error)
    assert str(error) == "http://***@host \\x1b]0;x\\x07"
