"""What a queue can hold, from descriptions as AWS Batch gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.estimates import BOSS_PULLS
from batch.machines import Environment, Queue, bounded, machine
from batch.requests import Resources
from nd_synapse.errors import UsageError
from tests.batch.examples import a_run

CHILD = Resources(2, 4096, 3600, 2, 8)
REPORT = Resources(4, 8192, 3600, 4, 96)


def described(vcpus: int | None, types: list[str] | None = None, **others: Any) -> dict[str, Any]:
    """Describe a compute environment; one without vCPUs is not managed by Batch."""
    if vcpus is None:
        return {"type": "UNMANAGED", "state": "ENABLED"}
    resources = {"maxvCpus": vcpus} | ({} if types is None else {"instanceTypes": types})
    return {"type": "MANAGED", "state": "ENABLED", "computeResources": resources, **others}


def a_queue(*environments: dict[str, Any]) -> Queue:
    return Queue.of("nd", environments)


def a_large_run(**others: Any) -> Any:
    return a_run(**{"shards": 1000, "blocks": 100_000, "child": CHILD, "report": REPORT, **others})


@pytest.mark.parametrize(
    ("name", "vcpus", "gib"),
    [
        ("c5.large", 2, 4),
        ("m6i.xlarge", 4, 16),
        ("r5.4xlarge", 16, 128),
        ("c5.9xlarge", 36, 72),
        ("r6idn.32xlarge", 128, 1024),
    ],
)
def test_the_size_of_a_machine_follows_from_its_type(name: str, vcpus: int, gib: int) -> None:
    size = machine(name)
    assert size is not None
    assert (size.vcpus, size.memory_mib) == (vcpus, gib * 1024)


@pytest.mark.parametrize("name", ["r5", "optimal", "m5.metal", "p3.2xlarge", "c5.2large", "default_x86_64"])
def test_a_type_without_a_size_is_not_guessed(name: str) -> None:
    assert machine(name) is None
    assert Environment.of(described(64, ["r5.xlarge", name])).machines == ()


def test_the_environments_of_a_queue_count_together() -> None:
    """A queue that has Spot and machines on demand has the maximum of both."""
    assert a_queue(described(24), described(25)).at_once(CHILD) == 12 + 12
    assert a_queue(described(24), described(24, state="DISABLED")).at_once(CHILD) == 12
    assert a_queue(described(24), described(None)).at_once(CHILD) == float("inf")
    assert a_queue(described(24), described(24, ["c5.large"])).at_once(REPORT) == 6


@pytest.mark.parametrize(("vcpus", "pulls"), [(12, 8), (14, 7), (50, 2), (100, 1)])
def test_children_get_fewer_cutouts_where_there_can_be_more_of_them(vcpus: int, pulls: int) -> None:
    run = a_large_run()
    bound = bounded(run, a_queue(described(vcpus), described(vcpus)))
    assert bound == replace(run, child=replace(CHILD, pulls=pulls))


def test_children_that_are_few_have_the_cutouts_that_were_planned() -> None:
    run = a_large_run(shards=10, blocks=100)
    assert bounded(run, a_queue(described(256), described(None))) == run


def test_a_single_job_has_what_was_planned() -> None:
    run = a_large_run(shards=1)
    assert bounded(run, a_queue(described(4))) == run


@pytest.mark.parametrize("vcpus", [102, 256, None])
def test_more_children_than_boss_has_cutouts_for_are_refused(vcpus: int | None) -> None:
    with pytest.raises(UsageError, match=r"together have at most 200 vCPUs .* --shards 100 or fewer"):
        bounded(a_large_run(), a_queue(described(vcpus), described(100)))


def test_cutouts_that_the_user_wants_are_not_taken_away_in_silence() -> None:
    run = a_large_run(options=("--pulls", "8"))
    with pytest.raises(UsageError, match="Leave --pulls out or give 2"):
        bounded(run, a_queue(described(100)))
    assert bounded(run, a_queue(described(24))) == run


@given(st.lists(st.integers(4, 200), min_size=1, max_size=3), st.integers(2, 10_000), st.sampled_from([1, 2, 3, 4]))
def test_for_any_queue_boss_has_no_more_cutouts_than_it_bears(maxima: list[int], shards: int, vcpus: int) -> None:
    queue = a_queue(*(described(most) for most in maxima))
    run = a_large_run(shards=shards, child=replace(CHILD, vcpus=vcpus))
    try:
        bound = bounded(run, queue)
    except UsageError:
        assert min(shards, queue.at_once(run.child)) > BOSS_PULLS
        return
    assert bound.child.pulls is not None
    assert 1 <= bound.child.pulls <= 8
    assert min(shards, queue.at_once(run.child)) * bound.child.pulls <= BOSS_PULLS


@pytest.mark.parametrize(
    ("container", "environments"),
    [
        (Resources(22, 4096, 3600, 2), [described(16), described(21)]),
        (Resources(22, 4096, 3600, 2), [described(64, ["c5.4xlarge", "r5.4xlarge"])]),
        (Resources(4, 131_072, 3600, 2), [described(64, ["r5.4xlarge"])]),
        (Resources(4, 4096, 3600, 2), [described(64, state="DISABLED")]),
        (Resources(4, 4096, 3600, 2), []),
    ],
)
def test_a_container_that_fits_nowhere_is_refused(container: Resources, environments: list[dict[str, Any]]) -> None:
    """Its job would be RUNNABLE for ever."""
    with pytest.raises(UsageError, match="would wait for ever"):
        bounded(a_run(shards=1, report=container), a_queue(*environments))


def test_a_child_that_fits_nowhere_is_refused_too() -> None:
    with pytest.raises(UsageError, match=r"a child of 8 vCPU .* machines of up to 4 vCPU and 16 GiB"):
        bounded(a_run(child=Resources(8, 4096, 60, 2)), a_queue(described(64, ["m5.xlarge"])))


def test_a_container_that_fits_is_not_refused() -> None:
    queue = a_queue(described(8, ["c5.xlarge"]), described(64, ["c5.4xlarge", "r5.4xlarge"]))
    run = a_run(shards=1, report=Resources(16, 120 * 1024, 3600, 2))
    assert bounded(run, queue) == run
    assert bounded(run, a_queue(described(16, ["r5"]))) == run
