"""The application default credentials of Google, found and renewed by google-auth; `objects` reads with them."""

from __future__ import annotations

import os
import threading
import warnings
from functools import partial
from typing import Any, cast

import requests
import urllib3
from requests.auth import AuthBase

from nd_synapse.errors import NDSynapseError, PermissionDeniedError, UnavailableError, UsageError
from nd_synapse.redaction import hide, redacted, secrets_among
from nd_synapse.responses import WholeAdapter, unsigned
from nd_synapse.text import one_line, shortened

__all__ = ["GoogleCredentials"]

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)
_REASON = 300
"""Characters of a reason that are shown."""
_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_LOG_IN = f"gcloud auth application-default login, or the path of a key in {_VARIABLE}"
_REMEDY = f"Log in: {_LOG_IN}"


class GoogleCredentials(AuthBase):
    """Signs requests with a token, and gets another one before it expires.

    `refused` is why they are needed, and is part of the error where there are none. Errors have no cause: those of
    google-auth hold what was sent and received, secrets among them.
    """

    def __init__(self, refused: NDSynapseError, limits_s: tuple[float, float]) -> None:
        self._lock = threading.Lock()
        self._refused = refused
        try:
            import google.auth
            from google.auth.transport.requests import Request
        except ImportError:
            found = f"{refused.found}, and google-auth, which finds credentials, is not installed"
            remedy = f"Install it (pip install 'nd-synapse[gcs]'), and log in ({_LOG_IN})"
            raise PermissionDeniedError(refused.requested, found, remedy) from None
        if "{" in os.environ.get(_VARIABLE, ""):
            raise UsageError(_VARIABLE, "it holds no path", "Save the key in a file, and give its path")
        session = requests.Session()
        session.auth = unsigned
        # google-auth itself repeats what a busy server refuses
        retries = urllib3.Retry(3, connect=1, backoff_factor=0.5, allowed_methods=None, raise_on_status=False)
        for scheme in ("https://", "http://"):
            session.mount(scheme, WholeAdapter(max_retries=retries))
        # its own limit is two minutes without a byte
        self._request = cast("Any", partial(Request(session), timeout=limits_s))
        failed: Exception | None = None
        try:
            with warnings.catch_warnings():  # google-auth does so itself, and warns of quotas that storage has not
                warnings.simplefilter("ignore")
                self._credentials: Any = google.auth.default(_SCOPES, self._request)[0]
        except Exception as error:  # noqa: BLE001 - a file that is no key raises whatever its content leads to
            failed = error
        if failed is not None:
            raise self._translated(failed)
        hide(*secrets_among(getattr(self._credentials, name, None) for name in ("refresh_token", "client_secret")))
        self._renew()

    @property
    def account(self) -> str:
        """What the credentials are called in messages."""
        named = (getattr(self._credentials, name, "") for name in ("service_account_email", "account"))
        return next(filter(None, named), "the account of the application default credentials")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        with self._lock:
            if not self._credentials.valid:
                self._renew()
            self._credentials.apply(request.headers)
        return request

    def renew(self, response: requests.Response) -> None:
        """Get another token than the one that a response refused, if no other thread has done so."""
        with self._lock:
            if response.request.headers.get("Authorization") == f"Bearer {self._credentials.token}":
                self._renew()

    def _renew(self) -> None:
        """Get a token, which no text shows from now on."""
        failed: Exception | None = None
        try:
            self._credentials.refresh(self._request)
        except Exception as error:  # noqa: BLE001 - so does a response that is no token
            failed = error
        if failed is not None:
            raise self._translated(failed)
        hide(*secrets_among([self._credentials.token]))

    def _translated(self, error: Exception) -> NDSynapseError:
        """Return an error of google-auth as one of ours."""
        from google.auth import exceptions

        requested = self._refused.requested
        if isinstance(error, exceptions.TransportError) or getattr(error, "retryable", False):
            return UnavailableError(requested, "no answer from the server of Google's tokens", "Try again later")
        said = shortened(one_line(redacted(_reason(error))), _REASON).rstrip(". ")
        if "default credentials were not found" in said:
            return PermissionDeniedError(requested, f"{self._refused.found}, and there are no credentials", _REMEDY)
        return PermissionDeniedError(requested, f"the credentials of Google give no token ({said})", _REMEDY)


def _reason(error: Exception) -> str:
    """Return what an error says, without what google-auth received: that may repeat what was sent."""
    from google.auth.exceptions import GoogleAuthError

    if not isinstance(error, GoogleAuthError):
        return f"{type(error).__name__}: {error}"
    return ": ".join(str(part) for part in error.args if isinstance(part, str | Exception))
