"""The verdict of a reply: its status, and BOSS's code or the media type.

It says nothing of what the reply should have been; the tests do.
"""

from __future__ import annotations

import requests


def verdict(reply: requests.Response) -> tuple[int, int | str]:
    """Return the status and BOSS's code, or the media type of what is no BOSS error."""
    media = reply.headers["content-type"].split(";")[0]
    if media == "application/json" and "code" in reply.json():
        assert set(reply.json()) == {"status", "code", "message"}
        assert reply.json()["status"] == reply.status_code
        return reply.status_code, reply.json()["code"]
    return reply.status_code, media
