"""Runs in parts that meet on an S3 on which things go wrong end with the bytes of one job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.faulty_s3 import FAULTS, REFETCHED, RETRIED, alone, mixture, through_proxy
from tests.faults.parts import RunsInParts, runs_in_parts
from tests.fixtures_s3 import S3Server

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def runs(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunsInParts]:
    s3_server.reset()
    with through_proxy(s3_server) as faulty, runs_in_parts(tmp_path_factory.mktemp("parts"), faulty) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(RETRIED - {"stall"} | REFETCHED))
def test_a_fault_that_passes_does_not_show(runs: RunsInParts, fault: str) -> None:
    verdict = runs.try_out(alone(fault, lasting=False, first=12))
    assert (verdict.outcome, verdict.wrong, verdict.hits) == ("same", [], {fault: 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["403 AccessDenied", "cut head", "damaged", "damaged answer", "odd list", "truncated"]
)
def test_a_fault_that_lasts_ends_each_job_with_its_exit_code_and_the_same_job_goes_on(
    runs: RunsInParts, fault: str
) -> None:
    verdict = runs.try_out(alone(fault, lasting=True, first=12))
    assert verdict.wrong == []
    assert verdict.error is not None
    assert verdict.error.exit_code in FAULTS[fault]


@pytest.mark.parametrize("seed", [1, 2])
def test_for_any_mixture_of_faults_the_run_ends_with_the_bytes_of_one_job(runs: RunsInParts, seed: int) -> None:
    assert runs.try_out(mixture(seed)).wrong == []
