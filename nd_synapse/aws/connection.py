"""Clients of AWS services, with time-outs and retries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

from nd_synapse.aws.errors import MalformedResponseError, scrub, translated, without_credentials
from nd_synapse.errors import UsageError

__all__ = ["connect", "s3_client"]

# At most 4 attempts, each with 10 s to connect and 60 s between two pieces of a response; botocore waits in between.
_CONFIG = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})

_REQUIRED = {
    "CompleteMultipartUpload": ("ETag",),
    "CreateMultipartUpload": ("UploadId",),
    "ListObjectsV2": ("Name", "KeyCount", "IsTruncated"),
    "PutObject": ("ETag",),
    "UploadPart": ("ETag",),
}
"""A response to these operations of S3 has one of the fields at least. botocore would take the sign-in page of a proxy
for an empty list, and for an upload that is done."""


def connect(service: str, config: Config, *, region: str | None = None, remedy: str = "") -> Any:
    """Return a client; ``AWS_ENDPOINT_URL`` and boto3's other settings are honoured."""
    requested = f"connecting to AWS ({service})"
    with translated(requested, remedy):
        try:
            return boto3.session.Session(region_name=region).client(service, config=config)
        except ValueError as error:
            scrub(error)
            hint = f"Correct AWS_ENDPOINT_URL and the region (AWS_DEFAULT_REGION). {remedy}".rstrip(". ")
            raise UsageError(requested, without_credentials(str(error).rstrip(".")), hint) from error


def s3_client(remedy: str = "") -> Any:
    """Return a client of S3 that refuses malformed responses."""
    client = connect("s3", _CONFIG, remedy=remedy)
    client.meta.events.register("after-call.s3", _check_response)
    return client


def _check_response(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
    """Raise for a response that lacks what it must have."""
    required = _REQUIRED.get(model.name, ())
    if http_response.status_code < 300 and required and not any(field in parsed for field in required):
        raise MalformedResponseError(operation=model.name, cause=f"it has no {' or '.join(required)}")
