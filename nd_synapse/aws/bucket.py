"""A bucket in S3 and its objects, with errors of ours. It knows no result folder."""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import logging
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import Any

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto_errors

from nd_synapse.aws.connection import s3_client
from nd_synapse.aws.errors import MalformedResponseError, status, translated
from nd_synapse.errors import NDSynapseError, StorageError, UnavailableError, UsageError

__all__ = ["Bucket", "check_bucket"]

log = logging.getLogger(__name__)

_UPLOAD = TransferConfig(max_concurrency=4)
# One request an object: S3 sends its checksum, which botocore compares, with whole objects alone.
_DOWNLOAD = TransferConfig(multipart_threshold=2**50, use_threads=False)

# S3 answers 403 instead of 404 to a role that may not list, and a bare 400 to an expired token.
_NO_RIGHT = 403
_NO_RIGHT_TO_LOOK = (400, _NO_RIGHT)
_EXISTS = 412
_BEING_WRITTEN = 409
"""The status of a conditional write beside another one, which may yet fail."""

_WRITES = 4
"""Attempts at a write beside another one."""

_PIECE = 2**20

# A new bucket is looked for every 2 s, for a minute.
_WAIT = {"Delay": 2, "MaxAttempts": 30}

# The canned ACLs of S3; each but the first grants a right to others than the owner.
_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)

# Our own table: the result of the mimetypes module depends on the machine.
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".log": "text/plain; charset=utf-8",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain; charset=utf-8",
}


def check_bucket(bucket: str, acl: str | None = None) -> None:
    """Refuse a bucket name or an ACL that S3 would refuse, without asking it."""
    if not re.fullmatch(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) or _is_ip_address(bucket):
        raise UsageError(
            f"bucket {bucket!r}",
            "no bucket has such a name",
            "Give the name alone: 3 to 63 lower-case letters, digits, hyphens and full stops",
        )
    if acl is not None and acl not in _ACLS:
        raise UsageError(f"ACL {acl!r}", "S3 has no such canned ACL", f"Choose one of {', '.join(_ACLS)}, or none")


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Bucket:
    """A bucket; `remedy` says in each error how the caller goes on."""

    def __init__(self, name: str, remedy: str) -> None:
        check_bucket(name)
        self.name = name
        self._remedy = remedy
        self._client = s3_client(remedy)
        # AWS_REQUEST_CHECKSUM_CALCULATION=when_required: the store refuses the headers of checksums
        self._is_plain = self._client.meta.config.request_checksum_calculation == "when_required"

    def create_if_missing(self) -> None:
        """Create the bucket, closed to the public, where there is none."""
        with translated(f"looking for the bucket {self.name}", self._remedy):
            try:
                self._client.head_bucket(Bucket=self.name)
            except boto_errors.ClientError as error:
                # A role that may only put objects gets 403 here; the errors of the upload have bodies, which say more.
                if status(error) not in (*_NO_RIGHT_TO_LOOK, 404):
                    raise
                if status(error) == 404:
                    self._create()

    def _create(self) -> None:
        region = self._client.meta.region_name
        # us-east-1 is the one region that must not be named
        constraint = {} if region in ("us-east-1", "aws-global") else {"LocationConstraint": region}
        try:
            self._client.create_bucket(
                Bucket=self.name, **({"CreateBucketConfiguration": constraint} if constraint else {})
            )
        except self._client.exceptions.BucketAlreadyOwnedByYou:
            # by another process of ours, or by an attempt of this call whose response was lost
            log.info("the bucket %s was created in the meantime", self.name)
        hint = f"The credentials need s3:PutBucketPublicAccessBlock; or name a bucket that exists. {self._remedy}"
        try:
            with translated(f"closing the new bucket {self.name} to the public"):
                self._client.get_waiter("bucket_exists").wait(Bucket=self.name, WaiterConfig=_WAIT)
                blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
                self._client.put_public_access_block(
                    Bucket=self.name, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True)
                )
        except NDSynapseError as error:
            # the next call would find the bucket, and use it as it is
            raise type(error)(error.requested, f"{error.found}; {self._delete()}", hint) from error.__cause__
        log.info("created the private bucket %s in %s", self.name, region)

    def _delete(self) -> str:
        """Delete the bucket that was just created, and say whether that worked."""
        try:
            with translated(f"deleting the bucket {self.name}"):
                self._client.delete_bucket(Bucket=self.name)
        except NDSynapseError as error:
            log.warning("the bucket %s was created and cannot be deleted: %s", self.name, error)
            return "nothing was uploaded, and the bucket is still there: delete it, or block its public access yourself"
        return "nothing was uploaded, and the bucket was deleted again"

    def keys(self, prefix: str) -> Iterator[str]:
        """List the keys of the objects below a prefix."""
        with translated(f"listing s3://{self.name}/{prefix}", self._remedy):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            for page in pages:
                found = [str(entry["Key"]) for entry in page.get("Contents", [])]
                if not all(key.startswith(prefix) for key in found):
                    raise MalformedResponseError(operation="ListObjectsV2", cause="it has keys of other prefixes")
                if page.get("IsTruncated") and not page.get("NextContinuationToken"):
                    raise MalformedResponseError(operation="ListObjectsV2", cause="it ends too early")
                yield from found

    def read(self, key: str, most_bytes: int) -> bytes | None:
        """Fetch an object, compared with its checksum; None if it has more bytes than allowed."""
        body = _Limited(most_bytes)
        with translated(f"fetching s3://{self.name}/{key}", self._remedy):
            try:
                self._client.download_fileobj(self.name, key, body, Config=_DOWNLOAD)
            except _TooLargeError:
                return None
        return body.getvalue()

    def put_new(
        self, key: str, body: bytes, content_type: str = "application/octet-stream", *, replaces: bool = False
    ) -> bool:
        """Write an object, unless there is one (a conditional write) that it does not replace; return if it did."""
        place = {"Bucket": self.name, "Key": key, "ContentType": content_type}
        if not replaces:
            place["IfNoneMatch"] = "*"
        if self._is_plain:
            place["ContentMD5"] = base64.b64encode(_md5(body).digest()).decode()
        else:
            place["ChecksumAlgorithm"] = "SHA256"
        with translated(f"writing s3://{self.name}/{key}", self._remedy):
            for attempt in range(1, _WRITES + 1):
                try:
                    self._client.put_object(**place, Body=body)
                except boto_errors.ClientError as error:
                    if status(error) == _EXISTS:
                        return False
                    if status(error) != _BEING_WRITTEN or attempt == _WRITES:
                        raise
                else:
                    return True
                sleep(random.uniform(0, 2.0**attempt))  # noqa: S311 - no secret
        raise AssertionError("the last attempt returns or raises")

    def send(self, file: Path, key: str, acl: str | None = None) -> None:
        """Upload a file, in parts if it is large; S3 checks its SHA-256. Refuse a file that changes meanwhile.

        What a store without checksums has got is compared with the file afterwards.
        """
        with translated(f"uploading {file.name} to s3://{self.name}/{key}", self._remedy):
            before = file.stat()
            extra = {
                **({} if self._is_plain else {"ChecksumAlgorithm": "SHA256"}),
                "ContentType": _CONTENT_TYPES.get(file.suffix.lower(), "application/octet-stream"),
                # for readers that have no part sizes to compute S3's checksum of a large file with
                "Metadata": {"sha256": _sha256(file, before.st_size).hex()},
                **({} if acl is None else {"ACL": acl}),
            }
            try:
                self._client.upload_file(str(file), self.name, key, ExtraArgs=extra, Config=_UPLOAD)
            except S3UploadFailedError as error:
                # the parts were joined, the response was lost, and botocore sent the request once more
                response = getattr(error.__context__, "response", {})
                if response.get("Error", {}).get("Code") != "NoSuchUpload" or self.difference(key, file):
                    raise
            after = file.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            found = "it changed during the upload"
            raise StorageError(f"uploading {file}", found, "Let the program that writes it end, then upload again")
        if self._is_plain and (found := self.difference(key, file)):
            requested = f"uploading {file.name} to s3://{self.name}/{key}"
            raise UnavailableError(requested, f"what the store has got is not the file: {found}", self._remedy)

    def delete(self, key: str) -> bool:
        """Delete an object; return whether the role may."""
        with translated(f"deleting s3://{self.name}/{key}", self._remedy):
            try:
                self._client.delete_object(Bucket=self.name, Key=key)
            except boto_errors.ClientError as error:
                # an expired token is no missing right: it would leave a run.json that the next request could remove
                if status(error) != _NO_RIGHT:
                    raise
                return False
        return True

    def difference(self, key: str, file: Path, *, grows: bool = False) -> str:
        """Say how an object differs from a file, by size and content; '' if not. `grows`: it may be shorter."""
        place = {"Bucket": self.name, "Key": key}
        with translated(f"comparing s3://{self.name}/{key}", self._remedy):
            try:
                head = self._client.head_object(**place, **({} if self._is_plain else {"ChecksumMode": "ENABLED"}))
            except boto_errors.ClientError as error:
                if status(error) != 404:
                    raise
                return "it is missing"
            size, wanted = int(head["ContentLength"]), file.stat().st_size
            if size > wanted or (size < wanted and not grows):
                return f"it has {size:,} bytes, the file has {wanted:,}"
            return "" if self._is_same(place, head, file, size) else "its content differs"

    def _is_same(self, place: Mapping[str, str], head: Mapping[str, Any], file: Path, size: int) -> bool:
        """Return whether an object has the first bytes of a file: by its SHA-256, its MD5, or its bytes."""
        stored = str(head.get("ChecksumSHA256", "")).partition("-")[0]
        whole = _Digest()
        if not stored and head.get("ETag", "").strip('"') == _digest(file, size, md5=True).hexdigest():
            # of an object in one part that the store does not encrypt; any other tag says nothing
            return True
        if not stored:
            # it was uploaded by other means, or the server keeps no checksums: its bytes have to be compared
            self._client.download_fileobj(*place.values(), whole, Config=_DOWNLOAD)
            return whole.sha256.digest() == _sha256(file, size)
        if "-" not in head.get("ETag", ""):
            return stored == base64.b64encode(_sha256(file, size)).decode()
        # it was uploaded in parts: S3 keeps the checksum of the checksums of its parts
        part = int(self._client.head_object(**place, PartNumber=1)["ContentLength"])
        for start in range(0, size, max(1, part)):
            whole.write(_sha256(file, min(part, size - start), start))
        return stored == base64.b64encode(whole.sha256.digest()).decode()


class _TooLargeError(Exception):
    """An object has more bytes than allowed."""


class _Limited(io.BytesIO):
    """A buffer that holds so many bytes at most."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._most:
            raise _TooLargeError
        return super().write(data)


class _Digest:
    """A file that keeps the SHA-256 of what is written to it, in order; boto3 starts again at 0 if a body breaks."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self._size = 0

    def seek(self, offset: int, _whence: int = 0) -> int:
        if offset == 0:
            self.sha256, self._size = hashlib.sha256(), 0
        return self._size

    def tell(self) -> int:
        return self._size

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self._size += len(data)
        return len(data)


def _sha256(file: Path, size: int, start: int = 0) -> bytes:
    """Return the SHA-256 of a part of a file."""
    return _digest(file, size, start).digest()


def _md5(data: bytes = b"") -> hashlib._Hash:
    """Return the MD5 of bytes: what S3 calls ETag and Content-MD5, against damage and not against forgery."""
    return hashlib.md5(data, usedforsecurity=False)


def _digest(file: Path, size: int, start: int = 0, md5: bool = False) -> hashlib._Hash:
    """Return the SHA-256, or the MD5, of a part of a file."""
    digest = _md5() if md5 else hashlib.sha256()
    with file.open("rb") as opened:
        opened.seek(start)
        while size > 0 and (piece := opened.read(min(_PIECE, size))):
            size -= len(piece)
            digest.update(piece)
    return digest
