"""The one translation of what `intern` and `requests` raise into our own errors.

It sends nothing and retries nothing; the connection does both before an error comes here.

What BOSS says -> what the user reads::

    401                      PermissionDeniedError   the token is not accepted
    403                      PermissionDeniedError   the token's user may not do this, and what BOSS says about it
    404 with a BOSS code     UnknownNameError        no such name, or it was deleted (4005)
    404 without one          UnavailableError        whatever answers there is no BOSS
    400, 409                 UsageError              what BOSS says about it
    413                      DataError               too much in one request
    429 with a BOSS code     UnavailableError        the monthly quota is used up
    429 without one          UnavailableError        after the retries: something before BOSS is busy
    3xx                      UsageError              the host has moved
    5xx, no answer, no sense UnavailableError        after the retries
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from blosc.blosc_extension import error as BloscError  # noqa: N812 - it is a class, whatever its spelling
from intern.service.boss.httperrorlist import HTTPErrorList
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import NameResolutionError
from urllib3.util.ssl_match_hostname import CertificateError

from nd_synapse.credentials import Token, redact
from nd_synapse.errors import (
    DataError,
    NDSynapseError,
    PermissionDeniedError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)

__all__ = [
    "BossReply",
    "DamagedError",
    "OversizedError",
    "UntrustedError",
    "is_late",
    "is_no_http",
    "is_unknown_name",
    "is_untrusted",
    "read_reply",
    "reply_of",
    "translated",
    "was_deleted",
]

_TOKEN_REMEDY = "Check the token (--token-file, BOSS_TOKEN or neurodata.cfg), and that this host issued it"  # noqa: S105
_DELETED = 4005
# What intern raises when it parses a reply that is none of BOSS's: a page, or JSON of something else.
_SENSELESS = (
    *(BloscError, requests.exceptions.JSONDecodeError, RecursionError, OverflowError),
    *(KeyError, ValueError, TypeError, AttributeError),
)
_FOREIGN = (requests.RequestException, HTTPErrorList, *_SENSELESS)

# the parts of OpenSSL that read files of certificates; what comes over the line is told of by the part "SSL"
_LIBRARIES_OF_TRUST = frozenset({"X509", "PEM", "ASN1"})

_EXCERPT = 300  # characters of what a server says; a message of its own is shorter, a page is longer


class OversizedError(requests.RequestException):
    """An answer holds more than what was asked for can hold; its words follow on the name of the host."""


class DamagedError(requests.RequestException):
    """An answer is not what its own announcements say; its words follow on the name of the host."""


class UntrustedError(requests.exceptions.SSLError):
    """What is trusted cannot be read."""


@dataclass(frozen=True, slots=True)
class BossReply:
    """What a refusal of BOSS says.

    Parameters
    ----------
    status : int
        The HTTP status.
    code : int or None
        BOSS's own code; None when something else than BOSS answered, or its framework.
    message : str
        The sentence, at most 300 characters; empty when the body is no JSON object.
    location : str
        The host that a redirect points to, as a URL; else empty.
    """

    status: int
    code: int | None
    message: str
    location: str = ""


def reply_of(error: requests.HTTPError) -> BossReply:
    """Read status, code and message of a refusal."""
    return BossReply(0, None, "") if error.response is None else read_reply(error.response)


def read_reply(response: requests.Response) -> BossReply:
    """Read status, code and message of an answer that is a refusal."""
    location = _host_in(response.headers.get("Location", ""))
    try:
        body = json.loads(response.text)
        if not isinstance(body, dict):
            return BossReply(response.status_code, None, "", location)
        code = body.get("code")
        said = str(body.get("message") or body.get("detail") or "")[:_EXCERPT].rstrip(". ")
    except (ValueError, LookupError, RecursionError):
        return BossReply(response.status_code, None, "", location)
    return BossReply(response.status_code, code if isinstance(code, int) else None, said, location)


def _host_in(url: str) -> str:
    """Return the scheme and host of a URL; empty where there is none, or the URL is no URL."""
    try:
        target = urlsplit(url)
    except ValueError:
        return ""
    return f"{target.scheme}://{target.netloc}" if target.scheme and target.netloc else ""


def was_deleted(error: NDSynapseError) -> bool:
    """Tell whether a name is missing because it was deleted: BOSS never gives it away again."""
    cause = error.__cause__
    return isinstance(cause, requests.HTTPError) and reply_of(cause).code == _DELETED


def is_unknown_name(error: BaseException) -> bool:
    """Tell whether a connection failed because nobody knows the name of the host."""
    links = list(_chain(error))
    passing = any(isinstance(link, socket.gaierror) and link.errno == socket.EAI_AGAIN for link in links)
    return not passing and any(isinstance(link, NameResolutionError) for link in links)


def is_untrusted(error: BaseException) -> bool:
    """Tell whether an encrypted connection failed for want of trust: a certificate, or what it is checked against."""
    refused = (ssl.SSLCertVerificationError, CertificateError, UntrustedError)
    return any(
        isinstance(link, refused)
        or (isinstance(link, ssl.SSLError) and getattr(link, "library", None) in _LIBRARIES_OF_TRUST)
        for link in _chain(error)
    )


def is_late(error: BaseException) -> bool:
    """Tell whether a request failed because a limit on its time was over."""
    return any(isinstance(link, TimeoutError | requests.Timeout) for link in _chain(error))


def is_no_http(error: BaseException) -> bool:
    """Tell whether something came that is no answer over HTTP, as far as HTTP was asked for."""
    cut_short = (http.client.RemoteDisconnected, http.client.IncompleteRead)
    return any(
        isinstance(link, http.client.HTTPException) and not isinstance(link, cut_short) for link in _chain(error)
    )


@contextmanager
def translated(requested: str, host: str, token: Token) -> Iterator[None]:
    """Turn what goes wrong in one call of `intern` into one of our errors."""
    try:
        yield
    except NDSynapseError:
        raise
    except _FOREIGN as error:
        try:
            _scrub(error, token)
            ours = _translate(error, requested, host)
        except Exception:  # noqa: BLE001 - whatever an answer holds that nobody thought of
            # what could not be read could not be rid of the token either: it does not go along
            raise _senseless(requested, host) from None
        # What a server says may repeat what it was sent.
        raise type(ours)(*(redact(part, token) for part in (ours.requested, ours.found, ours.remedy))) from error


def _translate(error: Exception, requested: str, host: str) -> NDSynapseError:
    """Choose the error of ours for one of `requests` or `intern`."""
    if isinstance(error, HTTPErrorList):
        return (
            _translate(error.http_errors[0], requested, host)
            if error.http_errors
            else _no_answer(error, requested, host)
        )
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _refusal(reply_of(error), requested, host)
    if isinstance(error, _SENSELESS):
        return _senseless(requested, host)
    return _no_answer(error, requested, host)


def _senseless(requested: str, host: str) -> NDSynapseError:
    """Return the error for an answer of which nothing can be made."""
    return UnavailableError(
        requested, f"{host} answered with something that does not make sense", "Check that --host is a BOSS host"
    )


def _refusal(reply: BossReply, requested: str, host: str) -> NDSynapseError:
    """Choose the error for an HTTP status."""
    says = f"{host} says: {reply.message}" if reply.message else f"{host} answered with HTTP status {reply.status}"
    match reply.status:
        case 401:
            return PermissionDeniedError(requested, f"{host} does not accept the token", _TOKEN_REMEDY)
        case 403:
            return PermissionDeniedError(
                requested, f"the token may not do this; {says}", "Ask the owner for this right"
            )
        case 404 if reply.code == _DELETED:
            return UnknownNameError(
                requested, "it was deleted, and BOSS keeps its name taken", "Use another name, or ask BOSS to purge it"
            )
        case 404 if reply.code is not None:
            return UnknownNameError(requested, f"there is none; {says}", "Check the name")
        case 413:
            return DataError(requested, f"one request was too large; {says}", "Use smaller blocks")
        case 429 if reply.code is None:
            return UnavailableError(
                requested,
                f"{host} takes no more requests for now (HTTP status 429), after the retries",
                "Try again later, with fewer --pulls: what is done stays done",
            )
        case 429:
            return UnavailableError(
                requested,
                f"the quota of this token's user at {host} is used up",
                "BOSS counts by the month: try again later",
            )
        case status if 300 <= status < 400:
            return UsageError(
                requested,
                f"{host} sends its callers on to {reply.location or 'another address'}",
                "Give that as --host",
            )
        case 400 | 409:
            return UsageError(requested, f"it was refused; {says}", "Check names and ranges")
        case status if status >= 500:
            return UnavailableError(requested, f"{says}, after the retries", "Try again later: what is done stays done")
        case _:
            return UnavailableError(requested, f"{says}, and no message of BOSS", "Check that --host is a BOSS host")


def _no_answer(error: Exception, requested: str, host: str) -> NDSynapseError:
    """Choose the error when there is no HTTP answer at all."""
    if is_untrusted(error):
        return UnavailableError(
            requested,
            f"no trusted encrypted connection to {host}",
            "Check --host (http:// for a server without encryption); REQUESTS_CA_BUNDLE names a CA of your own",
        )
    if isinstance(error, requests.exceptions.SSLError):
        return UnavailableError(
            requested,
            f"the encrypted connection to {host} broke, after the retries",
            "Check --host (http:// for a server without encryption), and the line to it; then try again",
        )
    if isinstance(error, OversizedError):
        return UnavailableError(requested, f"{host} {error}", "Check that --host is a BOSS host, and tell its owner")
    if isinstance(error, DamagedError):
        return UnavailableError(
            requested,
            f"{host} answered with something that does not make sense: it {error}, after the retries",
            "Check that --host is a BOSS host, and the line to it; then try again",
        )
    if any(isinstance(link, NameResolutionError) for link in _chain(error)):
        return UnavailableError(requested, f"the name of {host} is not known", "Check --host and the network")
    if is_no_http(error):
        return UnavailableError(
            requested,
            f"what {host} answered is not what HTTP is, after the retries",
            "Check that --host is a BOSS host, and what stands before it; then try again",
        )
    if is_late(error):
        return UnavailableError(requested, f"{host} did not answer in time, after the retries", "Try again later")
    if isinstance(error, requests.ConnectionError):
        return UnavailableError(
            requested, f"{host} cannot be reached, after the retries", "Check --host, and whether the server runs"
        )
    return UnavailableError(
        requested, f"the answer of {host} cannot be read ({type(error).__name__})", "Check that --host is a BOSS host"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it wraps: causes, contexts, and exceptions among the arguments."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop()
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
        waiting += getattr(link, "http_errors", ())


def _scrub(error: BaseException, token: Token) -> None:
    """Remove the token from an exception, so that its traceback can be printed, pickled and inspected."""
    for link in _chain(error):
        link.args = tuple(_redacted(part, token) for part in link.args)
        # the text that was no JSON is among these
        vars(link).update({name: _redacted(value, token) for name, value in vars(link).items()})
        if isinstance(link, UnicodeDecodeError):
            link.object = _redacted(link.object, token)
        response = getattr(link, "response", None)
        if isinstance(response, requests.Response):
            _scrub_answer(response, token)
        for request in (getattr(link, "request", None), getattr(response, "request", None)):
            headers = getattr(request, "headers", None)
            if headers is not None:
                headers.pop("Authorization", None)


def _scrub_answer(response: requests.Response, token: Token) -> None:
    """Remove the token from an answer that may repeat what it was sent, and from what is made of it."""
    vars(response).update(
        _content=_redacted(response.content, token),
        headers=CaseInsensitiveDict({redact(k, token): redact(v, token) for k, v in response.headers.items()}),
        reason=_redacted(response.reason, token),
        raw=None,  # it has been read
        _next=None,  # the request that would follow a redirect
    )
    response.cookies.clear()


def _redacted(value: Any, token: Token) -> Any:
    """Remove the token from what is text or bytes."""
    if isinstance(value, bytes):
        return redact(value.decode("latin-1"), token).encode("latin-1")
    return redact(value, token) if isinstance(value, str) else value
