"""After a run, each phase is compared with what was planned, by the times of its own containers."""

from __future__ import annotations

import json

from batch.comparison import comparison_text
from batch.planning import Wishes, planned
from batch.requests import Planned, Run
from benchmarks.imagined import TERAVOXEL, plan_over
from tests.batch.examples import a_run
from tests.batch.test_status import HOUR_MS, START_MS, attempt, state

PLANNED = {
    "statistics": Planned((1800.0, 7200.0), (7200.0, 18000.0)),
    "detection": Planned((60.0, 90.0), (240.0, 360.0)),
    "contacts": Planned((60.0, 90.0), (240.0, 360.0)),
    "join": Planned((60.0, 90.0), (60.0, 90.0)),
    "objects": Planned((60.0, 90.0), (240.0, 360.0)),
    "report": Planned((3600.0, 7200.0), (3600.0, 7200.0)),
}
NOW_S = (START_MS + 10 * HOUR_MS) / 1000


def price(vcpus: float, memory_mib: int) -> tuple[float, float]:
    return vcpus / 3600, 2 * vcpus / 3600


def test_time_and_cost_of_each_phase_stand_beside_the_plan() -> None:
    run = a_run(planned=PLANNED)
    counted = [
        state("SUCCEEDED", attempt(0.5, 0, 1), attempt(1, 1, 0), shard=0),
        state("SUCCEEDED", attempt(1.5, 0, 0), shard=1),
    ]
    searched = [state("RUNNING", attempt(1, 2, 1), shard=0)]
    text = comparison_text(run, [("statistics", counted), ("detection", searched)], price, NOW_S)
    # 3 h of containers with 4 vCPU; nothing of the report has begun
    assert text.splitlines() == [
        "planned     statistics: 30 min to 2 h and 8.00 to 40.00 USD; took 2 h and 12.00 to 24.00 USD",
        "planned     detection: 60 s to 90 s and 0.27 to 0.80 USD; until now 60 min and 4.00 to 8.00 USD",
    ]


def test_the_time_between_two_rounds_is_not_counted() -> None:
    run = a_run(planned=PLANNED)
    failed, again = state("FAILED", attempt(1, 0, 1)), state("SUCCEEDED", attempt(0.5, 9, 0))
    text = comparison_text(run, [("report", [failed]), ("report", [again])], price, NOW_S)
    assert text == "planned     report: 60 min to 2 h and 2.00 to 8.00 USD; took 90 min and 6.00 to 12.00 USD\n"


def test_a_run_without_containers_has_nothing_to_compare() -> None:
    assert comparison_text(a_run(planned=PLANNED), [("statistics", [state("RUNNABLE")])], price, NOW_S) == ""


def test_what_was_planned_is_in_the_record_and_makes_no_other_run() -> None:
    plan = planned(plan_over(TERAVOXEL), Wishes())
    run = a_run(planned=plan.times, pushes=True)
    assert [times.seconds for times in run.planned.values()] == [phase.seconds for phase in plan.phases]
    assert list(run.planned) == list(run.phases)
    back = Run.from_json(json.loads(json.dumps(run.as_json())))
    assert back.planned == run.planned
    assert back == run == a_run(pushes=True)
