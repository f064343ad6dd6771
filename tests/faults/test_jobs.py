"""Jobs that meet faults end with the bytes of a clean run, or with a named error and, repeated, with those bytes."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from nd_boss import Patience
from nd_synapse.errors import UnavailableError
from tests.driver.runs import drive, where
from tests.faults import __main__ as table
from tests.faults.boss_plan import FAULTS, FaultPlan, Rule
from tests.faults.jobs import BOX, Bench, bench
from tests.faults.plans import ERRORS, RETRIED, Case, cases, mixture
from tests.fixtures_boss import BossServer, start_boss

pytestmark = pytest.mark.timeout(300)

QUICK = ("quota", "forbidden", "503", "wrong-dtype", "stale")
MIXTURES = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("faults")) as made:
        yield made


def once(fault: str) -> Case:
    """Choose a request for a fault, so that each kind of request has some."""
    fitting = [case for case in cases() if case.fault == fault and not case.lasting]
    return fitting[sorted(FAULTS).index(fault) % len(fitting)]


@pytest.mark.slow
@pytest.mark.parametrize("case", [once(fault) for fault in sorted(RETRIED)], ids=str)
def test_a_transient_fault_does_not_show(place: Bench, case: Case) -> None:
    verdict = place.try_out(case.plan())
    assert (verdict.outcome, verdict.wrong) == ("same", [])
    assert verdict.hits == {case.fault: 1}


@pytest.mark.slow
@pytest.mark.parametrize("fault", QUICK)
def test_a_lasting_fault_ends_the_job_with_its_exit_code_and_a_further_run_succeeds(place: Bench, fault: str) -> None:
    case = next(c for c in cases() if c.fault == fault and c.lasting and c.on.startswith("cutout"))
    verdict = place.try_out(case.plan(), dirty=fault == "stale")
    assert verdict.wrong == []
    assert verdict.error is not None
    assert verdict.error.exit_code == ERRORS[fault]


def test_a_used_up_quota_is_met_only_once(place: Bench) -> None:
    """BOSS counts every further request, too."""
    verdict = place.try_out(FaultPlan([Rule("quota", "cutout-get", first=2, times=None)]))
    assert verdict.hits == {"quota": 1}
    assert isinstance(verdict.error, UnavailableError)
    assert "quota" in verdict.error.found
    assert verdict.wrong == []


@pytest.mark.slow
def test_a_mask_that_was_there_before_never_shows_through(place: Bench) -> None:
    """Answers of erasing and writing are lost, and what is read in between is stale."""
    lost = [Rule(fault, "cutout-post", times=2, done=True) for fault in ("reset", "504")]
    verdict = place.try_out(FaultPlan([*lost, Rule("stale", "cutout-get")]), dirty=True)
    assert (verdict.outcome, verdict.wrong) == ("same", [])
    assert verdict.hits == {"reset": 2, "504": 2, "stale": 1}


@pytest.mark.parametrize("seed", range(MIXTURES))
def test_for_any_mixture_of_faults_the_bytes_are_those_of_a_clean_run(place: Bench, seed: int) -> None:
    """One pull at a time, so that a seed is a run; and four, which come in any order."""
    plan, dirty = mixture(seed)
    job = place.job(block_size=(1, 64, 64), pulls=4) if seed % 2 else None
    assert place.try_out(plan, job=job, dirty=dirty).wrong == []


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_and_started_again_does_not_show(
    place: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real process, by SIGKILL, on the same port and folder."""
    from nd_synapse.boss import resource

    patient = Patience(connect_s=2, read_s=5, attempts=20, pause_s=0.2, longest_pause_s=1.0)
    monkeypatch.setattr(resource, "Patience", lambda: patient)
    faults = json.dumps({"rules": [{"fault": "restart", "on": "cutout-get", "first": 3}]})
    with ExitStack() as servers:
        first = servers.enter_context(start_boss(place.server.data, "--faults", faults))
        job = replace(place.job(), host=first.url)

        def start_again() -> None:
            first.process.wait(30)
            servers.enter_context(start_boss(place.server.data, port=int(first.host.rpartition(":")[2])))

        watcher = threading.Thread(target=start_again)
        watcher.start()
        error = place.run(job)
        watcher.join(30)
    assert error is None
    assert first.process.returncode == -9
    assert place.delivered(job) == place.reference


@pytest.fixture
def data(place: Bench) -> Path:
    return place.server.data


def drive_on(server: BossServer, path: Path, *options: str) -> int:
    return drive(server, path, *where(server, "given", "volume", BOX), "--no-plots", "--quiet", *options).code


@pytest.mark.slow
def test_the_command_line_ends_with_the_documented_code_and_goes_on(place: Bench, data: Path, tmp_path: Path) -> None:
    """With all pulls at once, real workers, and the patience of every day."""
    faults = [
        {"fault": "truncated", "on": "cutout-get", "first": 1, "times": 2},
        {"fault": "quota", "on": "cutout-get", "first": 5, "times": None},
    ]
    options = ["--block-size", "1,64,64", "--cpus", "1", "--out-exp", "by-command"]
    with start_boss(data, "--faults", json.dumps({"rules": faults})) as server:
        assert drive_on(server, tmp_path, *options) == 69
    with start_boss(data, "--faults", json.dumps({"rules": [{"fault": "503", "times": 1}]})) as server:
        assert drive_on(server, tmp_path, *options) == 0
    job = replace(place.job(), path=tmp_path, out_collection="collman_nomads", out_experiment="by-command")
    assert place.delivered(job) == place.reference


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_table_of_all_faults_and_of_many_mixtures_has_nothing_wrong(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # `test_parts` has the twelfth request
    monkeypatch.setattr(table, "IN_PARTS", ((40, False), (1, True)))
    # what ends a run that hangs writes to the descriptor itself
    assert table.main(["--runs", "60", "--seed", "1000"]) == 0
    printed = capfd.readouterr().out
    assert "0 wrong" in printed
    for fault in itertools.chain(FAULTS, ["mixtures"]):
        assert f"| {fault} |" in printed
