"""BOSS is reached through the proxy that the environment names, with the token and not with what ``.netrc`` has."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from nd_synapse.errors import UnavailableError, UsageError
from tests.faulty_boss import Plan, faulty_boss, says
from tests.proxy import Proxy, proxy_to
from tests.raw_line import certificate, saying, speaking
from tests.test_boss_connection import COLLECTION, SECRET, ask, whole

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
NETRC = "machine boss.example login somebody password else\ndefault login somebody password else\n"


@pytest.fixture
def boss() -> Iterator[Plan]:
    with faulty_boss() as plan:
        yield plan


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the proxies of this machine, and give passwords in a .netrc."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "netrc").write_text(NETRC)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def proxy(boss: Plan, tmp_path: Path) -> Iterator[Proxy]:
    with proxy_to(boss.url.removeprefix("http://"), tmp_path / "notes") as running:
        yield running


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_each_request_goes_through_the_proxy_with_the_token(
    boss: Plan, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://{proxy.address}")
    boss.add("GET", says(503), says(200, COLLECTION))
    assert ask("http://boss.example") == COLLECTION
    assert [(method, url) for method, url, _ in proxy.seen] == [
        ("GET", "http://boss.example/v1/collection/collman")
    ] * 2
    assert {headers["Authorization"] for _, _, headers in proxy.seen} == {f"Token {SECRET}"}


def test_this_machine_is_asked_directly(boss: Plan, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    boss.add("GET", says(200, COLLECTION))
    assert ask(boss.url) == COLLECTION
    assert proxy.seen == []


def test_an_encrypted_host_is_reached_through_a_tunnel_that_does_not_show_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = certificate(tmp_path / "tls", "boss.example")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(mine.path))
    with (
        speaking(saying(whole(json.dumps(COLLECTION).encode())), mine.context) as target,
        proxy_to(target, tmp_path / "notes", password="p%ssword-of-the-proxy") as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%25ssword-of-the-proxy@{proxy.address}")
        assert ask("https://boss.example") == COLLECTION
        ((method, target_of_it, headers),) = proxy.seen
    assert (method, target_of_it) == ("CONNECT", "boss.example:443")
    assert "Authorization" not in headers


@pytest.mark.parametrize("host", ["http://boss.example", "https://boss.example"])
def test_a_proxy_that_wants_another_password_is_asked_once_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with proxy_to("127.0.0.1:1", tmp_path / "notes", password="right-password") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://me:wrong-password@{proxy.address}")
        with pytest.raises(UnavailableError, match=r"proxy.*(user and a password|407).*Check HTTPS_PROXY") as caught:
            ask(host)
        assert len(proxy.seen) == 1
    assert "wrong-password" not in f"{caught.value} {caught.value.__cause__} {caplog.text}"


def test_a_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(UnavailableError, match=r"through the proxy: .*refused.*NO_PROXY"):
        ask("http://boss.example")


def test_a_proxy_of_another_kind_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://me:secret-word@127.0.0.1:1")
    with pytest.raises(UsageError, match=r"the proxy 127.0.0.1:1 for https://boss.example: it is not") as caught:
        ask("https://boss.example")
    assert "secret-word" not in str(caught.value)
