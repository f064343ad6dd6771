"""The key of an account at Google, and the tokens that it gives, show nowhere."""

from __future__ import annotations

import json
import pickle
import traceback
from pathlib import Path

import pytest

from nd_synapse.errors import NDSynapseError, PermissionDeniedError, UsageError
from nd_synapse.redaction import redacted
from nd_synapse.sources.location import Location
from nd_synapse.sources.source import open_source
from tests.fixtures_google import GoogleStore, start_store
from tests.secrets.looked import MARK, Looked, run

VOLUME = Location("gs://lab/at/ome05.zarr")


class TestSecrets:
    """Neither the key nor a token shows."""

    @pytest.fixture
    def parts(self, google_store: GoogleStore, google_key: Path) -> list[str]:
        """Lines of the key, each of which would be a leak; tokens have the mark."""
        google_store.mark = MARK
        return [line for line in json.loads(google_key.read_text())["private_key"].splitlines() if len(line) == 64]

    @pytest.mark.slow
    @pytest.mark.parametrize("case", ["read", "refused", "repeated"])
    def test_a_run_leaves_no_trace_of_them(
        self, case: str, google_store: GoogleStore, parts: list[str], tmp_path: Path
    ) -> None:
        looked = Looked(f"nd-synapse run --source gs://, tokens that are {case}")
        google_store.refused = "You sent {token}" if case == "refused" else ""
        google_store.repeats = case == "repeated"
        words = ["-m", "nd_synapse", "run", "--source", "gs://lab/at/ome05.zarr", "--path", str(tmp_path / "out")]
        code = 0 if case == "read" else 77
        run(looked, [*words, "--cpus", "1", "--verbose", "--block-size", "6,60,40"], code)
        looked.below(tmp_path / "out")
        assert not any(part in looked.printed for part in parts)
        assert case != "repeated" or "invalid_grant: you sent" in looked.printed
        looked.done(code)

    @pytest.mark.parametrize("case", ["refused", "repeated"])
    def test_errors_hold_none(self, case: str, google_store: GoogleStore, parts: list[str]) -> None:
        looked = Looked(f"open_source(gs://), tokens that are {case}")
        google_store.refused, google_store.repeats = "You sent {token}", case == "repeated"
        with pytest.raises(NDSynapseError) as caught:
            open_source(VOLUME)
        assert caught.value.__cause__ is None
        text = "".join(traceback.format_exception(caught.value)) + repr(pickle.dumps(caught.value))
        looked.at("errors", text)
        assert "eyJ" not in text
        assert not any(part in text for part in parts)
        looked.done(0)

    def test_a_key_in_the_place_of_its_path_is_not_repeated(
        self, google_store: GoogleStore, google_key: Path, parts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The library answers that there is no such file, with all of it as the name."""
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", google_key.read_text())
        with pytest.raises(UsageError, match="GOOGLE_APPLICATION_CREDENTIALS: it holds no path"):
            open_source(VOLUME)
        written = f"{google_key.read_text()} {json.loads(google_key.read_text())['private_key']}end"
        assert redacted(written).endswith(" ***\nend")
        assert not any(part in redacted(written) for part in parts)

    def test_another_host_gets_none(self, google_store: GoogleStore, google_key: Path) -> None:
        """The store has no redirects; whatever stands in its place may."""
        source = open_source(VOLUME)
        with start_store(google_store.folder) as other:
            google_store.elsewhere = other.url
            with pytest.raises(PermissionDeniedError, match="403"):
                source.get_cutout("PSD95", *source.box.ranges)
        assert {signed for _, signed, _ in other.requests} == {False}


def test_secrets_of_google_are_known_by_their_form() -> None:
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhQGIifQ.c2lnbmF0dXJlLW9mLWl0"
    for text in ("ya29.a0AfB_byC-12345678", f"assertion={jwt}&x", '"client_secret": "d-abc"', "refresh_token=1//0abc"):
        assert "***" in redacted(text)
        assert not {"a0AfB", "c2lnbmF0", "d-abc", "0abc"} & set(redacted(text).split())
