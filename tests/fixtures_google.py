"""Google's store and the server of its tokens, on this machine: a folder of buckets that demands a bearer.

Tokens are given for what the key of an account has signed, which is verified with cryptography alone.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.fixtures_boss import blobs
from tests.volumes_on_disk import write

__all__ = ["ACCOUNT", "CHANNELS", "FORMS", "GoogleStore", "key_file", "start_store"]

FORMS = ("ome05.zarr", "zarr2.zarr", "n5", "precomputed")
CHANNELS = blobs((6, 60, 70), 5, 25)
ACCOUNT = "reader@lab.iam.gserviceaccount.com"
_AUDIENCE = "https://oauth2.googleapis.com/token"  # also where the key names another server
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"


@dataclass
class GoogleStore:
    """What the servers do, and what they saw."""

    folder: Path
    key: rsa.RSAPrivateKey
    url: str = ""
    mark: str = "ya29.token"
    """What every token begins with."""
    lifetime_s: int = 3600
    """What the server of tokens says of one."""
    account: str = ACCOUNT
    """Who gets tokens."""
    refused: str = ""
    """What the store says to everybody with a token; empty lets them read."""
    repeats: bool = False
    """Whether the server of tokens refuses with what it was sent."""
    valid: set[str] = field(default_factory=set)
    given: list[str] = field(default_factory=list)
    """All tokens, in their order."""
    elsewhere: str = ""
    """Where the store sends a client that asks for an object."""
    requests: list[tuple[str, bool, int]] = field(default_factory=list)
    """Paths, whether a token came with them, and the status of the response."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def token_for(self, assertion: str) -> str | None:
        """Return a token for what an account signed; None if it is not as it must be."""
        signed, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(_bytes(part)) for part in signed.split("."))
        try:
            self.key.public_key().verify(_bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return None
        now = time.time()
        fits = (claims["iss"], claims["aud"], claims["scope"]) == (self.account, _AUDIENCE, _SCOPE)
        if header["alg"] != "RS256" or not fits or not claims["iat"] - 60 < now < claims["exp"]:
            return None
        token = f"{self.mark}{secrets.token_urlsafe(20)}"
        with self.lock:
            self.valid.add(token)
            self.given.append(token)
        return token


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, store: GoogleStore, *args: Any) -> None:
        self.store = store
        super().__init__(*args)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = parse_qs(sent)
        token = None
        if self.path == "/token" and form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            token = self.store.token_for(form["assertion"][0])
        if self.store.repeats or token is None:
            why = f"you sent {sent} {form}" if self.store.repeats else "Invalid JWT Signature."
            self._answer(400, json.dumps({"error": "invalid_grant", "error_description": why}).encode())
        else:
            said = {"access_token": token, "expires_in": self.store.lifetime_s, "token_type": "Bearer"}
            self._answer(200, json.dumps(said).encode())

    def do_GET(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        known = scheme == "Bearer" and token in self.store.valid
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        if not (self.store.folder / bucket).is_dir():
            self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif not known:
            self._answer(401 if token else 403, b"<Error><Code>AccessDenied</Code></Error>")
        elif self.store.refused:
            self._answer(403, b"", self.store.refused.format(token=token))
        elif self.store.elsewhere:
            self._answer(302, b"", location=f"{self.store.elsewhere}{self.path}")
        elif key:
            file = self.store.folder / bucket / key
            self._answer(*((200, file.read_bytes()) if file.is_file() else (404, b"<Code>NoSuchKey</Code>")))
        else:
            self._answer(200, self._listing(self.store.folder / bucket))

    def _listing(self, bucket: Path) -> bytes:
        """List what is right below a prefix; it is short enough for one page."""
        prefix = parse_qs(urlsplit(self.path).query)["prefix"][0]
        folder = bucket / prefix
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        text = "".join(
            f"<CommonPrefixes><Prefix>{escape(prefix + one.name)}/</Prefix></CommonPrefixes>"
            if one.is_dir()
            else f"<Contents><Key>{escape(prefix + one.name)}</Key></Contents>"
            for one in entries
        )
        return f"<ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>{text}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes, reason: str | None = None, location: str = "") -> None:
        self.store.requests.append((self.path, "Authorization" in self.headers, status))
        self.send_response(status, reason)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a source opens many connections at once
    daemon_threads = True


@contextmanager
def start_store(folder: Path, **how: Any) -> Iterator[GoogleStore]:
    """Serve the buckets that are the folders of a folder, and tokens to clients that have the key."""
    store = GoogleStore(folder, rsa.generate_private_key(public_exponent=65537, key_size=2048), **how)
    with _Server(("127.0.0.1", 0), partial(_Handler, store)) as server:
        store.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
        yield store
        server.shutdown()


def key_file(store: GoogleStore, path: Path, **other: Any) -> Path:
    """Write the key of the account as Google's console does."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    content = {
        "type": "service_account",
        "project_id": "lab",
        "private_key_id": "1",
        "private_key": store.key.private_bytes(*form).decode(),
        "client_email": ACCOUNT,
        "token_uri": f"{store.url}/token",
    }
    path.write_text(json.dumps(content | other))
    return path


@pytest.fixture
def google_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleStore]:
    """A store with the private bucket `lab`, and no credentials; volumes are below `at` in it."""
    for form in FORMS:
        write(form, tmp_path / "buckets" / "lab" / "at" / form, CHANNELS)
    with start_store(tmp_path / "buckets") as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        yield store


@pytest.fixture
def google_key(google_store: GoogleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key of an account that may read."""
    path = key_file(google_store, tmp_path / "key.json")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path
