"""Stores that refuse headers of checksums get none, and an upload is proven by what they offer."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from nd_synapse.aws import bucket
from nd_synapse.aws.bucket import Bucket
from nd_synapse.errors import UnavailableError, UsageError
from nd_synapse.job.upload import compare_folder, upload_folder
from tests.faults.faulty_s3 import Forwarding
from tests.fixtures_s3 import S3Server


class Plain(Forwarding):
    """A store that knows no checksums, and may damage what it gets; an encrypting one has tags that are no MD5."""

    seen: list[str]
    damages: bool
    encrypts: bool

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(f"{self.command} {self.path}")
        if any("checksum" in name.lower() or name.lower() == "x-amz-trailer" for name in self.headers):
            text = b"<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>"
            self.answer(501, {}, text)
            return
        if self.damages and self.command == "PUT":
            body = body[:-1] + bytes([body[-1] ^ 1])
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        if self.headers.get("Content-MD5", md5) != md5:
            self.answer(400, {}, b"<Error><Code>BadDigest</Code><Message>as S3 says it</Message></Error>")
            return
        del self.headers["If-Match"]
        status, headers, content = self.forward(body)
        kept = {name: value for name, value in headers.items() if "checksum" not in name.lower()}
        if self.encrypts and "ETag" in kept and self.command in ("HEAD", "GET"):
            kept["ETag"] = kept["ETag"][::-1]
        self.answer(status, kept, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - the names are http.server's


@pytest.fixture
def store(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Plain]]:
    s3_env.client().create_bucket(Bucket="plain")
    handler = type("Store", (Plain,), {"seen": [], "damages": False, "encrypts": False, "upstream": s3_env.url})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
            monkeypatch.setenv(name, "when_required")
        yield handler
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with small files and one that is sent in parts."""
    (tmp_path / "synapses.csv").write_text("z,y,x\n")
    (tmp_path / "mask.pkl").write_bytes(bytes(range(256)) * (8 * 2**12 + 7))
    (tmp_path / "run.json").write_text("{}\n")
    return tmp_path


@pytest.mark.parametrize(
    "encrypts",
    [
        pytest.param(False, id="tags are MD5"),
        pytest.param(True, id="tags are not MD5", marks=pytest.mark.slow),
    ],
)
def test_a_folder_is_uploaded_and_compared_without_checksums(store: type[Plain], folder: Path, encrypts: bool) -> None:
    store.encrypts = encrypts
    assert [one.sent for one in upload_folder(folder, "plain", "key")] == [True] * 3
    assert compare_folder(folder, "plain", "key") == {}
    assert [one.sent for one in upload_folder(folder, "plain", "key")] == [False] * 3
    # a small object is proven by its tag, if that is its MD5
    assert ("GET /plain/key/synapses.csv" in store.seen) == encrypts
    (folder / "synapses.csv").write_text("x,y,z\n")
    assert compare_folder(folder, "plain", "key") == {"key/synapses.csv": "its content differs"}


@pytest.mark.parametrize("name", [pytest.param("mask.pkl", marks=pytest.mark.slow), "run.json"])
def test_what_was_damaged_on_the_way_is_no_upload(store: type[Plain], folder: Path, name: str) -> None:
    target = Bucket("plain", "Upload it again")
    store.damages = True
    with pytest.raises(UnavailableError, match="what the store has got is not the file: its content differs"):
        target.send(folder / name, name)


def test_a_small_object_of_parts_is_sent_with_its_md5(
    store: type[Plain], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    target = Bucket("plain", "Go on")
    assert target.put_new("block", b"first")
    assert not target.put_new("block", b"second")
    assert target.read("block", 100) == b"first"
    store.damages = True
    monkeypatch.setattr(bucket, "sleep", lambda _: None)
    with pytest.raises(UnavailableError, match="BadDigest"):
        target.put_new("other", b"third")


def test_a_store_that_refuses_checksums_is_named_with_the_setting(
    store: type[Plain], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    with pytest.raises(UsageError, match=r"AWS_REQUEST_CHECKSUM_CALCULATION and .* to when_required"):
        upload_folder(folder, "plain", "key")
