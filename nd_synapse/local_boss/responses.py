"""What BOSS answers: its error codes, the exception that carries one, and how each looks on the wire.

It does not decide when an error is due; the catalog, the checks and the routes do.
"""

from __future__ import annotations

import base64
import hashlib
from enum import IntEnum

from starlette.responses import HTMLResponse, JSONResponse, Response

__all__ = ["BossError", "Code", "MissingError", "digest", "field_error", "refusal", "unauthorized", "web_page"]


class Code(IntEnum):
    """The numbers by which BOSS names its errors, as far as this server uses them."""

    INVALID_URL = 1000
    INVALID_CUTOUT_ARGS = 1001
    TYPE_ERROR = 1002
    INVALID_POST_ARGUMENT = 1003
    INVALID_ARGUMENT = 1005
    REQUEST_TOO_LARGE = 2000
    DATATYPE_DOES_NOT_MATCH = 2001
    DATA_DIMENSION_MISMATCH = 2002
    DATATYPE_NOT_SUPPORTED = 2003
    MISSING_ROLE = 3000
    MISSING_PERMISSION = 3001
    RESOURCE_NOT_FOUND = 4000
    INTEGRITY_ERROR = 4003
    OBJECT_NOT_FOUND = 4004
    MARKED_FOR_DELETION = 4005
    BOSS_SYSTEM_ERROR = 9001
    UNSUPPORTED_VERSION = 9003


class BossError(Exception):
    """A refusal in the words of BOSS.

    Parameters
    ----------
    status : int
        HTTP status.
    code : int
        One of `Code`.
    message : str
        What is wrong.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = int(code)
        self.message = message

    def __str__(self) -> str:
        """Return the refusal as one line."""
        return f"{self.message} (HTTP {self.status}, code {self.code})"


class MissingError(BossError):
    """A resource that does not exist; cutouts and resources word this differently.

    Parameters
    ----------
    kind : str
        Such as ``"Channel"``.
    name : str
        The name that was asked for.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(404, Code.RESOURCE_NOT_FOUND, f"{name} does not exist.")
        self.args = (kind, name)
        self.kind = kind
        self.name = name

    def for_data(self) -> BossError:
        """Return the same refusal as cutouts and metadata word it."""
        return BossError(404, Code.RESOURCE_NOT_FOUND, f"{self.kind} {self.name} not found")


def field_error(field: str, text: str, code: str = "invalid") -> BossError:
    """Return the refusal of one field of a request body, in the shape that BOSS gives it."""
    message = f"{{'{field}': [ErrorDetail(string={text!r}, code={code!r})]}}"
    return BossError(400, Code.INVALID_POST_ARGUMENT, message)


def digest(body: bytes) -> str:
    """Return what the header Content-Digest says of a body (RFC 9530, 2024)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def refusal(error: BossError) -> Response:
    """Return the JSON reply of a refusal."""
    body = {"status": error.status, "code": error.code, "message": error.message}
    return JSONResponse(body, status_code=error.status)


def unauthorized(detail: str) -> Response:
    """Return the reply to a request without a valid token."""
    return JSONResponse({"detail": detail}, status_code=401, headers={"WWW-Authenticate": "Token"})


def web_page(status: int, title: str) -> Response:
    """Return an error as a page of HTML, as proxies and unhandled faults of BOSS give it."""
    return HTMLResponse(f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n", status)
