"""Private buckets of Google's store are read with the credentials of the user."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from nd_synapse import responses
from nd_synapse.errors import PermissionDeniedError, UnavailableError, UnknownNameError
from nd_synapse.sources.location import Location
from nd_synapse.sources.source import FileSource, open_source
from tests.fixtures_google import ACCOUNT, CHANNELS, FORMS, GoogleStore, key_file
from tests.served_volumes import refusal
from tests.volumes_on_disk import uri_of


def opened(form: str = "ome05.zarr") -> FileSource:
    return open_source(Location(uri_of(form, f"gs://lab/at/{form}")))


def check(source: FileSource) -> None:
    """Compare the voxels with those that were written."""
    assert source.channels == sorted(CHANNELS)
    for name, voxels in CHANNELS.items():
        assert np.array_equal(source.get_cutout(name, *source.box.ranges), voxels)


class TestReading:
    """What the account may read is read."""

    @pytest.mark.parametrize("form", FORMS)
    def test_a_private_bucket_gives_what_the_folder_has(
        self, form: str, google_store: GoogleStore, google_key: Path
    ) -> None:
        check(opened(form))
        assert len(google_store.given) == 1
        unsigned = [path for path, signed, _ in google_store.requests if not signed]
        assert len(unsigned) <= 6  # metadata that were asked for at once, and the token

    def test_a_token_is_renewed_before_it_ends(self, google_store: GoogleStore, google_key: Path) -> None:
        google_store.lifetime_s = 226  # google-auth renews one that has less than 225 s to go
        source = opened()
        time.sleep(1.1)
        google_store.valid.clear()
        check(source)
        assert len(google_store.given) > 1
        assert 401 not in [status for _, _, status in google_store.requests]

    def test_a_token_that_the_store_no_longer_takes_is_renewed_once_for_all_threads(
        self, google_store: GoogleStore, google_key: Path
    ) -> None:
        source = opened()
        google_store.valid.clear()
        check(source)
        assert len(google_store.given) == 2

    def test_a_file_of_gcloud_is_found_and_a_password_of_netrc_is_not_sent(
        self, google_store: GoogleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "gcloud").mkdir()
        key_file(google_store, tmp_path / "gcloud" / "application_default_credentials.json")
        (tmp_path / "netrc").write_text("default login me password of-netrc\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        check(opened())

    def test_a_program_that_reads_public_data_does_not_load_google_auth(self) -> None:
        code = (
            "import sys, nd_synapse.sources.objects as o; o.objects_at('gs://b/p'); print('google.auth' in sys.modules)"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


class TestRefusals:
    """What the account may not read has a reason, and says what to do."""

    def test_without_credentials_it_says_how_to_log_in(self, google_store: GoogleStore, tmp_path: Path) -> None:
        for form in ("ome05.zarr", "n5"):
            code, line = refusal(uri_of(form, f"gs://lab/at/{form}"), path=tmp_path)
            assert code == 77
            assert "the server answered 403 Forbidden, and there are no credentials. Log in: gcloud auth" in line

    def test_without_google_auth_it_says_what_to_install(
        self, google_store: GoogleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "google.auth", None)
        code, line = refusal("gs://lab/at/ome05.zarr", path=tmp_path)
        assert code == 77
        assert (
            "google-auth, which finds credentials, is not installed. Install it (pip install 'nd-synapse[gcs]')" in line
        )

    def test_a_bucket_or_volume_that_does_not_exist_is_named(self, google_store: GoogleStore, google_key: Path) -> None:
        with pytest.raises(UnknownNameError, match="there is no bucket lob"):
            open_source(Location("gs://lob/a.zarr"))
        with pytest.raises(UnknownNameError, match="no Zarr array"):
            open_source(Location("gs://lab/b.zarr"))

    def test_an_account_without_the_right_is_named(self, google_store: GoogleStore, google_key: Path) -> None:
        google_store.refused = "No {token}"
        with pytest.raises(PermissionDeniedError, match=rf"403 No \*\*\* to {ACCOUNT}\. .* role Storage Object Viewer"):
            opened()
        assert len(google_store.given) == 1

    def test_an_account_that_gets_no_token_is_refused_with_what_google_says(
        self, google_store: GoogleStore, google_key: Path
    ) -> None:
        google_store.account = "another"
        with pytest.raises(PermissionDeniedError, match=r"invalid_grant: Invalid JWT Signature\.?\)"):
            opened()

    def test_a_server_of_tokens_that_does_not_answer_is_no_lack_of_rights(
        self, google_store: GoogleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = key_file(google_store, tmp_path / "key.json", token_uri="http://127.0.0.1:9/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        with pytest.raises(UnavailableError, match="no answer from the server of Google's tokens"):
            opened()

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (None, "was not found"),
            (b"{", "is not a valid json file"),
            (b"[]", "list"),
            (b"\xff", "is not a valid json file"),
            (b'{"type": "x"}', "does not have a valid type"),
            (b'{"type": "service_account"}', "missing fields"),
            (b'{"type": "authorized_user"}', "missing fields"),
            ("a folder", "Is a directory"),
            ({"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "Failed to load"),
        ],
    )
    def test_a_file_that_is_no_key_is_refused_in_one_line(
        self, content: Any, text: str, google_store: GoogleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "key.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, dict):
            key_file(google_store, path, **content)
        elif content:
            path.mkdir()
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        code, line = refusal("gs://lab/at/ome05.zarr", path=tmp_path)
        assert code == 77
        assert "the credentials of Google give no token (" in line
        assert text in line
        assert len(line) < 900


def test_a_session_that_is_not_signed_ignores_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login me password of-netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    session = requests.Session()
    for auth, has in ((None, True), (responses.unsigned, False)):
        session.auth = auth
        prepared = session.prepare_request(requests.Request("GET", "http://a.b/c"))
        assert ("Authorization" in prepared.headers) == has
