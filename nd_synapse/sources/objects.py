"""The objects below an address: files of a folder, of a web server, of a bucket in Google's or Amazon's store."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import copy
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree

from nd_synapse.errors import NDSynapseError, PermissionDeniedError, UnavailableError, UnknownNameError, UsageError
from nd_synapse.files.chunked import AT_ONCE, LISTED, Folder, Objects, cut
from nd_synapse.redaction import redacted

if TYPE_CHECKING:
    import requests

    from nd_synapse.sources.google import GoogleCredentials

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
        response = self._request(url, headers)
        if response.status_code in (401, 403):
            raise self._refusal(response)
        if response.status_code not in (200, 206, 404, 410):
            raise UnavailableError(f"reading {url}", _status(response), _REMEDY)
        return response

    def _request(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Return a response of any status."""
        import requests

        try:
            return self._session.get(url, headers=dict(headers), timeout=_LIMITS_S)
        except requests.RequestException as error:
            raise UnavailableError(f"reading {url}", f"no answer ({type(error).__name__})", _REMEDY) from error

    def _refusal(self, response: requests.Response) -> PermissionDeniedError:
        return PermissionDeniedError(f"reading {response.url}", _status(response), _REMEDY)

    def names(self, folder: str) -> list[str]:
        """Refuse: a group has to name its arrays itself."""
        found = "a web server does not list a folder, and no metadata say what is in it"
        raise UsageError(f"{self.url}/{folder}".rstrip("/"), found, "Name one volume in it")

    def versions(self, folder: str) -> Iterator[str]:  # noqa: ARG002 - there is nothing to ask
        """Yield nothing: of each file one would have to ask."""
        yield from ()


def _status(response: requests.Response) -> str:
    """Return the status of a response as a clause; the server chose its words."""
    return redacted(f"the server answered {response.status_code} {response.reason or ''}".rstrip())


class _Google(_Web):
    """The objects below ``gs://BUCKET/PREFIX``, by Google's XML API.

    They are read as everybody may; where that is refused, with the credentials of the user.
    """

    def __init__(self, place: str) -> None:
        from nd_synapse.responses import unsigned

        # the variable is that of Google's own clients
        server = os.environ.get("STORAGE_EMULATOR_HOST", _GOOGLE).rstrip("/")
        bucket, _, self._prefix = place.removeprefix("gs://").partition("/")
        self._bucket = f"{server}/{bucket}"
        super().__init__(f"{self._bucket}/{quote(self._prefix)}")
        self._session.auth = unsigned
        self._lock = threading.Lock()
        self._signer: GoogleCredentials | None = None
        self._unsigned: NDSynapseError | None = None
        """Why there is no signer: looking for credentials again may take seconds."""

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        response = super()._get(url, headers)
        if response.status_code == 404 and b"NoSuchBucket" in response.content:
            found = f"there is no bucket {self._bucket.rpartition('/')[2]}"
            raise UnknownNameError(f"reading {url}", found, "Check the name of the bucket")
        return response

    def _request(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        response = super()._request(url, headers)
        signed = "Authorization" in response.request.headers
        if response.status_code == 401 or (response.status_code == 403 and not signed):
            self._sign(response)
            response = super()._request(url, headers)
        return response

    def _sign(self, response: requests.Response) -> None:
        """Let requests be signed from now on, or with another token where they were; raises without credentials."""
        with self._lock:
            if self._unsigned is not None:
                raise copy(self._unsigned)  # each thread its own
            if self._signer is None:
                from nd_synapse.sources.google import GoogleCredentials  # google-auth is optional

                try:
                    self._session.auth = self._signer = GoogleCredentials(self._refusal(response), _LIMITS_S)
                except NDSynapseError as error:
                    self._unsigned = error
                    raise
        self._signer.renew(response)

    def _refusal(self, response: requests.Response) -> PermissionDeniedError:
        if self._signer is None:
            return super()._refusal(response)
        found = f"{_status(response)} to {self._signer.account}"
        remedy = "Check the address; the account needs the role Storage Object Viewer for the bucket"
        return PermissionDeniedError(f"reading {response.url}", found, remedy)

    def names(self, folder: str) -> list[str]:
        """Return the names of objects and folders right below a folder, "" being the prefix itself."""
        start, names = self._start(folder), []
        for page in self._pages(f"delimiter=/&prefix={quote(start)}"):
            found = [*page.iterfind("{*}Contents/{*}Key"), *page.iterfind("{*}CommonPrefixes/{*}Prefix")]
            names += [(one.text or "").removeprefix(start).rstrip("/") for one in found]
        return sorted(filter(None, names))

    def versions(self, folder: str) -> Iterator[str]:
        """Yield the names and digests of the first objects below a folder; none where they are not listed for us."""
        with suppress(PermissionDeniedError):
            for page in islice(self._pages(f"prefix={quote(self._start(folder))}"), LISTED):
                for one in page.iterfind("{*}Contents"):
                    yield f"{one.findtext('{*}Key')} {one.findtext('{*}ETag')}"

    def _start(self, folder: str) -> str:
        return f"{self._prefix}/{folder}/" if folder else f"{self._prefix}/"

    def _pages(self, query: str) -> Iterator[ElementTree.Element]:
        """Yield the pages of a list."""
        marker: str | None = ""
        while marker is not None:
            body = self._get(f"{self._bucket}?{query}&marker={quote(marker)}", {}).content
            page = ElementTree.fromstring(body)  # noqa: S314 # expat limits the expansion
            yield page
            marker = None
            if page.findtext("{*}IsTruncated") == "true":
                # without a delimiter there is no NextMarker: the last key takes its place
                keys = [one.text for one in page.iterfind("{*}Contents/{*}Key")]
                marker = page.findtext("{*}NextMarker") or (keys[-1] if keys else None)
