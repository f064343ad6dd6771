"""The one translation of what `intern`, `requests` and `urllib3` raise into our own errors.

It sends nothing and retries nothing: `boss.transport` does both before an error comes here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3 import exceptions as urllib3_errors

from nd_synapse.credentials import Token
from nd_synapse.errors import (
    DataError,
    NDSynapseError,
    PermissionDeniedError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.redaction import redacted
from nd_synapse.text import one_line, shortened

__all__ = [
    "BossReply",
    "is_storage_trouble",
    "parse_body",
    "read_reply",
    "reply_of",
    "translated",
    "was_deleted",
]

_DELETED = 4005
_SYSTEM_ERROR = 9001
# BOSS answers a write so whatever went wrong in its storage, and in these two cases, which stay as they are
_LOCKED, _RESOLUTION = "excessive write errors", "RESOLUTION_MISMATCH"
_REPLY = "boss_reply"
"""Attribute of a foreign error that keeps the error response."""

_EXCERPT = 300  # characters of a server's message; BOSS's own messages are shorter, pages are longer

# What reading a reply raises that is not BOSS's: a page, or JSON of something else. The OSErrors of `requests` itself
# are RequestException; what is left of them is a REQUESTS_CA_BUNDLE that cannot be read.
_NONSENSE = (KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError)
_FOREIGN = (requests.RequestException, urllib3_errors.HTTPError, OSError, *_NONSENSE)

_TRUST = "Check --host (http:// for a server without encryption); REQUESTS_CA_BUNDLE names a CA of your own"

_PROXY = "Check HTTPS_PROXY and HTTP_PROXY, which may have a user and a password in them, and NO_PROXY"

# The first match counts: urllib3 derives the next three from each other.
_NO_ANSWER: tuple[tuple[type[Exception], str, str], ...] = (
    (urllib3_errors.ProxyError, "{host} cannot be reached through the proxy: {reason}", _PROXY),
    (requests.exceptions.InvalidProxyURL, "the proxy for {host} has no valid address", _PROXY),
    (urllib3_errors.NameResolutionError, "the name of {host} is not known", "Check --host and the network"),
    (
        urllib3_errors.NewConnectionError,
        "{host} cannot be reached, after the retries",
        "Check --host, and whether the server runs",
    ),
    (urllib3_errors.TimeoutError, "{host} did not answer in time, after the retries", "Try again later"),
    (urllib3_errors.SSLError, "no trusted encrypted connection to {host}", _TRUST),
    (
        urllib3_errors.ProtocolError,
        "{host} broke the connection, or sent something that is not HTTP, after the retries",
        "Check --host, and whether the server runs",
    ),
    (requests.RequestException, "the response of {host} cannot be read ({name})", "Check that --host is a BOSS host"),
    (urllib3_errors.HTTPError, "the response of {host} cannot be read ({name})", "Check that --host is a BOSS host"),
    (OSError, "no trusted encrypted connection to {host}", _TRUST),
)


@dataclass(frozen=True, slots=True)
class BossReply:
    """An error response of BOSS."""

    status: int
    code: int | None
    """BOSS's own code; None if something other than BOSS answered, or its framework."""
    message: str
    """At most 300 characters; empty if the body is not a JSON object."""
    location: str = ""
    """Scheme and host of a redirect's target."""


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object; none for any other body."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def read_reply(response: requests.Response) -> BossReply:
    """Read status, code and message of an error response."""
    fields = parse_body(response.content)
    code = fields.get("code")
    message = str(fields.get("message") or fields.get("detail") or "")[:_EXCERPT].rstrip(". ")
    location = _host_in(response.headers.get("Location", ""))
    return BossReply(response.status_code, code if isinstance(code, int) else None, message, location)


def _host_in(url: str) -> str:
    """Return scheme and host of a URL; empty if there are none."""
    try:
        target = urlsplit(url)
    except ValueError:
        return ""
    return f"{target.scheme}://{target.netloc}" if target.scheme and target.netloc else ""


def is_storage_trouble(code: int | None, message: str) -> bool:
    """Return whether a write failed by trouble in BOSS's own storage, so that another attempt may succeed."""
    return code == _SYSTEM_ERROR and _LOCKED not in message and _RESOLUTION not in message


def reply_of(error: NDSynapseError) -> BossReply | None:
    """Return the refusal that an error was translated from, if there is one."""
    return getattr(error.__cause__, _REPLY, None)


def was_deleted(error: NDSynapseError) -> bool:
    """Return whether a name is missing because it was deleted: BOSS never gives it away again."""
    reply = reply_of(error)
    return reply is not None and reply.code == _DELETED


@contextmanager
def translated(requested: str, host: str, token: Token) -> Iterator[None]:
    """Translate what goes wrong in one call of `intern`."""
    try:
        yield
    except NDSynapseError:
        raise
    except _FOREIGN as error:
        response = getattr(error, "response", None)
        reply = read_reply(response) if isinstance(response, requests.Response) else None
        if reply is not None:
            reply = replace(reply, message=redacted(reply.message, token), location=redacted(reply.location, token))
        ours = _translate(error, reply, requested, host)
        _hide(error, token)
        setattr(error, _REPLY, reply)
        # a server may repeat what it was sent
        raise type(ours)(*(redacted(part, token) for part in (ours.requested, ours.found, ours.remedy))) from error


def _hide(error: BaseException | None, token: Token) -> None:
    """Remove the token from an exception and its causes: their texts, and the requests and replies they hold."""
    while error is not None:
        error.args = tuple(redacted(str(part), token) for part in error.args)
        for name in ("request", "response", "doc", "object"):
            if getattr(error, name, None) is not None:
                setattr(error, name, None if name[0] == "r" else "" if name == "doc" else b"")
        error = error.__cause__ or error.__context__


def _translate(error: Exception, reply: BossReply | None, requested: str, host: str) -> NDSynapseError:
    """Choose our error for one of `requests`, `urllib3` or `intern`."""
    if reply is not None:
        return _refusal(reply, requested, host)
    if isinstance(error, _NONSENSE):
        return UnavailableError(
            requested, f"{host} answered with something that does not make sense", "Check that --host is a BOSS host"
        )
    # requests wraps the errors of urllib3, and urllib3 its own
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", inner)
    for kind, found, remedy in _NO_ANSWER:
        for cause in (reason, error):
            if isinstance(cause, kind):
                why = shortened(one_line(getattr(reason, "original_error", "")), _EXCERPT)
                return UnavailableError(
                    requested, found.format(host=host, name=type(error).__name__, reason=why), remedy
                )
    raise AssertionError(f"{type(error).__name__} is in no row of _NO_ANSWER")


def _refusal(reply: BossReply, requested: str, host: str) -> NDSynapseError:
    """Choose the error for an HTTP status."""
    says = f"{host} says: {reply.message}" if reply.message else f"{host} answered with HTTP status {reply.status}"
    match reply.status:
        case 401:
            remedy = "Check the token (--token-file, BOSS_TOKEN or neurodata.cfg), and that this host issued it"
            return PermissionDeniedError(requested, f"{host} does not accept the token", remedy)
        case 403:
            remedy = "Ask the owner for this right"
            return PermissionDeniedError(requested, f"the token may not do this; {says}", remedy)
        case 404 if reply.code == _DELETED:
            remedy = "Use another name, or ask BOSS to purge it"
            return UnknownNameError(requested, "it was deleted, and BOSS keeps its name taken", remedy)
        case 404 if reply.code is not None:
            return UnknownNameError(requested, f"there is none; {says}", "Check the name")
        case 407:
            return UnavailableError(requested, f"the proxy for {host} wants a user and a password", _PROXY)
        case 413:
            return DataError(requested, f"one request was too large; {says}", "Use smaller blocks")
        case 429 if reply.code is None:
            found = f"{host} takes no more requests for now (HTTP status 429), after the retries"
            return UnavailableError(requested, found, "Try again later, with fewer --pulls: finished blocks are kept")
        case 429:
            found = f"the quota of this token's user at {host} is used up"
            return UnavailableError(requested, found, "BOSS counts by the month: try again later")
        case status if 300 <= status < 400:
            found = f"{host} redirects to {reply.location or 'another address'}"
            return UsageError(requested, found, "Give that as --host")
        case 400 if is_storage_trouble(reply.code, reply.message):
            return UnavailableError(
                requested, f"{says}, after the retries", "Try again later: finished blocks are kept"
            )
        case 400 if reply.code == _SYSTEM_ERROR and _LOCKED in reply.message:
            remedy = "Ask BOSS to unlock it, or choose another experiment with --out-exp NAME"
            return UnavailableError(requested, f"{host} has locked the channel after too many failed writes", remedy)
        case 400 if reply.code == _SYSTEM_ERROR:
            remedy = "Choose another experiment with --out-exp NAME; missing channels are created to fit"
            return DataError(requested, f"{host} cannot write this resolution of the channel", remedy)
        case 400 | 409:
            return UsageError(requested, f"it was refused; {says}", "Check names and ranges")
        case status if status >= 500:
            remedy = "Try again later: finished blocks are kept"
            return UnavailableError(requested, f"{says}, after the retries", remedy)
        case _:
            return UnavailableError(requested, f"{says}, without a BOSS message", "Check that --host is a BOSS host")
