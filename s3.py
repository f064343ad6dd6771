"""The door to S3: carries a result folder to a bucket.

It knows nothing of what the files mean, except that ``run.json`` goes last, and removes nothing but an outdated one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto_errors
from botocore.config import Config

from errors import (
    NDSynapseError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from results import deliverables

__all__ = ["UploadedObject", "upload_folder"]

logger = logging.getLogger(__name__)

MARKER = "run.json"
"""The file that is uploaded last: where it is, the upload is complete."""

# A call ends after at most 4 attempts of 10 s to connect and 60 s without an answer, with seconds between them.
_CONFIG = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})
_TRANSFER = TransferConfig(max_concurrency=4)
# A new bucket is looked for every 2 s, for a minute.
_WAIT = {"Delay": 2, "MaxAttempts": 30}

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

_BOTO_FAILURES = (boto_errors.BotoCoreError, boto_errors.ClientError, S3UploadFailedError)
_NO_CREDENTIALS = (
    boto_errors.CredentialRetrievalError,
    boto_errors.LoginError,
    boto_errors.MetadataRetrievalError,
    boto_errors.NoAuthTokenError,
    boto_errors.NoCredentialsError,
    boto_errors.PartialCredentialsError,
    boto_errors.SSOError,
    boto_errors.TokenRetrievalError,
)
_NO_ANSWER = (
    boto_errors.ConnectionError,
    boto_errors.HTTPClientError,
    boto_errors.IncompleteReadError,
    boto_errors.WaiterError,
)
# Codes whose HTTP status alone would mislead; the status decides for all others.
_REFUSED_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "BucketAlreadyExists"}
_BUSY_CODES = {"BadDigest", "OperationAborted", "RequestTimeout", "SlowDown", "XAmzContentChecksumMismatch"}


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
    region: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[UploadedObject]:
    """Upload the deliverable files of a folder to ``s3://<bucket>/<key_prefix>/<path in the folder>``.

    What is there already with the same size and SHA-256 is not sent again, so a failed upload is resumed by the same
    call. A missing bucket is created, with public access blocked. ``run.json`` goes last; one of an earlier upload is
    withdrawn before anything beside it changes. ``AWS_ENDPOINT_URL`` and boto3's other settings are honoured.

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
    region : str, optional
        Region to speak to and to create the bucket in; by default boto3's own choice.
    progress : callable, optional
        Called with one line of text for each file that is up.

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
        If there are no credentials, or they may not do this.
    UnavailableError
        If S3 does not answer, after the retries.
    StorageError
        If a file cannot be read or changes while it is sent.
    """
    _check_bucket(bucket)
    keys = _keys(root, key_prefix)
    remedy = (
        f"The folder {root} stays as it is; once this is mended, send the rest with"
        f" `python3 driver.py upload {shlex.quote(str(root))} --bucket {bucket}`"
    )
    with _translated(f"connecting to S3 for the bucket {bucket}", remedy):
        client = _client(region)
    _check_acl(client, acl)
    with _translated(f"looking for the bucket {bucket}", remedy):
        _ensure_bucket(client, bucket)

    done: list[UploadedObject] = []
    for path, key in keys.items():
        standing = f"{len(done)} of {len(keys)} objects are up"
        with _translated(f"uploading {path.name} to s3://{bucket}/{key}, {standing}", remedy), _still(path) as file:
            before_first = not any(one.sent for one in done)
            marker = f"{key_prefix}/{MARKER}" if before_first else None
            done.append(_upload(client, file, bucket, key, acl, marker))
        line = f"{len(done)} of {len(keys)}: {key} {'sent' if done[-1].sent else 'was there already'}"
        logger.debug("%s", line)
        if progress is not None:
            progress(line)
    return done


def _check_bucket(bucket: str) -> None:
    """Refuse a name that no bucket can have."""
    plain = re.fullmatch(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) is not None
    if plain:
        try:
            ipaddress.ip_address(bucket)
        except ValueError:
            return
    raise UsageError(
        f"bucket {bucket!r}",
        "no bucket has such a name",
        "Give the name alone: 3 to 63 lower-case letters, digits, hyphens and full stops",
    )


def _check_acl(client: Any, acl: str | None) -> None:
    """Refuse an ACL that S3 does not have."""
    known = client.meta.service_model.shape_for("ObjectCannedACL").enum
    if acl is not None and acl not in known:
        raise UsageError(f"ACL {acl!r}", "S3 has no such canned ACL", f"Choose one of {', '.join(known)}, or none")


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


def _client(region: str | None) -> Any:
    """Return a client of S3 with limits on time and attempts."""
    try:
        return boto3.session.Session().client("s3", region_name=region, config=_CONFIG)
    except ValueError as cause:
        remedy = "Correct AWS_ENDPOINT_URL and the region (AWS_DEFAULT_REGION)"
        raise UsageError("connecting to S3", str(cause).rstrip("."), remedy) from cause


def _is_missing(client: Any, bucket: str) -> bool:
    """Tell whether S3 says that there is no such bucket."""
    try:
        client.head_bucket(Bucket=bucket)
    except boto_errors.ClientError as cause:
        # A role that may only put objects is refused here (403), and a token that expired gets a bare 400; the
        # upload tells these apart, for its answer has words.
        if _status(cause) not in (400, 403, 404):
            raise
        return _status(cause) == 404
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
    client.get_waiter("bucket_exists").wait(Bucket=bucket, WaiterConfig=_WAIT)
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True))
    logger.info("created the private bucket %s in %s", bucket, region)


def _upload(client: Any, file: Path, bucket: str, key: str, acl: str | None, marker: str | None) -> UploadedObject:
    """Send a file unless it is there; withdraw `marker` before, if one is given."""
    before = file.stat()
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    if _found(client, bucket, key) == (before.st_size, sha256):
        return UploadedObject(key, before.st_size, sha256, sent=False)
    if marker is not None and marker != key and _found(client, bucket, marker) is not None:
        client.delete_object(Bucket=bucket, Key=marker)
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


def _found(client: Any, bucket: str, key: str) -> tuple[int, str] | None:
    """Return size and recorded SHA-256 of an object, or None where none can be seen."""
    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except boto_errors.ClientError as cause:
        # S3 answers 403 instead of 404 to a role that may not list the bucket: sending decides.
        if _status(cause) in (400, 403, 404):
            return None
        raise
    return head["ContentLength"], head["Metadata"].get("sha256", "")


@contextmanager
def _still(path: Path) -> Iterator[Path]:
    """Give a file that does not grow: a log is copied, for the upload itself is logged."""
    if path.suffix != ".log":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nd-synapse-") as folder:
        yield Path(shutil.copyfile(path, Path(folder, path.name)))


def _status(cause: boto_errors.ClientError) -> int:
    """Return the HTTP status of an error that S3 answered with."""
    return int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def _translated(asked: str, remedy: str) -> Iterator[None]:
    """Turn every failure of boto3, and of reading the files, into one of ours."""
    try:
        yield
    except NDSynapseError:
        raise
    except _BOTO_FAILURES as cause:
        # upload_file wraps what S3 answered, and keeps the answer only as the context.
        inner = cause.__context__ if isinstance(cause, S3UploadFailedError) and cause.__context__ else cause
        kind, found, hint = _meaning(inner)
        raise kind(asked, found, f"{hint}. {remedy}") from cause
    except OSError as cause:
        raise StorageError(asked, str(cause), f"Check the file. {remedy}") from cause


def _meaning(cause: BaseException) -> tuple[type[NDSynapseError], str, str]:
    """Return our class of a failure, its words, and what helps."""
    found = " ".join(str(cause).split()).rstrip(".")
    if isinstance(cause, boto_errors.ClientError):
        error = cause.response.get("Error", {})
        code, message = str(error.get("Code", "?")), str(error.get("Message", "")).rstrip(".")
        return _meaning_of_answer(code, _status(cause), f"S3 answered {code} ({message})")
    if isinstance(cause, _NO_CREDENTIALS):
        return PermissionDeniedError, found, "Set up credentials as for the AWS command line, or give the job a role"
    if isinstance(cause, _NO_ANSWER):
        return UnavailableError, found, "Check the network and AWS_ENDPOINT_URL"
    return UsageError, found, "Correct the AWS settings"


def _meaning_of_answer(code: str, status: int, found: str) -> tuple[type[NDSynapseError], str, str]:
    """Return our class of an answer of S3, its words, and what helps."""
    if code == "BucketAlreadyExists":
        return PermissionDeniedError, f"{found}, of another account", "Choose another bucket name"
    if code in _REFUSED_CODES or status in (401, 403):
        hint = "Check the credentials; they need s3:PutObject here, and s3:DeleteObject to replace an earlier upload"
        return PermissionDeniedError, found, hint
    if code in _BUSY_CODES or status >= 500 or status == 429:
        return UnavailableError, f"{found}, after the retries", "Wait a while"
    if status == 404:
        return UnknownNameError, found, "Check the name of the bucket"
    if code == "AccessControlListNotSupported":
        return UsageError, found, "The bucket takes no ACLs: leave the ACL out, and share by presigned links"
    return UsageError, found, "Check bucket, region and settings"
