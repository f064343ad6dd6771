"""The objects below an address: files of a folder, of a web server, of a bucket in Google's or Amazon's store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree

from nd_synapse.errors import PermissionDeniedError, UnavailableError, UnknownNameError, UsageError
from nd_synapse.files.chunked import AT_ONCE, Folder, Objects, cut

if TYPE_CHECKING:
    import requests

__all__ = ["objects_at"]

_LIMITS_S = (10, 60)
"""Limits of a request: to connect, and between two pieces of a response."""
_BUSY = (429, 500, 502, 503, 504)
_REMEDY = "Check the address, and your right to read there"
_GOOGLE = "https://storage.googleapis.com"


def objects_at(place: str) -> Objects:
    """Return what reads below a path or URL."""
    if "://" not in place:
        return Folder(Path(place))
    if place.startswith("s3://"):
        from nd_synapse.aws import objects  # boto3 is imported only where it is used

        return objects.Objects(place)
    return _Google(place) if place.startswith("gs://") else _Web(place)


class _Web:
    """The files below a URL; a web server has no lists of them."""

    def __init__(self, url: str) -> None:
        import requests  # they are imported only where there is a web server
        import urllib3

        from nd_synapse.responses import WholeAdapter

        self.url = url
        self._session = requests.Session()
        retries = urllib3.Retry(4, connect=2, status_forcelist=_BUSY, backoff_factor=0.5, raise_on_status=False)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, WholeAdapter(pool_maxsize=AT_ONCE, max_retries=retries))

    def read(self, key: str, range_header: str | None = None) -> bytes | None:
        """Return a file, or a part of it by a header such as ``bytes=0-9``; None if there is none."""
        # with a coding of its own a server would change the bytes that a range counts
        headers = {"Accept-Encoding": "identity"} | ({} if range_header is None else {"Range": range_header})
        response = self._get(f"{self.url}/{key}", headers)
        if response.status_code in (404, 410):
            return None
        body = response.content
        # some servers know no ranges, and send the whole
        return body if response.status_code == 206 else cut(body, range_header)

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Return a response of success, or one that there is nothing."""
        import requests

        try:
            response = self._session.get(url, headers=dict(headers), timeout=_LIMITS_S)
        except requests.RequestException as error:
            raise UnavailableError(f"reading {url}", f"no answer ({type(error).__name__})", _REMEDY) from error
        found = f"the server answered {response.status_code} {response.reason or ''}".rstrip()
        if response.status_code in (401, 403):
            raise PermissionDeniedError(f"reading {url}", found, _REMEDY)
        if response.status_code not in (200, 206, 404, 410):
            raise UnavailableError(f"reading {url}", found, _REMEDY)
        return response

    def names(self, folder: str) -> list[str]:
        """Refuse: a group has to name its arrays itself."""
        found = "a web server does not list a folder, and no metadata say what is in it"
        raise UsageError(f"{self.url}/{folder}".rstrip("/"), found, "Name one volume in it")


class _Google(_Web):
    """The objects below ``gs://BUCKET/PREFIX``, of a bucket that everybody may read; by its XML API."""

    def __init__(self, place: str) -> None:
        # the variable is that of Google's own clients
        server = os.environ.get("STORAGE_EMULATOR_HOST", _GOOGLE).rstrip("/")
        bucket, _, self._prefix = place.removeprefix("gs://").partition("/")
        self._bucket = f"{server}/{bucket}"
        super().__init__(f"{self._bucket}/{quote(self._prefix)}")

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        response = super()._get(url, headers)
        if response.status_code == 404 and b"NoSuchBucket" in response.content:
            found = f"there is no bucket {self._bucket.rpartition('/')[2]}"
            raise UnknownNameError(f"reading {url}", found, "Check the name of the bucket")
        return response

    def names(self, folder: str) -> list[str]:
        """Return the names of objects and folders right below a folder, "" being the prefix itself."""
        start = f"{self._prefix}/{folder}/" if folder else f"{self._prefix}/"
        names: list[str] = []
        marker: str | None = ""
        while marker is not None:
            query = f"{self._bucket}?delimiter=/&prefix={quote(start)}&marker={quote(marker)}"
            page = ElementTree.fromstring(self._get(query, {}).content)  # noqa: S314 # expat limits the expansion
            found = [*page.iterfind("{*}Contents/{*}Key"), *page.iterfind("{*}CommonPrefixes/{*}Prefix")]
            names += [(one.text or "").removeprefix(start).rstrip("/") for one in found]
            marker = page.findtext("{*}NextMarker") if page.findtext("{*}IsTruncated") == "true" else None
        return sorted(filter(None, names))
