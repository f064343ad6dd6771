"""A plan is known before anything is submitted, at once, and says which limits bind."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.estimates import BOSS_PULLS, load_of, middle
from batch.machines import size_for
from batch.phases import PHASES
from batch.plan import BatchPlan, duration, size
from batch.planning import Wishes, plan_of, planned
from batch.prices import PATH, read_prices
from benchmarks.imagined import TERAVOXEL, plan_over
from nd_synapse.blocks.shared_store import Part
from nd_synapse.boss.cutouts import pieces_of, request_size
from nd_synapse.credentials import Token
from nd_synapse.detection.budget import check_memory, needs_of
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box, Frame
from nd_synapse.job import forecast
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.job import Job
from nd_synapse.values import parse_gib

SMALL = Box.of_shape((32, 1024, 1024))
LARGE = Box.of_shape((64, 30_000, 20_000))

FARGATE_GIB = {
    1: range(2, 9),
    2: range(4, 17),
    4: range(8, 31),
    8: range(16, 61, 4),
    16: range(32, 121, 8),
}
"""The sizes of the documentation of ECS."""


@pytest.fixture(scope="module")
def planned_in() -> tuple[BatchPlan, float]:
    """Return the plan of a teravoxel, and how long it took."""
    started = time.monotonic()
    return planned(plan_over(TERAVOXEL), Wishes()), time.monotonic() - started


class TestTeravoxel:
    """10 ** 12 voxels in four channels."""

    def test_is_planned_in_seconds(self, planned_in: tuple[BatchPlan, float]) -> None:
        assert planned_in[1] < 5

    def test_runs_in_arrays_whose_children_take_minutes(self, planned_in: tuple[BatchPlan, float]) -> None:
        plan, _ = planned_in
        assert plan.blocks == 120_050
        assert 1 < plan.shards <= 10_000
        for phase in plan.phases:
            low, high = phase.child_s
            assert phase.jobs == 1 or 30 < low < high < 1800

    def test_bounds_what_is_pulled_at_the_same_time_and_says_that_boss_binds(
        self, planned_in: tuple[BatchPlan, float]
    ) -> None:
        plan, _ = planned_in
        assert plan.child.pulls is not None
        assert plan.children_at_once * plan.child.pulls <= BOSS_PULLS
        assert (plan.report.pulls or 0) <= BOSS_PULLS
        assert plan.is_bound_by_boss
        assert "BOSS binds" in plan.as_text()
        assert "24 vCPUs suffice for statistics," in plan.as_text()
        assert "the times of the other arrays are for 64" in plan.as_text()
        assert "gateway endpoint" in plan.as_text()
        assert "429" in plan.as_text()

    def test_asks_boss_for_every_voxel_once(self, planned_in: tuple[BatchPlan, float]) -> None:
        plan, _ = planned_in
        assert plan.pulled_bytes == plan.volume_bytes
        assert "1.0 times the volume" in plan.as_text()
        assert plan.cost.s3_day > 0

    def test_pulls_a_volume_in_a_bucket_three_times_and_half_a_time_more_for_halos(self) -> None:
        plan = planned(plan_over(TERAVOXEL), Wishes(shares_tiles=False))
        assert 3 * plan.volume_bytes < plan.pulled_bytes < 3.5 * plan.volume_bytes

    def test_says_nothing_of_boss_where_the_volume_is_in_a_bucket(self) -> None:
        plan = planned(plan_over(TERAVOXEL), Wishes(shares_tiles=False, reads_boss=False, push=False))
        assert "the source binds" in plan.as_text()
        assert "BOSS" not in plan.as_text()

    def test_needs_no_more_than_small_machines(self, planned_in: tuple[BatchPlan, float]) -> None:
        """The report joined, measured and drew alone, on 22 vCPU and 176 GiB."""
        plan, _ = planned_in
        for container in (plan.child, plan.report):
            assert container.vcpus <= 2
            assert container.memory_mib <= 8 * 1024

    def test_takes_between_six_and_twenty_hours_and_a_terabyte_of_disk(
        self, planned_in: tuple[BatchPlan, float]
    ) -> None:
        """One process wrote all masks and labels, and each mask three times: 29 hours, and 2.7 TiB."""
        plan, _ = planned_in
        assert 6 < sum(middle(phase.seconds) for phase in plan.phases) / 3600 < 20
        assert plan.report_disk_gib < 1200

    def test_says_that_fargate_has_no_disk_for_its_masks_and_labels(self) -> None:
        with pytest.raises(UsageError, match="Fargate"):
            planned(plan_over(TERAVOXEL), Wishes(compute="FARGATE"))

    def test_is_the_same_plan_as_json(self, planned_in: tuple[BatchPlan, float]) -> None:
        plan, _ = planned_in
        plain = json.loads(json.dumps(plan.as_json()))
        assert plain["shards"] == plan.shards
        assert plain["box"] == {"z": [0, 64], "y": [0, 125_000], "x": [0, 125_000]}
        assert plain["child"]["memory_mib"] == plan.child.memory_mib
        assert [phase["name"] for phase in plain["phases"]] == list(PHASES)
        assert plain["cost"]["on_demand"] == list(plan.cost.on_demand)
        assert plain["assumed"]


class TestSmall:
    """What one machine does in minutes is one job."""

    def test_is_one_job_whose_memory_is_that_of_the_detection(self) -> None:
        detection = plan_over(SMALL)
        plan = planned(detection, Wishes(compute="FARGATE"))
        assert plan.shards == 1
        assert [phase.name for phase in plan.phases] == ["single"]
        assert plan.child == plan.report
        needed = needs_of(detection, plan.report.cpus, plan.report.pulls or 0).memory_bytes
        assert plan.report.memory_mib * 2**20 * 0.9 >= needed
        assert plan.pulled_bytes == plan.volume_bytes == SMALL.voxels * 4
        assert plan.cost.s3_day > 0
        assert planned(detection, Wishes(shares_tiles=False)).cost.s3_day == 0
        assert not plan.is_bound_by_boss
        assert "BOSS binds" not in plan.as_text()
        assert "array" in plan.as_text()

    def test_is_an_array_where_the_user_asks_for_one(self) -> None:
        plan = planned(plan_over(SMALL), Wishes(shards=4))
        assert [(phase.name, phase.jobs) for phase in plan.phases] == [
            ("statistics", 4),
            ("detection", 4),
            ("contacts", 4),
            ("join", 1),
            ("objects", 4),
            ("push", 4),
            ("report", 1),
        ]
        assert plan.pulled_bytes == plan.volume_bytes
        assert planned(plan_over(SMALL), Wishes(shards=4, shares_tiles=False)).pulled_bytes > 3 * plan.volume_bytes

    def test_takes_the_block_size_workers_and_memory_that_the_user_asks_for(self) -> None:
        plan = planned(
            plan_over(SMALL, block_size=(16, 200, 300)),
            Wishes(shards=2, cpus=3, pulls=5, memory_bytes=6 * 2**30, keeps_blocks=True),
        )
        assert plan.block_size == (16, 200, 300)
        assert (plan.child.cpus, plan.child.pulls, plan.report.cpus, plan.report.pulls) == (3, 5, 3, 5)
        assert plan.child.memory_mib == 6 * 1024

    @pytest.mark.parametrize("gib", [0.7, 1, 2, 6])
    def test_fits_the_memory_that_the_user_gives_as_its_driver_reckons_it(self, gib: float) -> None:
        """Otherwise a container would refuse what was planned for it, after others had been paid for."""
        detection = plan_over(SMALL)
        plan = planned(detection, Wishes(memory_bytes=int(gib * 2**30), shards=2))
        for container in (plan.child, plan.report):
            cut = replace(detection, block_size=plan.block_size)
            check_memory(cut, container.cpus, container.pulls or 0, int(gib * 2**30))

    def test_has_smaller_blocks_where_memory_is_short(self) -> None:
        plan = planned(plan_over(SMALL), Wishes(memory_bytes=700 * 2**20))
        assert plan.block_size < planned(plan_over(SMALL), Wishes()).block_size

    @pytest.mark.parametrize("block_size", [(32, 1024, 2048), (32, 512, 512), (16, 512, 512), (16, 128, 256)])
    def test_counts_requests_as_boss_would(self, block_size: tuple[int, int, int]) -> None:
        detection = plan_over(Box.of_shape((64, 2048, 4096)), block_size=block_size)
        load = load_of(detection, push=True)
        requested = sum(len(pieces_of(tile)) for tile in detection.box.tiles(detection.block_size, aligned=True))
        assert load.blocks * load.tile_requests == pytest.approx(requested * 4, rel=0.1)
        parts = len(list(detection.box.tiles(request_size(detection.box.shape), aligned=True)))
        assert load.push_requests == 3 * parts * len(detection.pipeline.masks)
        assert load_of(detection, push=False).push_requests == 0


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 100), st.integers(1, 20_000), st.integers(1, 20_000)),
    channels=st.integers(2, 6),
    dtype=st.sampled_from(["uint8", "uint16"]),
    pulls=st.integers(1, 130),
)
def test_for_any_volume_a_plan_keeps_what_limits_there_are(
    shape: tuple[int, int, int], channels: int, dtype: str, pulls: int
) -> None:
    plan = planned(plan_over(Box.of_shape(shape), channels, dtype), Wishes(pulls=pulls))
    assert 1 <= plan.shards <= min(plan.blocks, 10_000)
    assert plan.children_at_once == 1 or plan.children_at_once * pulls <= BOSS_PULLS
    assert 0 < plan.seconds[0] <= plan.seconds[1]
    assert plan.cost.on_demand[0] <= plan.cost.on_demand[1]
    assert plan.cost.spot[0] <= plan.cost.on_demand[1]
    assert plan.pulled_bytes >= plan.volume_bytes == plan.box.voxels * channels * np.dtype(dtype).itemsize
    assert plan.request_bytes <= 545_259_520
    for phase in plan.phases:
        timeout_s = (plan.child if phase.jobs > 1 else plan.report).timeout_s
        assert timeout_s >= 2 * phase.child_s[1] or timeout_s == 14 * 86400
    assert all(len(line) < 200 for line in plan.as_text().splitlines())
    json.dumps(plan.as_json())


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 100), st.integers(2000, 20_000), st.integers(2000, 20_000)),
    axis=st.integers(0, 2),
    compute=st.sampled_from(["EC2", "FARGATE"]),
)
def test_for_any_volume_more_of_it_takes_more(shape: tuple[int, int, int], axis: int, compute: Any) -> None:
    """With as many shards: a plan that may choose may come to a better number."""
    more = [4 * n if axis == a else n for a, n in enumerate(shape)]
    wishes = Wishes(compute=compute, shards=3, cache_bytes=2**30)
    try:
        one, other = (planned(plan_over(Box.of_shape(extents)), wishes) for extents in (shape, more))
    except UsageError as error:
        assert "shards" in str(error) or "Fargate" in str(error)  # noqa: PT017 - either is an answer
        return
    assert one.pulled_bytes < other.pulled_bytes
    assert one.seconds < other.seconds
    assert one.cost.on_demand[0] < other.cost.on_demand[0]
    assert one.report.memory_mib <= other.report.memory_mib
    assert one.child.memory_mib <= other.child.memory_mib


def test_more_channels_and_larger_voxels_take_more() -> None:
    wishes = Wishes(shards=40)
    plans = [planned(plan_over(LARGE, n, dtype), wishes) for n, dtype in ((2, "uint8"), (4, "uint8"), (4, "uint16"))]
    for one, other in pairwise(plans):
        assert other.pulled_bytes == 2 * one.pulled_bytes
        assert one.seconds[1] < other.seconds[1]
    assert plans[1].child.memory_mib <= plans[2].child.memory_mib


def test_memory_of_a_child_does_not_grow_with_the_volume() -> None:
    one, other = (planned(plan_over(box), Wishes(shards=64)) for box in (Box.of_shape((64, 8192, 8192)), LARGE))
    assert other.child.memory_mib - one.child.memory_mib <= 256


class TestRefusals:
    """What cannot be is refused before anything is submitted, with what helps."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("box", "wishes", "words"),
        [
            (SMALL, {"shards": 5}, "a block of its own"),
            (SMALL, {"compute": "FARGATE", "cpus": 17}, "fewer --cpus"),
            (SMALL, {"memory_bytes": 2**28}, "or --memory 0"),
            (SMALL, {"memory_bytes": 2**29, "keeps_blocks": True}, "--block-size"),
            (Box.of_shape((64, 60_000, 40_000)), {"compute": "FARGATE", "shards": 2}, "--cache"),
            (LARGE, {"memory_bytes": 832 * 2**20}, "the whole box needs"),
            (TERAVOXEL, {"compute": "FARGATE"}, "smaller box"),
            (SMALL, {"memory_bytes": 2**41}, "larger machine"),
            (Box.of_shape((640, 125_000, 125_000)), {}, "too many for 1,000,000 blocks"),
            (Box.of_shape((10**9 - 1,) * 3), {}, "Take a smaller box"),
        ],
        ids=lambda value: "_".join(value) if isinstance(value, dict) else None,
    )
    def test_a_run_that_cannot_be_is_refused(self, box: Box, wishes: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            planned(plan_over(box), Wishes(**wishes))


class TestSizes:
    """Containers have sizes that exist."""

    @given(vcpus=st.integers(1, 16), memory_mib=st.integers(1, 130_000))
    def test_for_any_need_fargate_gets_the_smallest_of_its_sizes_that_holds_it(
        self, vcpus: int, memory_mib: int
    ) -> None:
        fitting = [
            (cores, gib * 1024)
            for cores, sizes in FARGATE_GIB.items()
            for gib in sizes
            if cores >= vcpus and gib * 1024 >= memory_mib
        ]
        if fitting:
            chosen = size_for("FARGATE", vcpus, memory_mib)
            assert (chosen.vcpus, chosen.memory_mib) == min(fitting)
        else:
            with pytest.raises(UsageError, match="Use EC2"):
                size_for("FARGATE", vcpus, memory_mib)

    @given(vcpus=st.integers(1, 128), memory_mib=st.integers(1, 1_000_000))
    def test_for_any_need_ec2_gets_it_and_little_more(self, vcpus: int, memory_mib: int) -> None:
        chosen = size_for("EC2", vcpus, memory_mib)
        assert chosen.vcpus >= vcpus
        assert memory_mib <= chosen.memory_mib < memory_mib + 256
        assert chosen.memory_mib <= chosen.vcpus * 8 * 1024


class TestPrices:
    """They come from a file that says where they are from."""

    def test_every_part_of_the_file_has_its_date_and_its_page(self) -> None:
        values = json.loads(PATH.read_text(encoding="utf-8"))
        assert "check before use" in values["about"]
        for part in ("fargate", "ec2", "s3", "network"):
            assert values[part]["as_of"]
            assert values[part]["page"].startswith("https://aws.amazon.com/")

    def test_what_the_file_says_is_what_is_reckoned_with(self) -> None:
        prices = read_prices()
        hour = 2 * prices.fargate_vcpu_hour + 4 * prices.fargate_gib_hour
        low, high = prices.per_second("FARGATE", 2, 4096, spot=False)
        assert low == high == pytest.approx(hour / 3600)
        with_disk, _ = prices.per_second("FARGATE", 2, 4096, spot=False, disk_gib=120)
        assert with_disk - low == pytest.approx(100 * prices.fargate_storage_gib_hour / 3600)

    @pytest.mark.parametrize("compute", ["EC2", "FARGATE"])
    def test_spot_costs_less_and_more_memory_costs_more(self, compute: Any) -> None:
        prices = read_prices()
        _, spot = prices.per_second(compute, 2, 4096, spot=True)
        on_demand, _ = prices.per_second(compute, 2, 4096, spot=False)
        larger, _ = prices.per_second(compute, 2, 16384, spot=False)
        assert spot < on_demand < larger

    @pytest.mark.parametrize("text", ["{", "{}", '{"fargate": 1, "ec2": 1, "s3": 1, "network": 1}'])
    def test_a_file_that_was_edited_wrongly_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        (tmp_path / "prices.json").write_text(text)
        monkeypatch.setattr("batch.prices.PATH", tmp_path / "prices.json")
        with pytest.raises(UsageError, match="Restore it"):
            read_prices()

    def test_other_prices_give_other_costs(self) -> None:
        prices = read_prices()
        dearer = replace(prices, s3_put=2 * prices.s3_put, s3_get=2 * prices.s3_get)
        one, other = (planned(plan_over(LARGE), Wishes(), some).cost.s3 for some in (prices, dearer))
        assert other == pytest.approx(2 * one)


class Opened:
    """What a plan asks an opened volume for."""

    channels = image_channels = requested_channels = ("PSD95_1", "synapsin_1", "DAPI")
    frame = Frame("opened", LARGE, (70.0, 100.0, 100.0))
    identity = "opened"
    is_service = True

    def dtype(self, channel: str) -> np.dtype[Any]:
        return np.dtype(np.uint16)


def test_a_job_is_planned_as_its_driver_would_do_it() -> None:
    job = Job(
        host="boss.invalid",
        token=Token("never-shown"),
        collection="col",
        experiment="exp",
        box=LARGE,
        block_size=(16, 512, 512),
        feature_channels=("DAPI",),
        pulls=4,
        cache_bytes=2**34,
        push=False,
    )
    plan = plan_of(job, Opened(), "FARGATE", shards=200, cpus=1)  # type: ignore[arg-type] # what planning asks of a source
    assert (plan.shards, plan.block_size, plan.channels) == (200, (16, 512, 512), 3)
    assert (plan.child.cpus, plan.child.pulls, plan.child.vcpus) == (1, 4, 1)
    assert plan.phases[0].boss_requests == pytest.approx(plan.blocks * 3, rel=1)
    assert "never-shown" not in plan.as_text() + json.dumps(plan.as_json())


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (size(0), "0 B"),
        (size(1536), "1.5 KiB"),
        (size(2**52), "4,096.0 TiB"),
        (duration(90), "90 s"),
        (duration(180), "3 min"),
    ],
)
def test_sizes_and_times_are_printed_in_units_that_suit_them(told: str, text: str) -> None:
    assert told == text


def test_what_is_planned_for_a_child_is_what_its_driver_finds_enough(tmp_path: Path) -> None:
    requested = {"host": "h.invalid", "token": Token("x12345678"), "collection": "c", "experiment": "e", "push": False}
    job = Job(**requested, box=Box.of_shape((64, 12_000, 12_000)))  # type: ignore[arg-type] # options of any kind
    batch = plan_of(job, Opened())  # type: ignore[arg-type] # what planning asks of a source
    settled = replace(
        job,
        block_size=batch.block_size,
        cpus=batch.child.cpus,
        pulls=batch.child.pulls or 0,
        memory_bytes=batch.child.memory_mib * 2**20,
        shared="s3://bucket/run",
        path=tmp_path,
    )
    roles = job.pipeline.choose(Opened.channels, {})
    folder = ResultFolder.named(tmp_path, job.results_key)
    for index in (0, batch.shards - 1):
        part = Part("detection", index, batch.shards)
        found = forecast.plan_of(replace(settled, part=part), Opened(), roles, folder)  # type: ignore[arg-type] # what planning asks of a source
        assert found.block_size == batch.block_size


extents = st.tuples(st.integers(0, 500), st.integers(1, 400)).map(lambda pair: (pair[0], sum(pair)))
wide = st.tuples(st.integers(0, 9_000), st.integers(1, 20_000)).map(lambda pair: (pair[0], sum(pair)))


@given(
    box=st.builds(Box, extents, wide, wide),
    cpus=st.integers(1, 64),
    pulls=st.integers(1, 999),
    size=st.none() | st.sampled_from([(16, 512, 512), (8, 100, 3000), (64, 1024, 1024)]),
    memory_gib=st.none() | st.floats(1.0, 60.0),
)
def test_for_any_box_the_memory_that_the_plan_prints_suffices(
    tmp_path_factory: pytest.TempPathFactory,
    box: Box,
    cpus: int,
    pulls: int,
    size: tuple[int, int, int] | None,
    memory_gib: float | None,
) -> None:
    """It used to print what is used, of which nine tenths of ``--memory`` have to be made."""
    requested: dict[str, Any] = {"host": "h.invalid", "token": Token("x12345678"), "push": False, "pulls": pulls}
    job = Job(**requested, collection="c", experiment="e", box=box, cpus=cpus, block_size=size)
    roles = job.pipeline.choose(Opened.channels, {})
    folder = ResultFolder.named(tmp_path_factory.getbasetemp() / "none", job.results_key)
    limit = None if memory_gib is None else int(memory_gib * 2**30)
    try:
        first = forecast.plan_of(replace(job, memory_bytes=limit), Opened(), roles, folder)  # type: ignore[arg-type] # what planning asks of a source
    except UsageError as refused:
        text = refused.found
    else:
        text = forecast.forecast(job, first)
    printed = re.search(r"need (?:--memory )?([0-9.]+)|--memory ([0-9.]+) \(GiB\) is enough", text)
    assert printed is not None, text
    again = replace(job, memory_bytes=parse_gib("--memory", printed[1] or printed[2]))
    plan = forecast.plan_of(again, Opened(), roles, folder)  # type: ignore[arg-type] # what planning asks of a source
    settled = replace(again, block_size=plan.block_size)
    assert forecast.plan_of(settled, Opened(), roles, folder).block_size == plan.block_size  # type: ignore[arg-type] # what planning asks of a source
