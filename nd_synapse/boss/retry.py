"""The one retry policy of requests to BOSS: what passes, how often it is tried again, and after which pause.

It decides and waits for nothing itself: `boss.transport` does. docs/reliability.md tells the same to users.

- Transient, and tried again: no connection, or one that broke, encrypted or not; no answer in time, an answer cut short
  or damaged, status 500, 502, 503, 504, and 429 from whatever stands before BOSS.
- Never tried again: 429 in the words of BOSS, which is a monthly quota; every other status; a certificate that is not
  trusted; a name of a host that nobody knows; an answer that is too large.
- POST and PUT are tried again, too: writing the same voxels twice gives the same voxels, and a resource that the first
  attempt created is found when the second one is refused. But an attempt that was given up may be carried out yet, and
  an erase then takes away what was written next: whoever erases has to look again, later (`Patience.settling_s`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests

from nd_synapse.boss.errors import DamagedError, is_late, is_no_http, is_unknown_name, is_untrusted, read_reply

__all__ = ["UNREADABLE_ATTEMPTS", "Mishap", "Patience", "mishap_of_answer", "mishap_of_error", "pause_before"]

UNREADABLE_ATTEMPTS = 3
"""How often voxels are asked for that came whole, by all that was announced of them, and cannot be unpacked."""

# 500 is among them because BOSS answers so while a cuboid is being written; also, alas, to a bad token on a cutout.
_TRANSIENT_STATUS = frozenset({500, 502, 503, 504})


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
        """Return how long to wait before an attempt."""
        bound: float = min(self.longest_pause_s, self.pause_s * 2.0 ** (attempt - 2))
        return bound * chance

    def settling_s(self, repeats: int) -> float:
        """Return how long attempts that were given up may still be carried out, as far as they are waited for."""
        return min(self.read_s, self.longest_pause_s * repeats)


@dataclass(frozen=True, slots=True)
class Mishap:
    """An attempt that failed.

    Parameters
    ----------
    reason : str
        Why, in a few words.
    passes : bool
        Whether another attempt may fare better.
    wait_s : float
        How long the server asks its callers to wait before; 0 if it says nothing.
    """

    reason: str
    passes: bool
    wait_s: float = 0.0


def mishap_of_answer(response: requests.Response, now: datetime) -> Mishap | None:
    """Judge an answer."""
    status = response.status_code
    # BOSS itself counts bytes by the month, and says so with a code of its own. A proxy counts by the second.
    is_busy = status == 429 and read_reply(response).code is None
    if not is_busy and status not in _TRANSIENT_STATUS:
        return None
    return Mishap(f"HTTP status {status}", True, _asked_wait_s(response.headers.get("Retry-After", ""), now))


def mishap_of_error(error: requests.RequestException) -> Mishap:
    """Judge what was raised instead of an answer."""
    if is_untrusted(error) or is_unknown_name(error):
        return Mishap("no trusted connection", passes=False)
    if isinstance(error, requests.exceptions.SSLError):
        return Mishap("the encrypted connection broke", passes=True)
    if isinstance(error, DamagedError):
        return Mishap("a damaged answer", passes=True)
    if is_late(error):
        return Mishap("no answer in time", passes=True)
    if is_no_http(error):
        return Mishap("an answer that is no HTTP", passes=True)
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return Mishap("an answer cut short", passes=True)
    return Mishap("no connection", passes=isinstance(error, requests.ConnectionError))


def pause_before(attempt: int, elapsed_s: float, chance: float, mishap: Mishap, patience: Patience) -> float | None:
    """Decide whether to try again."""
    # The jitter comes on top of what a server asks for: it has asked all of its callers.
    pause = mishap.wait_s + patience.pause_before(attempt, chance)
    if not mishap.passes or attempt > patience.attempts or elapsed_s + pause >= patience.total_s:
        return None
    return pause


def _asked_wait_s(header: str, now: datetime) -> float:
    """Return the seconds that a header Retry-After asks for, given in seconds or as a date; 0 if it is neither."""
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        moment = parsedate_to_datetime(header)
        # A date without a zone is one of UTC.
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
    except (ValueError, OverflowError):
        # no calendar has a year of eleven digits
        return 0.0
