"""What a container allows counts, whichever kind of control groups its kernel has."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse import machine
from nd_synapse.errors import UsageError
from nd_synapse.values import parse_gib

HUGE = 2**62
"""More than any machine has; older kernels say such a number where there is no limit."""


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups with nothing in it, on a machine of eight cores."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    return tmp_path


def limited(groups: Path, own: str, **files: str) -> None:
    """Write the file of this process, and limits; a double underscore stands for a slash, a single one for a stop."""
    (groups / "own").write_text(own)
    for name, text in files.items():
        path = groups.joinpath(*name.split("__"))
        path = path.with_name(path.name.replace("_", ".", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1)]
)
def test_cores_are_those_that_a_group_allows_the_whole_time_of(groups: Path, quota: str, cores: int) -> None:
    limited(groups, "0::/job\n", job__cpu_max=quota)
    assert machine.available_cores() == cores
    assert machine.default_cpus() == max(1, cores - 1)


def test_older_groups_count_as_well(groups: Path) -> None:
    own = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"
    limited(groups, own, memory__memory_limit_in_bytes=str(2**29))
    (groups / "cpu,cpuacct").mkdir()
    (groups / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("200000\n")
    assert (machine.available_cores(), machine.available_bytes()) == (2, 2**29)


def test_no_limit_of_older_groups_is_none(groups: Path) -> None:
    limited(groups, "4:memory:/\n", memory__memory_limit_in_bytes=str(HUGE))
    assert machine.available_bytes() < HUGE


def test_the_smallest_limit_of_a_group_and_those_above_it_counts(groups: Path) -> None:
    limited(groups, "0::/a/b\n", a__memory_max=str(2**30), a__b__memory_max=str(2**31))
    assert machine.available_bytes() == 2**30


def test_without_control_groups_the_machine_counts(groups: Path) -> None:
    assert machine.available_cores() == 8
    assert machine.available_bytes() > 2**26


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (8, 7)])
def test_there_is_at_least_one_worker(groups: Path, monkeypatch: pytest.MonkeyPatch, cores: int, workers: int) -> None:
    """The historical pool had none on a machine of one core."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    assert machine.default_cpus() == workers


@given(used=st.integers(1, 2**45))
def test_for_any_memory_that_is_used_the_limit_that_is_printed_suffices_and_is_little_more(used: int) -> None:
    limit = parse_gib("--memory", machine.in_gib(machine.sufficient_bytes(used)))
    assert used <= machine.usable_bytes(limit)
    assert limit <= used / 0.9 + 2**30 / 100 + 1


@pytest.mark.parametrize(
    "environ", [{}, {"OMP_NUM_THREADS": "4,2"}, {"MKL_NUM_THREADS": " 8 "}, {"LOKY_MAX_CPU_COUNT": ""}]
)
def test_settings_of_threads_that_libraries_take_are_taken(environ: dict[str, str]) -> None:
    machine.check_environment(environ)


@pytest.mark.parametrize("number", ["abc", "-1", "1.5", "4,x", "99999", "٣"])
def test_any_other_setting_of_threads_is_named(number: str) -> None:
    with pytest.raises(UsageError, match="OMP_NUM_THREADS in the environment"):
        machine.check_environment({"OMP_NUM_THREADS": number})
