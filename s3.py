"""The door to S3: carries a result folder to a bucket.

It knows nothing of what the files mean, except that ``run.json`` goes last, and removes nothing but an outdated one.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import logging
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto_errors

import s3_connection
from errors import StorageError, UnavailableError, UsageError
from results import deliverables
from s3_connection import BOTO_FAILURES, meaning, status, translated

__all__ = ["UploadedObject", "check_bucket", "compare_folder", "upload_folder"]

logger = logging.getLogger(__name__)

MARKER = "run.json"
"""The file that is uploaded last: where it is, the upload is complete."""

_FOREIGN = 100
"""Objects of nobody's that are told; one would do."""

_TRANSFER = TransferConfig(max_concurrency=4)
# A new bucket is looked for every 2 s, for a minute.
_WAIT = {"Delay": 2, "MaxAttempts": 30}

# All that S3 has; each grants its right to others than the owner but for the first.
_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)

# Our own table: what the mimetypes module answers depends on the machine.
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


@dataclass(frozen=True, slots=True)
class UploadedObject:
    """One file of a folder, in S3.

    Parameters
    ----------
    key : str
        Its key in the bucket.
    size_bytes : int
        Its size.
    sha256 : str
        SHA-256 of its content, hexadecimal; the object carries it as the metadata ``sha256``.
    sent : bool
        False if the same content was there already.
    """

    key: str
    size_bytes: int
    sha256: str
    sent: bool


def upload_folder(
    root: Path,
    bucket: str,
    key_prefix: str,
    *,
    acl: str | None = None,
) -> list[UploadedObject]:
    """Upload the deliverable files of a folder to ``s3://<bucket>/<key_prefix>/<path in the folder>``.

    What is there already with the same size and SHA-256 is not sent again, so a failed upload is resumed by the same
    call. A missing bucket is created in the region of boto3's settings, with public access blocked. ``run.json`` goes
    last; one of an earlier upload is withdrawn before anything beside it changes, and where the role may neither see
    nor remove it, the log warns. ``AWS_ENDPOINT_URL`` and boto3's other settings are honoured.

    Parameters
    ----------
    root : Path
        The folder; see `results.deliverables` for what counts as deliverable.
    bucket : str
        Name of the bucket.
    key_prefix : str
        Start of the keys, without a slash at its ends.
    acl : str, optional
        Canned ACL of every object, such as ``public-read``. Without it no ACL is sent and the objects are private.

    Returns
    -------
    list of UploadedObject
        The objects, in the order of their upload.

    Raises
    ------
    UsageError
        If a name cannot be meant (bucket, prefix, ACL, region, endpoint), or there is no file to upload.
    UnknownNameError
        If the bucket vanished in between.
    PermissionDeniedError
        If there are no credentials, or they may not do this, or a new bucket cannot be closed to the public; that
        bucket is removed again.
    UnavailableError
        If S3 does not answer, after the retries.
    StorageError
        If a file cannot be read or changes while it is sent.
    """
    with translated("checking the bucket's name", _resuming(root, "NAME", None)):
        check_bucket(bucket, acl)
    keys = _keys(root, key_prefix)
    remedy = _resuming(root, bucket, acl)
    with translated(f"connecting to S3 for the bucket {bucket}", remedy):
        client = s3_connection.client()
    with translated(f"looking for the bucket {bucket}", remedy):
        _ensure_bucket(client, bucket)

    done: list[UploadedObject] = []
    for path, key in keys.items():
        standing = f"{len(done)} of {len(keys)} objects are up"
        with translated(f"uploading {path.name} to s3://{bucket}/{key}, {standing}", remedy):
            before_first = not any(one.sent for one in done)
            marker = f"{key_prefix}/{MARKER}" if before_first else None
            done.append(_upload(client, path, bucket, key, acl, marker))
        how = "sent" if done[-1].sent else "was there already"
        logger.debug("%d of %d: %s %s", len(done), len(keys), key, how)
    return done


def compare_folder(root: Path, bucket: str, key_prefix: str) -> dict[str, str]:
    """Compare the objects of an upload with the files of their folder, by the checksums that S3 drew of them.

    Parameters
    ----------
    root : Path
        The folder.
    bucket : str
        Name of the bucket.
    key_prefix : str
        Start of the keys, as for `upload_folder`.

    Returns
    -------
    dict of str to str
        Key to what is wrong with the object of a file, and the first of those objects that no file of the folder has;
        empty where nothing is.

    Raises
    ------
    NDSynapseError
        As `upload_folder`.
    """
    remedy = "Check the bucket's name and the credentials; they need s3:GetObject and s3:ListBucket"
    with translated(f"comparing s3://{bucket}/{key_prefix}/", remedy):
        check_bucket(bucket, None)
        client = s3_connection.client()
        keys = {key: path for path, key in _keys(root, key_prefix).items()}
        faults = {key: _fault(client, path, bucket, key) for key, path in keys.items()}
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key_prefix}/")
        held = (found["Key"] for page in pages for found in page.get("Contents", []))
        foreign = islice((key for key in held if key not in keys), _FOREIGN)
        faults |= dict.fromkeys(foreign, "the folder has no such file")
    return {key: fault for key, fault in faults.items() if fault}


def _fault(client: Any, file: Path, bucket: str, key: str) -> str:
    """Say what is wrong with the object of a file; nothing is ''."""
    place = {"Bucket": bucket, "Key": key}
    try:
        head = client.head_object(**place, ChecksumMode="ENABLED")
    except boto_errors.ClientError as cause:
        if status(cause) != 404:
            raise
        return "it is not there"
    size = head.get("ContentLength")
    if size is None:
        raise UnavailableError(f"the size of {key}", "S3 does not tell it", "Check AWS_ENDPOINT_URL")
    if size != file.stat().st_size:
        return f"it has {size:,} bytes, the file has {file.stat().st_size:,}"
    held = head.get("ChecksumSHA256", "").partition("-")[0]
    if not held:
        # something else than us put it there: its bytes are all that can be compared
        body = client.get_object(**place)["Body"]
        wanted, held = _sha256(file), _sha256_of(iter(lambda: body.read(2**20), b""))
    elif "-" in head.get("ETag", ""):
        # it came in parts, and S3 keeps a checksum of their checksums
        part = client.head_object(**place, PartNumber=1).get("ContentLength", 0)
        wanted = base64.b64encode(_sha256_of_parts(file, part)).decode()
    else:
        wanted = base64.b64encode(bytes.fromhex(_sha256(file))).decode()
    return "" if held == wanted else "its content is another one"


def _sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _sha256_of(pieces: Iterator[bytes]) -> str:
    """Return the SHA-256 of pieces one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _sha256_of_parts(file: Path, size: int) -> bytes:
    """Return what S3 keeps of an object that came in parts of one size: the SHA-256 of their SHA-256s."""
    whole = hashlib.sha256()
    with file.open("rb") as content:
        while part := content.read(size):
            whole.update(hashlib.sha256(part).digest())
    return whole.digest()


def _resuming(root: Path, bucket: str, acl: str | None) -> str:
    """Say how an upload that failed goes on."""
    options = f"--bucket {bucket}" + (f" --acl {acl}" if acl else "")
    return (
        f"The folder {root} stays as it is; once this is mended, send the rest with"
        f" `python3 driver.py upload {shlex.quote(str(root))} {options}`"
    )


def check_bucket(bucket: str, acl: str | None) -> None:
    """Refuse what S3 would refuse of any bucket, without asking it: a job learns it before its work.

    Parameters
    ----------
    bucket : str
        Name of the bucket.
    acl : str or None
        Canned ACL of the objects, or none.

    Raises
    ------
    UsageError
        If no bucket can have this name, or S3 has no such ACL.
    """
    if not re.fullmatch(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) or _is_ip_address(bucket):
        raise UsageError(
            f"bucket {bucket!r}",
            "no bucket has such a name",
            "Give the name alone: 3 to 63 lower-case letters, digits, hyphens and full stops",
        )
    if acl is not None and acl not in _ACLS:
        raise UsageError(f"ACL {acl!r}", "S3 has no such canned ACL", f"Choose one of {', '.join(_ACLS)}, or none")


def _is_ip_address(name: str) -> bool:
    """Tell whether a name is an IP address, which no bucket may be called."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _keys(root: Path, key_prefix: str) -> dict[Path, str]:
    """Give every deliverable file its key, in the order of upload: the marker last."""
    segments = key_prefix.split("/")
    if not key_prefix.isprintable() or any(segment in ("", ".", "..") for segment in segments):
        raise UsageError(
            f"key prefix {key_prefix!r}",
            "it has an empty, '.' or '..' segment, or a control character",
            "Give names joined by single slashes",
        )
    files = sorted(deliverables(root), key=lambda path: path == root / MARKER)
    if not files:
        raise UsageError(f"uploading {root}", "there is no file in it", "Give the folder of a results key")
    keys = {path: f"{key_prefix}/{path.relative_to(root).as_posix()}" for path in files}
    for key in keys.values():
        # File names that are no UTF-8 come as lone surrogates, which no key can hold.
        if len(key.encode(errors="replace")) > 1024 or "\\udc" in ascii(key):
            raise UsageError(f"the key {key!a}", "S3 takes at most 1024 bytes of UTF-8", "Rename the file")
    return keys


def _is_missing(client: Any, bucket: str) -> bool:
    """Tell whether S3 says that there is no such bucket."""
    try:
        client.head_bucket(Bucket=bucket)
    except boto_errors.ClientError as cause:
        # A role that may only put objects is refused here (403), and a token that expired gets a bare 400; the
        # upload tells these apart, for its answer has words.
        if status(cause) not in (400, 403, 404):
            raise
        return status(cause) == 404
    return False


def _ensure_bucket(client: Any, bucket: str) -> None:
    """Create a private bucket where there is none."""
    if not _is_missing(client, bucket):
        return
    region = client.meta.region_name
    # us-east-1 is the one region that must not be named.
    abroad = {} if region in ("us-east-1", "aws-global") else {"LocationConstraint": region}
    try:
        client.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": abroad} if abroad else {}))
    except client.exceptions.BucketAlreadyOwnedByYou:
        logger.info("the bucket %s was created in between", bucket)
        return
    try:
        client.get_waiter("bucket_exists").wait(Bucket=bucket, WaiterConfig=_WAIT)
        blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True))
    except BOTO_FAILURES as cause:
        # The next call would find the bucket, and use it as it is.
        kind, found, _ = meaning(cause)
        left = _removed(client, bucket)
        hint = "The credentials need s3:PutBucketPublicAccessBlock; or name a bucket that exists"
        raise kind(f"closing the new bucket {bucket} to the public", f"{found}; {left}", hint) from cause
    logger.info("created the private bucket %s in %s", bucket, region)


def _removed(client: Any, bucket: str) -> str:
    """Remove a bucket that was just created, and say whether that went well."""
    try:
        client.delete_bucket(Bucket=bucket)
    except BOTO_FAILURES as cause:
        logger.warning("the bucket %s was created and cannot be removed: %s", bucket, cause)
        return "nothing was uploaded, and the bucket is still there: remove it, or block its public access yourself"
    return "nothing was uploaded, and the bucket was removed again"


def _upload(client: Any, file: Path, bucket: str, key: str, acl: str | None, marker: str | None) -> UploadedObject:
    """Send a file unless it is there; withdraw `marker` before, if one is given."""
    before = file.stat()
    sha256 = _sha256(file)
    if _found(client, bucket, key) == (before.st_size, sha256):
        return UploadedObject(key, before.st_size, sha256, sent=False)
    if marker is not None and marker != key and _found(client, bucket, marker) is not None:
        _withdraw(client, bucket, marker)
    extra = {
        "ChecksumAlgorithm": "SHA256",
        "ContentType": _CONTENT_TYPES.get(file.suffix.lower(), "application/octet-stream"),
        "Metadata": {"sha256": sha256},
    }
    if acl is not None:
        extra["ACL"] = acl
    client.upload_file(str(file), bucket, key, ExtraArgs=extra, Config=_TRANSFER)
    after = file.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise StorageError(f"uploading {file}", "it changed while it was sent", "Let its writer end, then upload again")
    return UploadedObject(key, before.st_size, sha256, sent=True)


def _withdraw(client: Any, bucket: str, key: str) -> None:
    """Remove an object, whether it is there or not."""
    try:
        client.delete_object(Bucket=bucket, Key=key)
    except boto_errors.ClientError as cause:
        # A role that may only put objects can still upload for the first time, and does not know that it is the first.
        if status(cause) != 403:
            raise
        logger.warning(
            "s3://%s/%s of an earlier upload, if there is one, stays until this one ends: the role has no"
            " s3:DeleteObject",
            bucket,
            key,
        )


def _found(client: Any, bucket: str, key: str) -> tuple[int, str] | None:
    """Return size and recorded SHA-256 of an object; None where there is none, -1 where it may not be seen."""
    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except boto_errors.ClientError as cause:
        if status(cause) == 404:
            return None
        # S3 answers 403 instead of 404 to a role that may not list the bucket: sending decides.
        if status(cause) in (400, 403):
            return (-1, "")
        raise
    return head.get("ContentLength", -1), head["Metadata"].get("sha256", "")
