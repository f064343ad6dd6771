"""Errors of boto3 translated into ours: S3's here; AWS Batch hands in its own reading of an error response."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import urllib3
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as boto_errors
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from nd_synapse.errors import (
    NDSynapseError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.text import one_line

__all__ = [
    "MalformedResponseError",
    "Meaning",
    "code_and_message",
    "meaning_in_s3",
    "scrub",
    "status",
    "translated",
    "without_credentials",
]

Meaning = tuple[type[NDSynapseError], str, str]
"""The class of an error, what was found, and what to do."""

_BOTO_ERRORS = (
    boto_errors.BotoCoreError,
    boto_errors.ClientError,
    RetriesExceededError,
    S3DownloadFailedError,
    S3UploadFailedError,
)
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
_NO_RESPONSE = (
    boto_errors.ConnectionError,
    boto_errors.HTTPClientError,
    boto_errors.IncompleteReadError,
    boto_errors.WaiterError,
    RetriesExceededError,
    S3DownloadFailedError,
    urllib3.exceptions.HTTPError,
)
_DAMAGED = (boto_errors.ChecksumError, boto_errors.FlexibleChecksumError)
_MALFORMED = (ResponseParserError, AttributeError, LookupError, TypeError, ValueError)
"""What botocore's parsers, and the look-up of a field that is missing, raise for a response that is none of AWS."""

# Codes whose HTTP status alone would mislead; the status decides for all others. An expired token gets a bare 400 where
# the request was a HEAD, whose response has no body.
_REFUSED_CODES = {"400", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "BucketAlreadyExists"}
_BUSY_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentChecksumMismatch",
}

_LACKING_CODES = {"MissingContentLength", "XAmzContentSHA256Mismatch"}
"""What stores other than AWS answer to headers of checksums, and to bodies with a checksum at their end."""

# A password may contain a slash or a blank, although no URL may; rather hide too much than too little.
_CREDENTIALS = re.compile(r"""(?:(?<=://)|(?<=Invalid endpoint: ))[^"'`]*@""")
# http.client repeats a header that it refuses: request headers contain credentials and signatures.
_HEADER = re.compile(r"(Invalid header value ).*", re.DOTALL)


class MalformedResponseError(boto_errors.BotoCoreError):  # type: ignore[misc] # botocore publishes no types
    """A response that lacks what every response of AWS to this operation has: a proxy or another service sent it."""

    fmt = "the response to {operation} is malformed: {cause}"


def without_credentials(text: str) -> str:
    """Hide user and password in URLs, which ``AWS_ENDPOINT_URL`` may contain, and the value of a refused header."""
    return _HEADER.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def scrub(error: BaseException) -> None:
    """Hide credentials and escape control characters in an error and its causes, which a traceback would print."""
    link: BaseException | None = error
    while link is not None:
        link.args = tuple(
            one_line(without_credentials(part), keep="\n\t") if isinstance(part, str) else part for part in link.args
        )
        link = link.__cause__ or link.__context__


def status(error: boto_errors.ClientError) -> int:
    """Return the HTTP status of an error response."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_and_message(error: boto_errors.ClientError) -> tuple[str, str]:
    """Return code and message of an error response, safe to print."""
    said = error.response.get("Error", {})
    message = one_line(without_credentials(str(said.get("Message", "")))).rstrip(".")
    return one_line(said.get("Code", "?")), message


def meaning_in_s3(error: boto_errors.ClientError) -> Meaning:
    """Translate an error response of S3."""
    code, message = code_and_message(error)
    number, found = status(error), f"S3 answered {code} ({message})"
    if code == "BucketAlreadyExists":
        return PermissionDeniedError, f"{found}, of another account", "Choose another bucket name"
    if code == "RequestTimeTooSkewed":
        return StorageError, found, "Set the clock of this machine"
    if code in _REFUSED_CODES or number in (401, 403):
        hint = "Check the credentials; they need s3:PutObject here, and s3:DeleteObject to replace an earlier upload"
        return PermissionDeniedError, found, hint
    if code in _LACKING_CODES or number == 501 or "checksum" in message.lower():
        names = "AWS_REQUEST_CHECKSUM_CALCULATION and AWS_RESPONSE_CHECKSUM_VALIDATION"
        return UsageError, found, f"If the store knows no checksums, set {names} to when_required"
    if code in _BUSY_CODES or number >= 500 or number == 429:
        return UnavailableError, f"{found}, after the retries", "Wait a while"
    if number == 404:
        return UnknownNameError, found, "Check the name of the bucket"
    if code == "AccessControlListNotSupported":
        return UsageError, found, "The bucket takes no ACLs: leave the ACL out, and share by presigned links"
    return UsageError, found, "Check bucket, region and settings"


@contextmanager
def translated(
    requested: str, remedy: str = "", of_response: Callable[[boto_errors.ClientError], Meaning] = meaning_in_s3
) -> Iterator[None]:
    """Translate every error of boto3 and of the files that it reads; to be put around calls of boto3 alone."""
    try:
        yield
    except NDSynapseError:
        raise
    except (*_BOTO_ERRORS, *_MALFORMED, urllib3.exceptions.HTTPError) as error:
        scrub(error)
        # upload_file wraps the error response, and keeps it only as the context
        inner = error.__context__ if isinstance(error, S3UploadFailedError) and error.__context__ else error
        kind, found, hint = of_response(inner) if isinstance(inner, boto_errors.ClientError) else _meaning(inner)
        raise kind(requested, found, f"{hint}. {remedy}" if remedy else hint) from error
    except OSError as error:
        raise StorageError(requested, str(error), f"Check the file. {remedy}") from error


def _meaning(error: BaseException) -> Meaning:
    """Translate an error that is no response of AWS."""
    found = one_line(without_credentials(" ".join(str(error).split()).rstrip(".")))
    if isinstance(error, _NO_CREDENTIALS):
        return PermissionDeniedError, found, "Set up credentials as for the AWS command line, or give the job a role"
    if "Invalid header value" in found:
        found = "the AWS credentials contain characters that no HTTP header can carry"
        return UsageError, found, "Copy AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN etc. again, without line ends"
    if isinstance(error, _DAMAGED):
        return UnavailableError, f"the data were damaged on the way ({found})", "Check the network; then try again"
    if isinstance(error, boto_errors.ProxyConnectionError):
        return UnavailableError, found, "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    if isinstance(error, boto_errors.SSLError):
        return UnavailableError, found, "Check AWS_ENDPOINT_URL, AWS_CA_BUNDLE if it is set, and proxies"
    if isinstance(error, _NO_RESPONSE):
        return UnavailableError, found, "Check the network and AWS_ENDPOINT_URL"
    if isinstance(error, boto_errors.ParamValidationError):
        return UsageError, found, "Correct the options"
    if isinstance(error, (MalformedResponseError, boto_errors.PaginationError)):
        return UnavailableError, found, "Check AWS_ENDPOINT_URL and proxies; then try again"
    if isinstance(error, _MALFORMED) and not isinstance(error, boto_errors.BotoCoreError):
        found = f"the response is malformed ({type(error).__name__}: {found})"
        return UnavailableError, found, "Check AWS_ENDPOINT_URL and proxies; then try again"
    return UsageError, found, "Correct the AWS settings"
