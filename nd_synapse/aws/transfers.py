"""Transfers of objects of S3: listed, fetched, written once or sent, each of these whole, or an error.

It translates nothing; what is done with an object is its caller's.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

import urllib3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto_errors

from nd_synapse.aws.answers import SenselessError
from nd_synapse.aws.connection import meaning, status

__all__ = ["content", "fetched", "keys", "put_new", "send_file"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 4
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 20.0

_MOST_PAGES = 10_000
"""Answers of a list at most, of 1,000 keys each."""

# what a body ends with that broke, or came damaged, after its head was there: botocore repeats heads alone
_BROKEN = (
    boto_errors.ChecksumError,
    boto_errors.FlexibleChecksumError,
    boto_errors.IncompleteReadError,
    boto_errors.ReadTimeoutError,
    boto_errors.ResponseStreamingError,
    urllib3.exceptions.HTTPError,
)
_EXISTS = 412
_BEING_WRITTEN = 409
"""What S3 answers to a conditional write while another one is under way, which may yet fail."""


def fetched(client: Any, read: Callable[[Any], T], **place: Any) -> T:
    """Fetch an object; if its body breaks or comes damaged, all of it is fetched again."""
    for attempt in itertools.count(1):
        body = client.get_object(**place)["Body"]
        try:
            return read(body)
        except _BROKEN as cause:
            if attempt == _ATTEMPTS:
                if isinstance(cause, boto_errors.BotoCoreError):
                    raise
                raise SenselessError(operation="GetObject", cause=f"{type(cause).__name__}: {cause}") from cause
            log.warning("fetching s3://%s/%s again: %s", place["Bucket"], place["Key"], meaning(cause)[1])
        finally:
            # it may have been read in part alone
            body.close()
        _pause(attempt)
    raise AssertionError("there is a last attempt")


def content(client: Any, bucket: str, key: str, most: int) -> tuple[bool, bytes]:
    """Read a small object, if it is there."""
    try:
        return True, fetched(client, lambda body: body.read(most) + body.read(1), Bucket=bucket, Key=key)
    except boto_errors.ClientError as cause:
        if status(cause) not in (400, 403, 404):
            raise
        return status(cause) != 404, b""


def keys(client: Any, bucket: str, prefix: str) -> Iterator[str]:
    """List the objects below a prefix."""
    requested = {"Bucket": bucket, "Prefix": prefix}
    for _ in range(_MOST_PAGES):
        page = client.list_objects_v2(**requested)
        for entry in page.get("Contents", []):
            if not str(entry.get("Key", "")).startswith(prefix):
                raise SenselessError(operation="ListObjectsV2", cause="it has a key that was not asked for, or none")
            yield entry["Key"]
        if not page.get("IsTruncated"):
            return
        following = page.get("NextContinuationToken")
        if not following or following == requested.get("ContinuationToken"):
            raise SenselessError(operation="ListObjectsV2", cause="there is said to be more of it, but not where")
        requested["ContinuationToken"] = following
    raise SenselessError(operation="ListObjectsV2", cause=f"it did not end within {_MOST_PAGES:,} answers")


def put_new(client: Any, body: bytes, **place: Any) -> bool:
    """Write an object unless there is one."""
    for attempt in itertools.count(1):
        try:
            client.put_object(**place, Body=body, IfNoneMatch="*")
        except boto_errors.ClientError as cause:
            if status(cause) == _EXISTS:
                return False
            if status(cause) != _BEING_WRITTEN or attempt == _ATTEMPTS:
                raise
        else:
            return True
        _pause(attempt)
    raise AssertionError("there is a last attempt")


def send_file(client: Any, file: Path, bucket: str, key: str, extra: Mapping[str, Any], config: TransferConfig) -> None:
    """Send a file, in parts if it is large."""
    try:
        client.upload_file(str(file), bucket, key, ExtraArgs=dict(extra), Config=config)
    except S3UploadFailedError as cause:
        # the parts were put together, the answer was lost, and botocore asked once more
        ended = getattr(cause.__context__, "response", {}).get("Error", {}).get("Code") == "NoSuchUpload"
        if not ended or not _is_there(client, bucket, key, file.stat().st_size, extra["Metadata"]):
            raise


def _is_there(client: Any, bucket: str, key: str, size: int, metadata: Mapping[str, str]) -> bool:
    """Tell whether an object is there that has a size and metadata."""
    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except boto_errors.ClientError:
        return False
    return bool((head.get("ContentLength"), head.get("Metadata")) == (size, dict(metadata)))


def _pause(attempt: int) -> None:
    """Wait before the attempt after this one; those that failed together do not come back together."""
    sleep(random.uniform(0, min(_LONGEST_PAUSE_S, _PAUSE_S * 2.0 ** (attempt - 1))))  # noqa: S311 - no secret
