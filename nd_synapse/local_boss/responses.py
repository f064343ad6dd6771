"""Error responses of BOSS: its codes, the exception that carries one, and the replies."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from enum import IntEnum

from starlette.responses import HTMLResponse, JSONResponse, Response

__all__ = ["BossError", "Code", "MissingError", "detail", "digest", "field_error", "refusal", "web_page"]


class Code(IntEnum):
    """The error codes of BOSS that this server uses."""

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
    UNHANDLED_EXCEPTION = 9002
    UNSUPPORTED_VERSION = 9003


class BossError(Exception):
    """An error of BOSS: HTTP status, one of `Code`, and a message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = int(code)
        self.message = message

    def __str__(self) -> str:
        """Return the error as one line."""
        return f"{self.message} (HTTP {self.status}, code {self.code})"


class MissingError(BossError):
    """A resource that does not exist; `kind` is such as ``"Channel"``."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(404, Code.RESOURCE_NOT_FOUND, f"{name} does not exist.")
        self.args = (kind, name)
        self.kind = kind
        self.name = name

    def for_data(self) -> BossError:
        """Return the same error in the words of cutouts and metadata."""
        return BossError(404, Code.RESOURCE_NOT_FOUND, f"{self.kind} {self.name} not found")


def field_error(field: str, text: str, code: str = "invalid") -> BossError:
    """Return the error of one field of a request body, formatted as BOSS does."""
    message = f"{{'{field}': [ErrorDetail(string={text!r}, code={code!r})]}}"
    return BossError(400, Code.INVALID_POST_ARGUMENT, message)


def digest(body: bytes) -> str:
    """Return the header Content-Digest of a body (RFC 9530, 2024)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def refusal(error: BossError) -> Response:
    """Return the JSON reply of an error."""
    body = {"status": error.status, "code": error.code, "message": error.message}
    return JSONResponse(body, status_code=error.status)


def detail(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the JSON reply to an error that the framework of BOSS finds."""
    return JSONResponse({"detail": text}, status, headers)


def web_page(status: int, title: str) -> Response:
    """Return an error as a page of HTML, as proxies and unhandled errors of BOSS do."""
    return HTMLResponse(f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n", status)
