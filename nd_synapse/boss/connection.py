"""The one place that opens a connection to BOSS, and makes calls over it.

It does not know what is read or written over it. Errors are translated in `boss.errors`; time limits and retries are in
`boss.transport`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import requests
from intern.remote.boss import BossRemote
from intern.resource.boss.resource import ChannelResource, CollectionResource, ExperimentResource

from nd_synapse.boss.address import Address, address_of, is_loopback
from nd_synapse.boss.errors import translated
from nd_synapse.boss.transport import BossAdapter, Patience
from nd_synapse.credentials import Token
from nd_synapse.errors import UsageError, called

__all__ = [
    "Patience",
    "call",
    "connect",
    "create_boss_remote",
    "describe_resource",
    "patience_of",
    "send",
    "token_of",
    "url_for",
]

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_FIELDS: dict[type, dict[str, type]] = {
    CollectionResource: {"experiments": list},
    ExperimentResource: {"channels": list, "coord_frame": str},
    ChannelResource: {"type": str, "datatype": str},
}
"""Fields of a description that we use, and their types."""


def connect(host: str, token: Token | str, *, patience: Patience | None = None) -> BossRemote:
    """Open a connection to BOSS; nothing is sent yet."""
    address = address_of(host)
    token = Token.of(token)
    if address.protocol == "http" and token.is_secret and not is_loopback(address):
        log.warning("%s is not encrypted: others on the network can read the token", address)
    # The adapter adds the token: the client itself, whose values print and pickle, never has it.
    remote = BossRemote({"protocol": address.protocol, "host": address.host, "token": Token.PUBLIC})
    proxies = _proxies(address)
    for service in (remote.project_service, remote.metadata_service, remote.volume_service):
        # requests would replace the token by what ~/.netrc has for the host. REQUESTS_CA_BUNDLE is read by now, and
        # proxies are given with each request.
        service.session.trust_env = False
        # Following a redirect would turn a POST into a GET, and send token and voxels to another host.
        service.session_send_opts = {**service.session_send_opts, "proxies": proxies, "allow_redirects": False}
        adapter = BossAdapter(patience or Patience(), token)
        service.session.mount("https://", adapter)
        service.session.mount("http://", adapter)
    return remote


def _proxies(address: Address) -> dict[str, str]:
    """Return the proxies that the environment names for a host; what stays on this machine needs none."""
    if is_loopback(address):
        return {}
    proxies: dict[str, str] = requests.utils.get_environ_proxies(address.url)
    chosen = requests.utils.select_proxy(address.url, proxies)
    if chosen is None:
        return {}
    scheme, name = chosen.partition("://")[0].lower() if "://" in chosen else "http", chosen.rpartition("@")[2]
    if scheme not in ("http", "https"):
        remedy = "Set HTTPS_PROXY (HTTP_PROXY for an http:// host) to an http:// proxy, or name the host in NO_PROXY"
        raise UsageError(f"the proxy {name} for {address}", "it is not of the kind http:// or https://", remedy)
    log.debug("%s is reached through the proxy %s", address, name)
    return proxies


@called()
def create_boss_remote(config_dict: object) -> BossRemote:
    """Return a client of `intern` with time limits and retries, as the historical function did.

    Parameters
    ----------
    config_dict : mapping
        ``host`` and ``token``, and ``protocol``, https by default.

    Returns
    -------
    BossRemote
        The client; nothing is sent yet.

    Raises
    ------
    UsageError
        If a value is missing or invalid.
    """
    if not isinstance(config_dict, Mapping):
        found = f"its type is {type(config_dict).__name__}"
        raise UsageError("a connection to BOSS", found, "Give a dictionary with host and token")
    missing = [key for key in ("host", "token") if key not in config_dict]
    if missing:
        raise UsageError("a connection to BOSS", f"there is no {' and no '.join(missing)}", "Give host and token")
    host = config_dict["host"]
    if isinstance(host, str) and "://" not in host:
        host = f"{config_dict.get('protocol', 'https')}://{host}"
    return connect(host, config_dict["token"])


def url_for(remote: BossRemote) -> str:
    """Return the URL of a connection's host, without a slash at its end."""
    return str(remote.project_service.url_prefix)


def token_of(remote: BossRemote) -> Token:
    """Return the token of a connection."""
    adapter = remote.project_service.session.get_adapter(url_for(remote))
    # a client that `connect` did not make has the token itself
    return adapter.token if isinstance(adapter, BossAdapter) else Token(remote.token_project)


def patience_of(remote: BossRemote) -> Patience:
    """Return the time limits and retries of a connection."""
    adapter = remote.project_service.session.get_adapter(url_for(remote))
    return adapter.patience if isinstance(adapter, BossAdapter) else Patience()


def call(remote: BossRemote, requested: str, function: Callable[[], _Result]) -> _Result:
    """Make one call of `intern`, its errors translated."""
    with translated(requested, url_for(remote), token_of(remote)):
        return function()


def send(service: Any, request: requests.Request, expected_status: int = 200) -> requests.Response:
    """Send a request of one of `intern`'s services; raise requests.HTTPError for any other status."""
    response: requests.Response = service.session.send(
        service.session.prepare_request(request), **service.session_send_opts
    )
    if response.status_code != expected_status:
        raise requests.HTTPError(f"HTTP status {response.status_code}", response=response)
    return response


def describe_resource(remote: BossRemote, requested: str, resource: Any) -> Mapping[str, Any]:
    """Ask BOSS for the description of a collection, coordinate frame, experiment or channel.

    `intern` builds the request, but its reader refuses valid replies: an experiment without a time unit, a channel of a
    type that it does not know.
    """
    service = remote.project_service
    with translated(requested, url_for(remote), token_of(remote)):
        request = service.service.get_request(resource, "GET", "application/json", service.url_prefix, service.auth)
        fields = send(service, request).json()
        # A host that answers every request with 200 is not BOSS; some of its databases ignore case.
        if str(fields["name"]).lower() != resource.name.lower():
            raise ValueError("the reply describes something else")
        for field, kind in _FIELDS.get(type(resource), {}).items():
            value: Any = fields[field]
            names = value if kind is list else []
            if not isinstance(value, kind) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"{field} is {type(value).__name__}")
        return dict(fields)
