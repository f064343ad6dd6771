"""What AWS answers: that it makes sense, and how it may be told.

It decides nothing: what a failure means to us is said at the doors, S3's and that of Batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import urllib3
from botocore import exceptions as boto_errors
from botocore.parsers import ResponseParserError

from nd_synapse.text import one_line

__all__ = ["SENSELESS", "SenselessError", "scrub", "sensible", "without_credentials"]

SENSELESS = (
    urllib3.exceptions.HTTPError,
    ResponseParserError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What is raised where an answer is read that is none: botocore hands through what its parsers meet with."""

# A password may have a slash or a blank in it, although no URL may; rather too much is hidden than too little.
_CREDENTIALS = re.compile(r"""(?:(?<=://)|(?<=Invalid endpoint: ))[^"'`]*@""")

# http.client repeats a header that it refuses: those of a request have credentials and signatures in them.
_HEADER = re.compile(r"(Invalid header value ).*", re.DOTALL)


class SenselessError(boto_errors.BotoCoreError):  # type: ignore[misc] # botocore publishes no types
    """An answer of AWS, or of whoever stands before it, that does not make sense."""

    fmt = "{operation} was answered with something that does not make sense ({cause})"


def sensible(client: Any, needed: Mapping[str, tuple[str, ...]]) -> Any:
    """Let a client raise one error of botocore's own for whatever answer makes no sense."""
    # around all calls, and around nothing that is computed here; a test holds that this takes effect
    call = client._make_api_call

    def checked(operation: str, arguments: Any) -> Any:
        try:
            answer = call(operation, arguments)
        except boto_errors.BotoCoreError:
            raise  # some are of Python's kinds as well
        except SENSELESS as cause:
            raise SenselessError(operation=operation, cause=f"{type(cause).__name__}: {cause}") from cause
        wanted = needed.get(operation, ())
        if wanted and not any(name in answer for name in wanted):
            raise SenselessError(operation=operation, cause=f"it has no {' or '.join(wanted)}")
        return answer

    client._make_api_call = checked
    return client


def without_credentials(text: str) -> str:
    """Take user and password out of URLs, which ``AWS_ENDPOINT_URL`` may have, and what a refused header held."""
    return _HEADER.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def scrub(cause: BaseException) -> None:
    """Take out of a failure and what led to it what no traceback may show: passwords, and what steers a terminal."""
    link: BaseException | None = cause
    while link is not None:
        link.args = tuple(
            one_line(without_credentials(part), keep="\n\t") if isinstance(part, str) else part for part in link.args
        )
        link = link.__cause__ or link.__context__
