"""Clients of AWS services, with time-outs and retries, and a limit for programs that give credentials."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleProvider, ProcessProvider
from botocore.exceptions import CredentialRetrievalError

from nd_synapse.aws.errors import MalformedResponseError, scrub, translated, without_credentials
from nd_synapse.errors import UsageError

__all__ = ["connect", "s3_client"]

# At most 4 attempts, each with 10 s to connect and 60 s between two pieces of a response; botocore waits in between.
# a thread for each tile in flight asks: botocore keeps 10 connections and closes the others after each answer
_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=100,
)

_REQUIRED = {
    "CompleteMultipartUpload": ("ETag",),
    "CreateMultipartUpload": ("UploadId",),
    "ListObjectsV2": ("Name", "KeyCount", "IsTruncated"),
    "PutObject": ("ETag",),
    "UploadPart": ("ETag",),
}
"""A response to these operations of S3 has one of the fields at least. botocore would take the sign-in page of a proxy
for an empty list, and for an upload that is done."""


_PROGRAM_S = 120.0
"""Limit of the program of a ``credential_process``; it may ask its user for a code."""


class _Program(subprocess.Popen):  # type: ignore[type-arg] # botocore passes the arguments on
    """A program that gives credentials, within the limit."""

    def communicate(self, *_: Any) -> tuple[bytes, bytes]:
        """Return what it wrote."""
        try:
            output: tuple[bytes, bytes] = super().communicate(timeout=_PROGRAM_S)
        except subprocess.TimeoutExpired:
            # what it started may hold its pipes, and is not waited for
            self.kill()
            self.wait()
            for pipe in filter(None, (self.stdout, self.stderr)):
                pipe.close()
            raise
        return output


class _Programs(ProcessProvider):  # type: ignore[misc] # botocore publishes no types
    """The ``credential_process`` of a profile; what is wrong with it is blamed on it."""

    def _retrieve_credentials_using(self, credential_process: str) -> Any:
        try:
            return super()._retrieve_credentials_using(credential_process)
        except subprocess.TimeoutExpired:
            found = f"the program did not end within {_PROGRAM_S:g} s"
        except (ValueError, AttributeError) as error:
            # the error itself holds what the program wrote
            found = f"the program wrote no credentials ({type(error).__name__})"
        except OSError as error:
            found = f"the program cannot be started ({error.strerror})"
        raise CredentialRetrievalError(provider="credential_process", error_msg=found)


def _limit_programs(session: boto3.session.Session) -> None:
    """Limit the programs of a session: botocore waits for them for ever."""
    core = session._session

    def limited(profile_name: str) -> ProcessProvider:
        return _Programs(profile_name, lambda: core.full_config, popen=_Program)

    providers = core.get_component("credential_provider").providers
    for place, provider in enumerate(providers):
        if isinstance(provider, ProcessProvider):
            providers[place] = limited(provider._profile_name)
        elif isinstance(provider, AssumeRoleProvider):
            # the profile that a role is taken from may have one, too
            provider._profile_provider_builder._create_process_provider = limited


def connect(service: str, config: Config, *, region: str | None = None, remedy: str = "") -> Any:
    """Return a client; ``AWS_ENDPOINT_URL`` and boto3's other settings are honoured."""
    requested = f"connecting to AWS ({service})"
    with translated(requested, remedy):
        try:
            session = boto3.session.Session(region_name=region)
            _limit_programs(session)
            return session.client(service, config=config)
        except ValueError as error:
            scrub(error)
            settings = "AWS_ENDPOINT_URL, the region (AWS_DEFAULT_REGION), and numbers in variables AWS_*"
            hint = f"Correct {settings}. {remedy}".rstrip(". ")
            raise UsageError(requested, without_credentials(str(error).rstrip(".")), hint) from error


def s3_client(remedy: str = "", config: Config | None = None) -> Any:
    """Return a client of S3 that refuses malformed responses; `config` adds to ours."""
    client = connect("s3", _CONFIG.merge(config or Config()), remedy=remedy)
    client.meta.events.register("after-call.s3", _check_response)
    return client


def _check_response(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
    """Raise for a response that lacks what it must have."""
    required = _REQUIRED.get(model.name, ())
    if http_response.status_code < 300 and required and not any(field in parsed for field in required):
        raise MalformedResponseError(operation=model.name, cause=f"it has no {' or '.join(required)}")
