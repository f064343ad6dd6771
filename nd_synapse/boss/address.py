"""Where BOSS answers: a host name or a URL, read and checked. It opens no connection."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from nd_synapse.errors import UsageError

__all__ = ["DEFAULT_HOST", "Address", "address_of", "is_loopback", "volume_of_uri"]

# The host of the historical program, api.boss.neurodata.io, is no more; this is where BOSS is served today.
DEFAULT_HOST = "api.bossdb.io"


@dataclass(frozen=True, slots=True)
class Address:
    """Where BOSS answers."""

    protocol: str
    """``https`` or ``http``."""
    host: str
    """Host name, with the port if it is not the usual one."""

    @property
    def url(self) -> str:
        """The address as a URL without a slash at its end."""
        return f"{self.protocol}://{self.host}"

    def __str__(self) -> str:
        """Return the URL."""
        return self.url


def address_of(host: str) -> Address:
    """Parse a host name, or a URL without a path."""
    remedy = "Give a name such as api.bossdb.io, or a URL such as http://127.0.0.1:8080"
    if not isinstance(host, str):
        raise UsageError(f"a host of the type {type(host).__name__}", "it is not text", remedy)
    # The part before an @ may be a password; no message repeats it.
    requested = f"host {host.rpartition('@')[2]!r}"
    if re.search(r"[\s\\%]", host) or not host.isprintable():
        raise UsageError(requested, "it has characters that a host name cannot have", remedy)
    try:
        parts = urlsplit(host if "://" in host else f"https://{host}")
        port = parts.port
    except ValueError as error:
        raise UsageError(requested, "it is neither a host name nor a URL", remedy) from error
    if parts.scheme not in {"http", "https"}:
        raise UsageError(requested, f"{parts.scheme}:// is not http:// or https://", remedy)
    if "@" in parts.netloc:
        raise UsageError(
            requested, "it has a user name in it", "Give the token with --token-file or BOSS_TOKEN instead"
        )
    name = parts.hostname
    if not name or not _is_host(name):
        raise UsageError(requested, "it has no valid host name", remedy)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise UsageError(requested, "it has more than a host in it", remedy)
    shown = f"[{name}]" if ":" in name else name
    return Address(parts.scheme, shown if port is None else f"{shown}:{port}")


def _is_host(name: str) -> bool:
    """Return whether a text is a host name or an IP address."""
    if ":" in name:
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            return False
        return True
    label = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    return len(name) <= 253 and re.fullmatch(rf"{label}(\.{label})*\.?", name.lower()) is not None


def volume_of_uri(uri: str) -> tuple[str, str, str] | None:
    """Return host, collection and experiment of ``boss://HOST/COL/EXP`` or ``bossdb://COL/EXP``; None for others."""
    if not uri.startswith(("boss://", "bossdb://")):
        return None
    # bossdb:// means BossDB, where the historical URIs of intern lead
    whole = f"boss://{DEFAULT_HOST}/{uri[9:]}" if uri.startswith("bossdb://") else uri
    form = re.fullmatch(r"boss://((?:https?://)?[^/]+)/([^/]+)/([^/]+)/?", whole)
    if form is None:
        found = "it is not of the form boss://HOST/COL/EXP or bossdb://COL/EXP"
        raise UsageError(f"--source {uri.rpartition('@')[2]}", found, "Write it so; HOST may begin with http://")
    return form[1], form[2], form[3]


def is_loopback(address: Address) -> bool:
    """Return whether an address stays on this machine."""
    name = urlsplit(address.url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
