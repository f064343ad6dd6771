"""The connection to S3, and the translation of what goes wrong with it.

It carries nothing itself: `s3_transfers` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import urllib3
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as boto_errors
from botocore.config import Config

from nd_synapse.aws.answers import SenselessError, scrub, sensible, without_credentials
from nd_synapse.aws.limits import limited
from nd_synapse.errors import (
    NDSynapseError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.text import one_line

__all__ = ["BOTO_FAILURES", "client", "meaning", "meaning_of_answer", "status", "translated"]

# A call ends after at most 4 attempts, with seconds between them: each of 10 s to connect, silences of 60 s, and the
# limit of `aws_limits` in all.
_CONFIG = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})

BOTO_FAILURES = (boto_errors.BotoCoreError, boto_errors.ClientError, S3UploadFailedError)
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
_DAMAGED = (boto_errors.ChecksumError, boto_errors.FlexibleChecksumError)
_SENSELESS = (SenselessError, boto_errors.PaginationError, urllib3.exceptions.HTTPError)
# Codes whose HTTP status alone would mislead; the status decides for all others.
_REFUSED_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "BucketAlreadyExists"}
_BUSY_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentChecksumMismatch",
}
# An answer to any of these has one of the names at least.
_NEEDED = {
    "CompleteMultipartUpload": ("ETag",),
    "CreateMultipartUpload": ("UploadId",),
    "ListObjectsV2": ("Name", "KeyCount", "IsTruncated"),
    "PutObject": ("ETag",),
    "UploadPart": ("ETag",),
}


def client() -> Any:
    """Return a client of S3 with limits on time and attempts."""
    try:
        return sensible(limited(boto3.session.Session().client("s3", config=_CONFIG)), _NEEDED)
    except ValueError as cause:
        scrub(cause)
        remedy = "Correct AWS_ENDPOINT_URL and the region (AWS_DEFAULT_REGION)"
        raise UsageError("connecting to S3", without_credentials(str(cause).rstrip(".")), remedy) from cause


def status(cause: boto_errors.ClientError) -> int:
    """Return the HTTP status of an error that S3 answered with."""
    return int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def translated(requested: str, remedy: str) -> Iterator[None]:
    """Turn every failure of boto3, and of reading the files, into one of ours; each says how to go on."""
    try:
        yield
    except NDSynapseError as ours:
        raise type(ours)(ours.requested, ours.found, f"{ours.remedy}. {remedy}") from (ours.__cause__ or ours)
    except BOTO_FAILURES as cause:
        scrub(cause)
        # upload_file wraps what S3 answered, and keeps the answer only as the context.
        inner = cause.__context__ if isinstance(cause, S3UploadFailedError) and cause.__context__ else cause
        kind, found, hint = meaning(inner)
        raise kind(requested, found, f"{hint}. {remedy}") from cause
    except RecursionError as cause:
        # botocore follows whoever sends it on, and that without end
        raise UnavailableError(
            requested, "S3 sends its callers on in a circle", f"Check AWS_ENDPOINT_URL. {remedy}"
        ) from cause
    except OSError as cause:
        raise StorageError(requested, str(cause), f"Check the file. {remedy}") from cause


def meaning(cause: BaseException) -> tuple[type[NDSynapseError], str, str]:
    """Return our class of a failure, its words, and what helps."""
    found = one_line(without_credentials(" ".join(str(cause).split()).rstrip(".")))
    if isinstance(cause, boto_errors.ClientError):
        error = cause.response.get("Error", {})
        code, message = one_line(error.get("Code", "?")), without_credentials(str(error.get("Message", "")))
        return meaning_of_answer(code, status(cause), f"S3 answered {code} ({one_line(message).rstrip('.')})")
    if isinstance(cause, _NO_CREDENTIALS):
        return PermissionDeniedError, found, "Set up credentials as for the AWS command line, or give the job a role"
    if "Invalid header value" in found:
        found = "the AWS credentials have characters that no request can carry"
        return (
            UsageError,
            found,
            "Copy them again, without line ends: AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and their like",
        )
    if isinstance(cause, _DAMAGED):
        return (
            UnavailableError,
            f"what S3 sent was damaged on its way ({found})",
            "Check the line to it; then try again",
        )
    if isinstance(cause, boto_errors.SSLError):
        return UnavailableError, found, "Check AWS_ENDPOINT_URL, AWS_CA_BUNDLE if it is set, and what stands between"
    if isinstance(cause, _NO_ANSWER):
        return UnavailableError, found, "Check the network and AWS_ENDPOINT_URL"
    if isinstance(cause, _SENSELESS):
        return UnavailableError, found, "Check AWS_ENDPOINT_URL and what stands before it; then try again"
    return UsageError, found, "Correct the AWS settings"


def meaning_of_answer(code: str, status: int, found: str) -> tuple[type[NDSynapseError], str, str]:
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
