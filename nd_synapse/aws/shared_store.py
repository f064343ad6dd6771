"""The shared block store of a run in parts, in S3. It deletes nothing: a rule of the bucket does."""

from __future__ import annotations

import re

from nd_synapse.aws.bucket import Bucket
from nd_synapse.errors import UsageError

__all__ = ["S3SharedStore"]

_REMEDY = "The shared blocks stay: the same command goes on from them"


class S3SharedStore:
    """The objects below ``s3://bucket/prefix``."""

    def __init__(self, url: str) -> None:
        form = re.fullmatch(r"s3://([^/]+)/([!-~]+)", url)
        segments = form[2].rstrip("/").split("/") if form else []
        if form is None or any(segment in ("", ".", "..") for segment in segments):
            raise UsageError(f"--shared {url}", "it is not of the form s3://bucket/prefix", "Write it in this form")
        self.url = url.rstrip("/")
        self._bucket, self._prefix = Bucket(form[1], _REMEDY), "/".join(segments)

    def names(self, kind: str) -> set[str]:
        """List the names of a kind."""
        prefix = f"{self._prefix}/{kind}/"
        return {key.removeprefix(prefix) for key in self._bucket.keys(prefix)}

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        """Fetch one object; None if it has more bytes."""
        return self._bucket.read(f"{self._prefix}/{kind}/{name}", most_bytes)

    def put(self, kind: str, name: str, body: bytes, *, replaces: bool = False) -> None:
        """Write one object unless a whole one is there: two attempts of one part cannot spoil each other."""
        self._bucket.put_new(f"{self._prefix}/{kind}/{name}", body, replaces=replaces)
