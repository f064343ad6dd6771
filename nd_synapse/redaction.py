"""The secrets that this process knows, and their removal from every text that leaves it.

There is one set of them: the token, those of AWS and of proxies in the environment, and what was found in files since.
Logs, messages, `run.json`, the report, what workers print, log and fail with, and standard output all go through
`redacted`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from nd_synapse.credentials import HIDDEN, TOKEN_VARIABLE, Token
from nd_synapse.errors import UsageError
from nd_synapse.text import one_line, shortened

__all__ = [
    "REASON",
    "TRACEBACK",
    "Redactor",
    "describe_error",
    "format_traceback",
    "hidden",
    "hide",
    "is_known_in",
    "redacted",
    "redacted_values",
    "secrets_among",
    "words_and_environment",
]

REASON, TRACEBACK = 500, 8000
"""Characters of an error, and of a traceback, that are kept."""

_SECRET_VARIABLES = (
    TOKEN_VARIABLE,
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
)
_URL_VARIABLES = re.compile(r"(?i:(https?|all|ftp)_proxy)|AWS_ENDPOINT_URL.*")
"""Variables whose URLs may have a password in them."""

# The value of an Authorization header in any quoting, and a bare "Token 0a1b...", also of a token that we do not know.
# A bare one needs a digit: sentences begin with "Token" too.
_AUTHORIZATION = r"""(?i:authorization)["']?\s*[:=]\s*(?:b(?=["']))?["']?(?:(?i:token|bearer|basic)\s+)?"""
_BARE = r"\bToken\s+(?=\S*\d)(?=\S{8})"
# As in ~/.aws/credentials, in the answer of a credential_process, in an environment that is printed, in a signed link.
_NAMES = (
    "boss_token|secret_?access_?key|session_?token|access_token|refresh_token|client_secret|"
    "x-amz-(?:signature|security-token|credential)"
)
_NAMED = rf"""(?i:{_NAMES})["']?\s*[:=]\s*["']?"""
_VALUES = re.compile(rf"""({_AUTHORIZATION}|{_BARE}|{_NAMED})[^\s'",;&)}}\]\\]+""")
# keys of AWS, tokens of Google, and what a key has signed for Google
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bya29\.[\w.-]{8,}|\beyJ[\w-]{8,}(?:\.[\w-]{8,}){1,2}")
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_USER_IN_URL = re.compile(r"""(?<=://)[^\s/@"'`<>?#]+@""")

_known: Counter[Token] = Counter()
_lock = threading.Lock()


def hide(*secrets: Token) -> None:
    """Keep secrets out of all texts from now on."""
    with _lock:
        _known.update(secrets)


@contextmanager
def hidden(*secrets: Token) -> Iterator[None]:
    """Keep secrets out of all texts while the context lasts, whichever other contexts know them, too."""
    hide(*secrets)
    try:
        yield
    finally:
        with _lock:
            _known.subtract(secrets)
            for secret in secrets:
                if _known[secret] <= 0:
                    del _known[secret]


def words_and_environment(words: Sequence[str], environ: Mapping[str, str]) -> tuple[Token, ...]:
    """Return the secrets of a command line that is not parsed yet, and of its environment."""
    given = [following for word, following in pairwise(words) if word == "--token"]
    given += [word.removeprefix("--token=") for word in words if word.startswith("--token=")]
    return (*secrets_among(given), *_of_environment(environ))


def _of_environment(environ: Mapping[str, str]) -> tuple[Token, ...]:
    """Return the secrets in variables."""
    found = [environ.get(name, "").strip() for name in _SECRET_VARIABLES]
    for name, value in environ.items():
        if "@" in value and _URL_VARIABLES.fullmatch(name):
            with suppress(ValueError):
                password = urlsplit(value if "://" in value else f"//{value}").password or ""
                found += [password, unquote(password)]
    return secrets_among(found)


def secrets_among(texts: Iterable[object]) -> tuple[Token, ...]:
    """Return texts as secrets; what no token can be is left out, such as None and a short word."""
    tokens = []
    for text in dict.fromkeys(texts):
        with suppress(UsageError):
            tokens.append(Token(text))  # type: ignore[arg-type] # it refuses what is no text
    return tuple(tokens)


def _all(*more: Token) -> set[Token]:
    """Return the secrets that are known by now."""
    with _lock:
        known = list(_known)
    return {*known, *_of_environment(os.environ), *more}


def _forms(secret: Token) -> list[str]:
    """Return how a secret may be written, longest first, since a short form may be part of a longer one."""
    plain = secret.reveal()
    forms = {plain, json.dumps(plain)[1:-1], repr(plain)[1:-1], quote(plain, safe=""), quote(plain)}
    return sorted(forms, key=len, reverse=True)


def redacted(text: str, *more: Token) -> str:
    """Remove all known secrets from a text, and what is written where a secret stands.

    They are removed as given, quoted and percent-encoded; so are values of Authorization headers, user and password in
    URLs, and what AWS calls a key.
    """
    return _without(_all(*more), text)


def _without(secrets: Iterable[Token], text: str) -> str:
    """Remove secrets from a text, and what is written where a secret stands."""
    for secret in secrets:
        if secret.is_secret:
            for form in _forms(secret):
                text = text.replace(form, HIDDEN)
    text = _VALUES.sub(rf"\1{HIDDEN}", _KEY.sub(HIDDEN, text))
    return _USER_IN_URL.sub(f"{HIDDEN}@", _KEY_ID.sub(HIDDEN, text))


def redacted_values(value: Any) -> Any:
    """Return plain values, such as those of JSON, with every text in them redacted."""
    secrets = _all()  # once: reading the environment takes longer than a text

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _without(secrets, value)
        if isinstance(value, Mapping):
            return {clean(name): clean(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(clean, value))
        return value

    return clean(value)


def is_known_in(text: str) -> bool:
    """Return whether a text has a secret in it that this process knows."""
    return any(form in text for secret in _all() if secret.is_secret for form in _forms(secret))


def describe_error(error: BaseException, most: int = REASON) -> str:
    """Return an exception in one line without secrets, also if its class fails to print itself."""
    name = type(error).__name__
    try:
        text = shortened(redacted(str(error)), most)
    except BaseException as failure:  # noqa: BLE001 - a user's class may raise anything
        return f"{name}, which cannot be printed ({type(failure).__name__})"
    return one_line(f"{name}: {text}")


def format_traceback(error: BaseException, most: int = TRACEBACK) -> str:
    """Return the traceback of an exception without secrets, of bounded length."""
    try:
        return shortened(redacted("".join(traceback.format_exception(error))), most)
    except BaseException as failure:  # noqa: BLE001 - the same, of its notes and causes
        return f"{type(error).__name__}, whose traceback cannot be printed ({type(failure).__name__})\n"


class Redactor(logging.Filter):
    """A filter that removes secrets from every record, before any handler formats it.

    Attach it to handlers: a filter of a logger does not see the records of the loggers below it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message, its arguments and the exception's text."""
        # merged here: a token split over two arguments, or inside an object, shows only then
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - filters run outside of logging's own handling of errors, and a wrong format string must not end the job
            message = f"{record.msg if isinstance(record.msg, str) else ''} ({type(error).__name__} in its message)"
        record.msg = redacted(message)
        record.args = None
        if record.exc_info and not record.exc_text and record.exc_info[0] is not None:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if record.exc_text:
            record.exc_text = redacted(record.exc_text)
            # Formatters that ignore exc_text would format exc_info anew.
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redacted(record.stack_info)
        return True
