"""The door to S3 for a run in parts: finished blocks, where the jobs of a run leave them for each other.

It knows nothing of what they hold, and removes none: a rule of the bucket does.
"""

from __future__ import annotations

import re
from typing import Any

from nd_synapse.aws import connection, transfers
from nd_synapse.aws.connection import translated
from nd_synapse.aws.upload import check_bucket
from nd_synapse.blocks.shared_store import SharedStore
from nd_synapse.errors import UsageError

__all__ = ["S3SharedStore"]

_REMEDY = "What is on the shelf stays: the same command goes on from it"

_PIECE_BYTES = 2**20


class S3SharedStore(SharedStore):
    """The objects under a prefix.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``.

    Raises
    ------
    UsageError
        If it has another form, or no bucket can have such a name.
    """

    def __init__(self, url: str) -> None:
        form = re.fullmatch(r"s3://([^/]+)/([!-~]+)", url)
        segments = form[2].rstrip("/").split("/") if form else []
        if form is None or any(segment in ("", ".", "..") for segment in segments):
            raise UsageError(f"--shared {url}", "it is not of the form s3://bucket/prefix", "Write it so")
        check_bucket(form[1], None)
        self.url = url.rstrip("/")
        self._bucket, self._prefix = form[1], "/".join(segments)
        with translated(f"connecting to S3 for {self.url}", _REMEDY):
            self._client = connection.client()

    def names(self, kind: str) -> set[str]:
        """List what is there of a kind."""
        prefix = f"{self._prefix}/{kind}/"
        with translated(f"listing {self.url}/{kind}", _REMEDY):
            return {key.removeprefix(prefix) for key in transfers.keys(self._client, self._bucket, prefix)}

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        """Fetch one thing; botocore checks it against the checksum that it was sent with."""

        def read(stream: Any) -> bytes | None:
            body = bytearray()
            # to the end, where botocore compares the checksum
            while piece := stream.read(_PIECE_BYTES):
                body += piece
                if len(body) > most_bytes:
                    stream.close()
                    return None
            return bytes(body)

        with translated(f"fetching {self.url}/{kind}/{name}", _REMEDY):
            return transfers.fetched(
                self._client,
                read,
                Bucket=self._bucket,
                Key=f"{self._prefix}/{kind}/{name}",
                ChecksumMode="ENABLED",
            )

    def put(self, kind: str, name: str, body: bytes) -> None:
        """Leave one thing, unless it is there: two attempts of one part cannot spoil each other."""
        with translated(f"leaving {self.url}/{kind}/{name}", _REMEDY):
            transfers.put_new(
                self._client,
                body,
                Bucket=self._bucket,
                Key=f"{self._prefix}/{kind}/{name}",
                ChecksumAlgorithm="SHA256",
            )
