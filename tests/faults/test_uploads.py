"""Uploads on which things go wrong leave the folder's bytes in S3, or a named error and nothing that looks complete."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nd_synapse.errors import (
    UnavailableError,
)
from tests.faults.faulty_s3 import REFETCHED, RETRIED, Plan, Rule, mixture, through_proxy
from tests.faults.uploads import CASES_OF_PARTS, UPLOAD_FAULTS, Uploads, alone
from tests.fixtures_s3 import S3Server

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def place(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uploads]:
    s3_server.reset()
    with through_proxy(s3_server) as faulty:
        yield Uploads(tmp_path_factory.mktemp("uploads"), faulty)


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(RETRIED))
def test_a_fault_that_passes_does_not_show(place: Uploads, fault: str) -> None:
    verdict = place.try_out(alone(fault, lasting=False), older=False)
    assert (verdict.outcome, verdict.wrong, verdict.hits) == ("same", [], {fault: 1})


@pytest.mark.parametrize("fault", sorted(REFETCHED))
def test_an_earlier_run_json_whose_body_breaks_is_fetched_again(place: Uploads, fault: str) -> None:
    verdict = place.try_out(alone(fault, lasting=False))
    assert (verdict.outcome, verdict.wrong, verdict.hits) == ("same", [], {fault: 1})


def test_a_token_that_expires_before_the_earlier_run_json_is_deleted_ends_the_upload(place: Uploads) -> None:
    """Nothing was replaced: a run.json never stands beside files of another run."""
    verdict = place.try_out(Plan([Rule("400 ExpiredToken", to="DELETE ")]))
    assert (verdict.outcome, verdict.wrong) == ("PermissionDeniedError 77", [])


@pytest.mark.slow
@pytest.mark.parametrize(("request_of", "fault"), CASES_OF_PARTS)
def test_of_a_file_in_parts_a_fault_that_passes_does_not_show(place: Uploads, request_of: str, fault: str) -> None:
    """But for a part that came damaged, which is refused, and sent again by the same call."""
    verdict = place.try_parts(request_of, fault, lasting=False)
    assert (verdict.wrong, verdict.hits) == ([], {fault: 1})
    assert verdict.outcome == ("UnavailableError 69" if fault == "damaged" else "same")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_of", "fault"),
    [("a part", "reset"), ("the last of parts", "lost answer"), ("the last of parts", "late error")],
)
def test_of_a_file_in_parts_a_fault_that_lasts_ends_with_its_exit_code(
    place: Uploads, request_of: str, fault: str
) -> None:
    verdict = place.try_parts(request_of, fault, lasting=True)
    assert (verdict.wrong, verdict.outcome) == ([], "UnavailableError 69")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["403 AccessDenied", "500 InternalError", "reset", "truncated"])
def test_a_fault_that_lasts_ends_with_its_exit_code_and_the_same_call_goes_on(place: Uploads, fault: str) -> None:
    verdict = place.try_out(alone(fault, lasting=True))
    assert verdict.wrong == []
    assert verdict.error is not None
    assert verdict.error.exit_code in UPLOAD_FAULTS[fault]


@pytest.mark.slow
def test_what_was_damaged_on_its_way_is_refused_and_sent_again_by_the_same_call(place: Uploads) -> None:
    verdict = place.try_out(alone("damaged", lasting=False), older=False)
    assert isinstance(verdict.error, UnavailableError)
    assert "XAmzContentChecksumMismatch" in str(verdict.error)
    assert verdict.wrong == []


@pytest.mark.parametrize("seed", [1])
def test_for_any_mixture_of_faults_the_bucket_ends_with_the_folder(place: Uploads, seed: int) -> None:
    assert place.try_out(mixture(seed, UPLOAD_FAULTS)).wrong == []


@pytest.mark.slow
def test_a_silent_server_is_given_up_after_four_attempts(place: Uploads) -> None:
    verdict = place.try_out(Plan([Rule("stall", first=2, times=None)]), older=False)
    assert verdict.hits == {"stall": 4}
    assert isinstance(verdict.error, UnavailableError)
    assert verdict.wrong == []
