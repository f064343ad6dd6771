"""The door to S3: carries a result folder to a bucket.

It knows nothing of what the files mean, except that ``run.json`` goes last, and removes nothing but an outdated one and
what that one lists and the new one does not. What one object holds, `s3_checksums` tells.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto_errors

from nd_synapse.aws import checksums, connection, transfers
from nd_synapse.aws.connection import BOTO_FAILURES, meaning, status, translated
from nd_synapse.errors import StorageError, UsageError, few
from nd_synapse.job.deliverables import GROWING, MARKER, deliverables
from nd_synapse.job.manifest import MOST_BYTES, Outline, outline_of

__all__ = ["UploadedObject", "check_bucket", "command_of", "compare_folder", "upload_folder"]

logger = logging.getLogger(__name__)

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

    What is there already, by the checksum that S3 drew of it, is not sent again, so a failed upload is resumed by the
    same call. A missing bucket is created in the region of boto3's settings, with public access blocked. ``run.json``
    goes last; one of an earlier upload is withdrawn before anything beside it changes, and with it go the objects that
    it lists and the new one does not. Where the role may neither see nor remove them, the log warns.
    ``AWS_ENDPOINT_URL`` and boto3's other settings are honoured.
    """
    with translated("checking the bucket's name", _resuming(root, "NAME", None)):
        check_bucket(bucket, acl)
    keys = _keys(root, key_prefix)
    remedy = _resuming(root, bucket, acl)
    with translated(f"connecting to S3 for the bucket {bucket}", remedy):
        client = connection.client()
    with translated(f"looking for the bucket {bucket}", remedy):
        _ensure_bucket(client, bucket)

    with translated(f"looking for an earlier upload at s3://{bucket}/{key_prefix}/", remedy):
        is_outdated, stale = _earlier(client, root, bucket, key_prefix)

    done: list[UploadedObject] = []
    marker = f"{key_prefix}/{MARKER}"
    for path, key in keys.items():
        standing = f"{len(done)} of {len(keys)} objects are up"
        with translated(f"uploading {path.name} to s3://{bucket}/{key}, {standing}", remedy):
            size, sha256 = path.stat().st_size, checksums.sha256_of(path)
            differs = not checksums.seen(client, bucket, key, path, sha256)
            if differs and is_outdated and (key != marker or stale):
                _make_way(client, bucket, marker, stale)
                is_outdated = False
            if differs and key == marker:
                _refuse_mixture(client, bucket, key_prefix, root, done)
            if differs:
                _send(client, path, bucket, key, acl, sha256)
            done.append(UploadedObject(key, size, sha256, sent=differs))
        logger.debug("%d of %d: %s %s", len(done), len(keys), key, "sent" if differs else "was there already")
    return done


def compare_folder(root: Path, bucket: str, key_prefix: str) -> dict[str, str]:
    """Compare the objects of an upload with the files of their folder, by the checksums that S3 drew of them."""
    remedy = "Check the bucket's name and the credentials; they need s3:GetObject and s3:ListBucket"
    with translated(f"comparing s3://{bucket}/{key_prefix}/", remedy):
        check_bucket(bucket, None)
        client = connection.client()
        keys = {key: path for path, key in _keys(root, key_prefix).items()}
        # a later command that was refused has added to the log alone
        faults = {
            key: checksums.fault(client, bucket, key, path, grows=path == root / GROWING) for key, path in keys.items()
        }
        _earlier(client, root, bucket, key_prefix)
        held = transfers.keys(client, bucket, f"{key_prefix}/")
        foreign = islice((key for key in held if key not in keys), _FOREIGN)
        faults |= dict.fromkeys(foreign, "the folder has no such file")
    return {key: fault for key, fault in faults.items() if fault}


def _resuming(root: Path, bucket: str, acl: str | None) -> str:
    """Say how an upload that failed goes on."""
    return f"The folder {root} stays as it is; once this is mended, send the rest with {command_of(root, bucket, acl)}"


def command_of(root: Path, bucket: str, acl: str | None) -> str:
    """Return the command that sends what is missing of an upload, between back-ticks."""
    options = f"--bucket {bucket}" + (f" --acl {acl}" if acl else "")
    return f"`python3 driver.py upload {shlex.quote(str(root))} {options}`"


def check_bucket(bucket: str, acl: str | None) -> None:
    """Refuse what S3 would refuse of any bucket, without asking it: a job learns it before its work."""
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
        # by somebody who closes it as well, or by an attempt of this call whose answer was lost
        logger.info("the bucket %s was created in between", bucket)
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


def _earlier(client: Any, root: Path, bucket: str, key_prefix: str) -> tuple[bool, list[str]]:
    """Tell whether an earlier upload left a `run.json`, or may have, and which of its objects are stale."""
    there, body = transfers.content(client, bucket, f"{key_prefix}/{MARKER}", MOST_BYTES)
    before, now = outline_of(body), _outline(root)
    if before is None:
        return there, []
    if now is None:
        # what is incomplete itself takes nothing away
        raise UsageError(
            f"s3://{bucket}/{key_prefix}/",
            "it has all of a run, and the folder has no run.json, for its own run did not end",
            "Let the run end, or choose another bucket",
        )
    if before.experiment != now.experiment:
        raise UsageError(
            f"s3://{bucket}/{key_prefix}/",
            f"it has a run of {'/'.join(before.experiment)}, the folder has one of {'/'.join(now.experiment)}",
            "Their results keys are the same: choose another bucket",
        )
    kept = {path.relative_to(root).as_posix() for path in deliverables(root)} | now.files
    return there, [f"{key_prefix}/{name}" for name in sorted(before.files - kept)]


def _outline(root: Path) -> Outline | None:
    """Return what the `run.json` of a folder says, if there is one that can be read."""
    path = root / MARKER
    return outline_of(path.read_bytes()) if path.is_file() else None


def _send(client: Any, file: Path, bucket: str, key: str, acl: str | None, sha256: str) -> None:
    """Send a file; refuse one that changes meanwhile."""
    before = file.stat()
    extra = {
        "ChecksumAlgorithm": "SHA256",
        "ContentType": _CONTENT_TYPES.get(file.suffix.lower(), "application/octet-stream"),
        "Metadata": {"sha256": sha256},
    }
    if acl is not None:
        extra["ACL"] = acl
    transfers.send_file(client, file, bucket, key, extra, _TRANSFER)
    after = file.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise StorageError(f"uploading {file}", "it changed while it was sent", "Let its writer end, then upload again")


def _refuse_mixture(client: Any, bucket: str, key_prefix: str, root: Path, done: Sequence[UploadedObject]) -> None:
    """Refuse to say that an upload is complete if somebody has replaced a part of it meanwhile."""
    files = {one: root / one.key.removeprefix(f"{key_prefix}/") for one in done}
    others = [
        one.key for one, file in files.items() if checksums.seen(client, bucket, one.key, file, one.sha256) is False
    ]
    if others:
        raise StorageError(
            f"uploading to s3://{bucket}/{key_prefix}/",
            f"another upload writes there: {few(others)} changed since",
            "Let the other one end, then upload again",
        )


def _make_way(client: Any, bucket: str, marker: str, stale: Sequence[str]) -> None:
    """Remove an outdated `run.json`, whether it is there or not, and then what it alone speaks of."""
    if not _removed_object(client, bucket, marker):
        logger.warning(
            "s3://%s/%s of an earlier upload, if there is one, stays until this one ends: the role has no"
            " s3:DeleteObject",
            bucket,
            marker,
        )
    for number, key in enumerate(stale):
        is_removed = False
        try:
            is_removed = _removed_object(client, bucket, key)
        finally:
            # no later upload can know of them: what listed them is gone
            if not is_removed:
                logger.warning("of an earlier upload there stay in %s, to be removed: %s", bucket, few(stale[number:]))
        if not is_removed:
            return
        logger.info("removed s3://%s/%s of an earlier upload, which this one does not have", bucket, key)


def _removed_object(client: Any, bucket: str, key: str) -> bool:
    """Remove an object; tell whether the role may."""
    try:
        client.delete_object(Bucket=bucket, Key=key)
    except boto_errors.ClientError as cause:
        # A role that may only put objects can still upload for the first time, and does not know that it is the first.
        if status(cause) != 403:
            raise
        return False
    return True
