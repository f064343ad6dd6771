"""The door to S3 for a run in parts: finished blocks, where the jobs of a run leave them for each other.

It knows nothing of what they hold, and removes none: a rule of the bucket does.
"""

from __future__ import annotations

import re

from botocore import exceptions as boto_errors

import s3_connection
from detection.shelf import Shelf
from errors import UsageError
from s3 import check_bucket
from s3_connection import status, translated

__all__ = ["S3Shelf"]

_REMEDY = "What is on the shelf stays: the same command goes on from it"

_THERE = (409, 412)
"""What S3 answers where an object is there already, or is being written by somebody else."""

_PIECE_BYTES = 2**20


class S3Shelf(Shelf):
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
            self._client = s3_connection.client()

    def names(self, kind: str) -> set[str]:
        """List what is there of a kind.

        Parameters
        ----------
        kind : str
            The kind.

        Returns
        -------
        set of str
            The names.

        Raises
        ------
        NDSynapseError
            If S3 cannot be asked.
        """
        prefix = f"{self._prefix}/{kind}/"
        with translated(f"listing {self.url}/{kind}", _REMEDY):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return {found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", [])}

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        """Fetch one thing; botocore checks it against the checksum that it was sent with.

        Parameters
        ----------
        kind, name : str
            Which.
        most_bytes : int
            What it may have: anybody who may write to the bucket could have left anything.

        Returns
        -------
        bytes or None
            Its content; None if it has more bytes.

        Raises
        ------
        NDSynapseError
            If it cannot be had.
        """
        body = bytearray()
        with translated(f"fetching {self.url}/{kind}/{name}", _REMEDY):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=f"{self._prefix}/{kind}/{name}", ChecksumMode="ENABLED"
            )
            # to the end, where botocore compares the checksum
            while piece := answer["Body"].read(_PIECE_BYTES):
                body += piece
                if len(body) > most_bytes:
                    answer["Body"].close()
                    return None
        return bytes(body)

    def put(self, kind: str, name: str, body: bytes) -> None:
        """Leave one thing, unless it is there: two attempts of one part cannot spoil each other.

        Parameters
        ----------
        kind, name : str
            Which.
        body : bytes
            Its content.

        Raises
        ------
        NDSynapseError
            If it cannot be left.
        """
        with translated(f"leaving {self.url}/{kind}/{name}", _REMEDY):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=f"{self._prefix}/{kind}/{name}",
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                )
            except boto_errors.ClientError as cause:
                if status(cause) not in _THERE:
                    raise
