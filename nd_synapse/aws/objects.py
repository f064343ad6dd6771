"""Objects in S3 that are read and never written: with credentials, or as everybody may."""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore import exceptions as boto_errors
from botocore.config import Config

from nd_synapse.aws.connection import s3_client
from nd_synapse.aws.errors import Meaning, code_and_message, meaning_in_s3, status, translated
from nd_synapse.errors import PermissionDeniedError, UnknownNameError, UsageError
from nd_synapse.files.chunked import LISTED

__all__ = ["Objects"]

log = logging.getLogger(__name__)

_ABSENT = ("NoSuchKey", "404")


class Objects:
    """The objects below ``s3://bucket/prefix``; without credentials they are read as everybody may."""

    def __init__(self, url: str) -> None:
        form = re.fullmatch(r"s3://([^/]+)/(.+)", url)
        if form is None:
            raise UsageError(f"--source {url}", "it is not of the form s3://BUCKET/PATH", "Write it in this form")
        self.url, self._bucket, self._prefix = url, form[1], form[2].rstrip("/")
        with translated(f"reading {url}", of_response=_meaning):
            anonymous = boto3.session.Session().get_credentials() is None
        self._client: Any = s3_client(config=Config(signature_version=UNSIGNED) if anonymous else None)
        if anonymous:
            log.info("%s is read without AWS credentials: there are none", url)

    def read(self, key: str, range_header: str | None = None) -> bytes | None:
        """Return an object, or a part of it by a header such as ``bytes=0-9``; None if there is none."""
        more = {} if range_header is None else {"Range": range_header}
        with translated(f"reading {self.url}/{key}", of_response=_meaning):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}/{key}", **more)
                body = bytes(found["Body"].read())
            except boto_errors.ClientError as error:
                if code_and_message(error)[0] in _ABSENT:
                    return None
                raise
        # as a web client would: some writers of volumes pack the objects
        return gzip.decompress(body) if found.get("ContentEncoding") == "gzip" and not more else body

    def names(self, folder: str) -> list[str]:
        """Return the names of objects and folders right below a folder, "" being the prefix itself."""
        start = f"{self._prefix}/{folder}/" if folder else f"{self._prefix}/"
        names: list[str] = []
        with translated(f"listing {self.url}", of_response=_meaning):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start, Delimiter="/"
            )
            for page in pages:
                names += [entry["Key"] for entry in page.get("Contents", [])]
                names += [entry["Prefix"].rstrip("/") for entry in page.get("CommonPrefixes", [])]
        return sorted(name.removeprefix(start) for name in names)

    def versions(self, folder: str) -> Iterator[str]:
        """Yield the names and digests of the first objects below a folder; none where they are not listed for us."""
        start = f"{self._prefix}/{folder}/" if folder else f"{self._prefix}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
        with suppress(PermissionDeniedError), translated(f"listing {self.url}", of_response=_meaning):
            for page in islice(pages, LISTED):
                yield from (f"{entry['Key']} {entry['ETag']}" for entry in page.get("Contents", []))


def _meaning(error: boto_errors.ClientError) -> Meaning:
    """Translate an error response to a request that reads."""
    code, message = code_and_message(error)
    if code == "NoSuchBucket":
        return UnknownNameError, f"S3 answered {code} ({message})", "Check the name of the bucket"
    if status(error) in (401, 403):
        hint = "Check the path, and the credentials: they need s3:GetObject, and s3:ListBucket for a group of arrays"
        return PermissionDeniedError, f"S3 answered {code} ({message})", hint
    return meaning_in_s3(error)
