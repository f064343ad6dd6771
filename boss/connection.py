"""The one place that opens a connection to BOSS: host, time-outs, retries.

It does not know what is read or written over it, and translates no error: see `boss.translation`.

`intern` has no time-out and no retry. Both are added here, under its sessions, so that every call has them:

- transient, and tried again: no connection, no answer in time, an answer cut short, status 500, 502, 503, 504;
- never tried again: every other status (429 is a monthly quota), a certificate that is not trusted;
- POST and PUT too: writing the same voxels twice gives the same voxels, and a resource that the first attempt created
  is found when the second one is refused.
"""

from __future__ import annotations

import io
import ipaddress
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from intern.remote.boss import BossRemote
from requests.adapters import HTTPAdapter

from boss.translation import translated
from credentials import Token
from errors import UsageError

__all__ = ["Address", "Patience", "address_of", "call", "connect", "describe_resource", "token_of", "url_of"]

log = logging.getLogger(__name__)

# 500 is among them because BOSS answers so while a cuboid is being written; also, alas, to a bad token on a cutout.
_TRANSIENT_STATUS = frozenset({500, 502, 503, 504})
_READ_BYTES = 1 << 20

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, and how often it is tried.

    Parameters
    ----------
    connect_s : float
        Limit to open a connection, and to send the body of a request: a mask of a whole block compresses to a few MB.
    read_s : float
        Longest silence while an answer is awaited or read.
    total_s : float
        Limit of one request, with all attempts and the pauses between them: none begins or goes on reading after it.
    attempts : int
        Largest number of attempts.
    pause_s : float
        Upper bound of the first pause; it doubles from pause to pause, and the pause is drawn evenly below it.
    longest_pause_s : float
        What the bound grows to at most.
    """

    connect_s: float = 20.0
    read_s: float = 120.0
    total_s: float = 900.0
    attempts: int = 5
    pause_s: float = 1.0
    longest_pause_s: float = 30.0

    def pause_before(self, attempt: int, chance: float) -> float:
        """Return how long to wait before an attempt.

        Parameters
        ----------
        attempt : int
            Its number; the second is 2.
        chance : float
            A random number in [0, 1).

        Returns
        -------
        float
            The pause in seconds.
        """
        bound: float = min(self.longest_pause_s, self.pause_s * 2.0 ** (attempt - 2))
        return bound * chance


@dataclass(frozen=True, slots=True)
class Address:
    """Where BOSS answers.

    Parameters
    ----------
    protocol : str
        ``https`` or ``http``.
    host : str
        Host name, with the port if it is not the usual one.
    """

    protocol: str
    host: str

    @property
    def url(self) -> str:
        """The address as a URL without a slash at its end."""
        return f"{self.protocol}://{self.host}"

    def __str__(self) -> str:
        """Return the URL."""
        return self.url


def address_of(host: str) -> Address:
    """Read what the user gave as the host.

    Parameters
    ----------
    host : str
        A host name, with a port or not (https is meant), or a URL with http or https and nothing after the host.

    Returns
    -------
    Address
        Where BOSS answers.

    Raises
    ------
    UsageError
        If it is neither.
    """
    # What stands before an @ may be a password; no message repeats it.
    asked = f"host {host.rpartition('@')[2]!r}"
    remedy = "Give a name such as api.bossdb.io, or a URL such as http://127.0.0.1:8080"
    if re.search(r"[\s\\%]", host) or not host.isprintable():
        raise UsageError(asked, "it has characters that no host has", remedy)
    try:
        parts = urlsplit(host if "://" in host else f"https://{host}")
        port = parts.port
    except ValueError as error:
        raise UsageError(asked, "it is neither a host name nor a URL", remedy) from error
    if parts.scheme not in {"http", "https"}:
        raise UsageError(asked, f"{parts.scheme}:// is not http:// or https://", remedy)
    if "@" in parts.netloc:
        raise UsageError(asked, "it has a user name in it", "Give the token with --token-file or BOSS_TOKEN instead")
    name = parts.hostname
    if not name or not _is_host(name):
        raise UsageError(asked, "it has no valid host name", remedy)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise UsageError(asked, "it has more than a host in it", remedy)
    shown = f"[{name}]" if ":" in name else name
    return Address(parts.scheme, shown if port is None else f"{shown}:{port}")


def _is_host(name: str) -> bool:
    """Tell whether a text is a host name or an IP address."""
    if ":" in name:
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            return False
        return True
    label = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    return len(name) <= 253 and re.fullmatch(rf"{label}(\.{label})*\.?", name.lower()) is not None


class RetryingAdapter(HTTPAdapter):
    """Sends a request of `requests`, again when it failed for a reason that passes.

    The whole answer is read here, so that one that stops half-way is asked for again, too.

    Parameters
    ----------
    patience : Patience
        The limits.
    clock, sleep, chance : callable
        Seconds that only grow; a pause of so many seconds; a random number in [0, 1).
    """

    def __init__(
        self,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(max_retries=0)
        self.patience = patience
        self._clock = clock
        self._sleep = sleep
        self._chance = chance

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, with the time-outs of `patience`, whatever the session asks for.

        Parameters
        ----------
        request : requests.PreparedRequest
            The request; its body is bytes, so that it can be sent again.
        *args, **kwargs
            What `HTTPAdapter.send` takes.

        Returns
        -------
        requests.Response
            The answer, read to its end; of whatever status after the last attempt.

        Raises
        ------
        requests.RequestException
            That of the last attempt.
        """
        deadline = self._clock() + self.patience.total_s
        options = {**kwargs, "timeout": (self.patience.connect_s, self.patience.read_s), "stream": True}
        for attempt in range(1, self.patience.attempts + 1):
            pause = self.patience.pause_before(attempt + 1, self._chance())
            last = attempt == self.patience.attempts or self._clock() + pause >= deadline
            try:
                response = super().send(request, *args, **options)
                self._read(response, deadline)
            except requests.exceptions.SSLError:
                raise
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                if last or self._clock() >= deadline:
                    raise
                reason = _reason(error)
            else:
                if last or response.status_code not in _TRANSIENT_STATUS:
                    return response
                reason = f"HTTP status {response.status_code}"
            log.warning("%s %s: %s; trying again in %.1f s", request.method, _place(request), reason, pause)
            self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _read(self, response: requests.Response, deadline: float) -> None:
        """Read the body within the deadline: a time-out of the socket alone lets a byte a minute go on for ever."""
        pieces: list[bytes] = []
        try:
            while piece := response.raw.read1(_READ_BYTES, decode_content=True):
                pieces.append(piece)
                if self._clock() > deadline:
                    raise requests.ReadTimeout("the answer takes longer than the limit of a request")
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ChunkedEncodingError(error) from error
        finally:
            response.raw.close()
        # requests reads a response from any file; this one is complete.
        response.raw = io.BytesIO(b"".join(pieces))


def _reason(error: requests.RequestException) -> str:
    """Say in a few words why an attempt failed."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "an answer cut short" if isinstance(error, requests.exceptions.ChunkedEncodingError) else "no connection"


def _place(request: requests.PreparedRequest) -> str:
    """Name the target of a request for the log: its path has the names and ranges, and never the token."""
    parts = urlsplit(request.url or "")
    return f"{parts.netloc}{parts.path}"


def connect(host: str, token: Token | str, *, patience: Patience | None = None) -> BossRemote:
    """Open a connection to BOSS; nothing is sent yet.

    Parameters
    ----------
    host : str
        See `address_of`.
    token : Token or str
        The token.
    patience : Patience, optional
        Time-outs and retries.

    Returns
    -------
    BossRemote
        The client of `intern`, with time-outs and retries. One process uses it; a forked child opens its own.

    Raises
    ------
    UsageError
        If host or token are malformed.
    """
    address = address_of(host)
    token = Token.of(token)
    if address.protocol == "http" and token.is_secret and not _is_loopback(address):
        log.warning("%s is not encrypted: whoever is on the way can read the token", address)
    # intern passes its settings through ConfigParser, where a % means something: the token goes in afterwards.
    remote = BossRemote({"protocol": address.protocol, "host": address.host, "token": Token.PUBLIC})
    remote.token_project = remote.token_metadata = remote.token_volume = token.reveal()
    for service in (remote.project_service, remote.metadata_service, remote.volume_service):
        # requests would replace the token by what ~/.netrc has for the host. REQUESTS_CA_BUNDLE is read by now.
        service.session.trust_env = False
        # Following a redirect would turn a POST into a GET, and take voxels to a host that nobody asked for.
        service.session_send_opts = {**service.session_send_opts, "allow_redirects": False}
        adapter = RetryingAdapter(patience or Patience())
        service.session.mount("https://", adapter)
        service.session.mount("http://", adapter)
    return remote


def _is_loopback(address: Address) -> bool:
    """Tell whether an address stays on this machine."""
    name = urlsplit(address.url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def url_of(remote: BossRemote) -> str:
    """Return the URL of a connection's host, without a slash at its end."""
    return str(remote.project_service.url_prefix)


def token_of(remote: BossRemote) -> Token:
    """Return the token of a connection."""
    return Token(remote.token_project)


def call(remote: BossRemote, asked: str, function: Callable[[], _Result]) -> _Result:
    """Make one call of `intern`, its errors translated.

    Parameters
    ----------
    remote : BossRemote
        The connection that the call uses.
    asked : str
        What the call is for: the first part of the message if it fails.
    function : callable
        The call.

    Returns
    -------
    object
        What the call returns.

    Raises
    ------
    NDSynapseError
        See `boss.translation`.
    """
    with translated(asked, url_of(remote), token_of(remote)):
        return function()


def describe_resource(remote: BossRemote, asked: str, resource: Any) -> Mapping[str, Any]:
    """Ask BOSS for the description of a collection, coordinate frame, experiment or channel.

    `intern` builds and sends the request, but its reader refuses what BOSS may well answer: an experiment whose time
    unit was never set, a channel of a type that it does not know.

    Parameters
    ----------
    remote : BossRemote
        The connection.
    asked : str
        What is asked for, for the message.
    resource : BossResource
        A resource of `intern` with its names.

    Returns
    -------
    mapping
        The fields of BOSS's reply.

    Raises
    ------
    NDSynapseError
        See `boss.translation`; `UnknownNameError` if there is none.
    """
    service = remote.project_service
    with translated(asked, url_of(remote), token_of(remote)):
        request = service.service.get_request(resource, "GET", "application/json", service.url_prefix, service.auth)
        response = service.session.send(service.session.prepare_request(request), **service.session_send_opts)
        if response.status_code != 200:
            raise requests.HTTPError(f"HTTP status {response.status_code}", response=response)
        fields = response.json()
        # A host that answers everything with 200 is no BOSS; upper and lower case are one to some of its databases.
        if str(fields["name"]).lower() != resource.name.lower():
            raise ValueError("the reply describes something else")
        return dict(fields)
