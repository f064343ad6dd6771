"""The page of the report: it is complete, safe, the same for the same input, and never half-written."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from nd_synapse.errors import StorageError
from nd_synapse.report import report
from nd_synapse.report.look import figure, house_style, legend_above, legend_columns
from nd_synapse.report.page import file_name
from nd_synapse.report.plot import Drawing, Plot, show
from nd_synapse.report.table import NothingToDrawError
from pymeda_driver import RunFacts, draw_report, pymeda_pipeline, write_report
from tests.report.conftest import Page, Written
from tests.report.examples import BOX, FACTS, PLOTS, ROOT, VOXEL_NM, draw, drawn, subject, synapses, volumes


def test_the_page_is_called_pymeda(whole):
    assert list(whole.file.parent.glob("*PyMeda*")) == [whole.file]
    assert whole.file.name == "PyMeda_plots.html"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("PyMeda Plots on All Predicted Synapses", "PyMeda_plots-on-all-predicted-synapses.html"),
        ("../../etc/<b>Größe</b>", "PyMeda_etc-b-groe-b.html"),
        ("PyMeda", "PyMeda_report.html"),
        ("", "PyMeda_report.html"),
        ("シナプス", "PyMeda_report.html"),
        ("x" * 300, f"PyMeda_{'x' * 80}.html"),
    ],
)
def test_any_title_gives_a_plain_file_name(title, name):
    assert file_name(title) == name


def test_every_figure_is_drawn_and_saved(whole):
    assert set(whole.figures) == set(PLOTS)
    assert len(whole.page.all("img", "src")) == len(PLOTS) + 6, "and six synaptograms in the verdict"
    assert "Not drawn" not in whole.page.text
    assert "could not be drawn" not in whole.page.text
    for path in whole.figures.values():
        with Image.open(path) as image:
            assert image.mode == "P"
            assert image.width >= 1000


def test_the_plots_have_the_names_and_the_order_of_pymeda():
    titles = [plot.title for plot in PLOTS.values()]
    pymeda = [
        "Representative Heatmap",
        "Ridge Line Plot",
        "Location Heatmap",
        "Location Lines",
        "Correlation Matrix",
        "Scree Plot",
        "Hierarchical GMM Dendrogram",
        "Pair Plot",
        "Cluster Stacked Means",
        "Cluster Mean Heatmap",
        "Cluster Mean Lines",
    ]
    appendix = [plot.title for slug, *_, plots in report.CHAPTERS if slug == "appendix" for plot in plots]
    assert appendix[: len(pymeda)] == pymeda
    assert titles[-len(appendix) :] == appendix


def test_the_sections_come_in_their_order(whole):
    ids = [attributes["id"] for tag, attributes in whole.page.elements if tag == "section"]
    assert ids == ["verdict", "viewer", "table", "quality", "populations", "methods", "appendix"]


def test_the_page_forbids_every_load_and_requests_none(whole):
    page = whole.page
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"] == [policy]
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "live-data"}, {}]
    assert not any(tag in {"iframe", "object", "embed", "base", "form"} for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert all(source.startswith("data:image/png;base64,") for source in page.all("img", "src"))
    assert page.all("link", "href") == ["data:,"]
    assert "url(" not in whole.text
    assert "@import" not in whole.text


def test_network_addresses_are_in_the_links_of_the_run_only(whole):
    page = whole.page
    assert [href for href in page.all("a", "href") if not href.startswith("#")] == ["https://boss.example/channel"]
    assert whole.text.index('id="methods"') < whole.text.index("https://boss.example")
    assert "s3://bucket/key" in page.text
    assert "javascript:alert(1)" in page.text


def test_ids_are_unique_and_every_link_of_the_contents_has_a_target(whole):
    page = whole.page
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert max(ids.values()) == 1
    inner = [href[1:] for href in page.all("a", "href") if href.startswith("#")]
    assert len(inner) > 6
    assert set(inner) <= set(ids)
    assert {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes} <= set(
        ids
    )


def test_every_image_has_an_alternative_text_and_a_caption_with_numbers(whole):
    assert all(len(alt) > 15 for alt in whole.page.all("img", "alt"))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", whole.text, re.DOTALL)
    assert len(captions) == len(PLOTS) + 1
    assert all(re.search(r"\d", caption) for caption in captions[1:])
    assert sum("1,500" in caption for caption in captions) >= len(captions) - 7


def test_headings_descend_without_a_gap(whole):
    levels = [int(tag[1]) for tag, _ in whole.page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_shows_number_density_place_pipeline_request_and_the_first_rows(whole):
    density = 1500 / (12 * 200 * 300 * 7e-4)
    shown = ("1,500", f"{density:.3g} per µm³", "nomads-unsupervised", "z 100\N{EN DASH}112")
    for text in (*shown, "collection", "3.75 s", "The first 50 of 1,500 rows"):
        assert text in whole.page.text


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_on_any_number_of_cores_and_with_any_settings(whole, tmp_path):
    """A second process has one thread, another hash seed and a matplotlibrc of its own."""
    program = (
        "import hashlib; from pathlib import Path; from tests.report import examples, test_page;"
        "examples.whole().write(Path('report'), examples.FACTS); print(test_page.clusters_of_a_sample())"
    )
    (tmp_path / "matplotlibrc").write_text("font.size: 40\naxes.grid: True\n")
    settings = {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": str(tmp_path), "PYTHONPATH": str(ROOT)}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, **settings, **threads},
        check=True,
        timeout=300,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (tmp_path / "report" / "PyMeda_plots.html").read_bytes() == whole.file.read_bytes()
    assert done.stdout.strip() == clusters_of_a_sample()


def clusters_of_a_sample() -> str:
    """Return a digest of clusters that are fitted to a sample of the rows."""
    found = subject(synapses(21_000)).clusters
    return hashlib.sha256(found.values.tobytes() + found.labels.tobytes()).hexdigest()


@pytest.mark.slow
def test_a_page_written_again_has_new_facts_and_leaves_the_figures_alone(whole, tmp_path):
    first = Written.of(whole.report, tmp_path)
    before = {path: path.stat().st_ino for path in first.figures.values()}
    again = Written.of(whole.report, tmp_path, replace(FACTS, synthetic=True, notes=["news"]))
    assert "Synthetic data" not in first.page.text
    assert "Synthetic data" in again.page.text
    assert "news" in again.page.text
    assert {path: path.stat().st_ino for path in again.figures.values()} == before


@pytest.mark.slow
def test_titles_channels_and_notes_cannot_inject_markup(tmp_path):
    evil = "<script>alert('x')</script>"
    report = draw_report(
        title=f"T {evil}",
        table={f"mean_{evil}": np.arange(9.0), "mean_$x_{": np.arange(9.0)[::-1] ** 2, "<b>&": np.arange(9)},
        facts=RunFacts(),
        overviews={evil: np.eye(40)},
        mask_overviews={evil: np.eye(40)},
    )
    facts = RunFacts(requested={evil: evil}, links={evil: f'https://h.example/"{evil}'}, notes=[evil], pipeline=evil)
    found = Written.of(report, tmp_path, facts)
    assert found.text.count("<script") == 2, "the data and the script of the page"
    assert found.page.text.count(evil) >= 8
    assert "could not be drawn" not in found.page.text


def test_a_run_without_synapses_gives_a_page_that_says_so(empty):
    assert "no synapse was found" in empty.page.text
    assert "could not be drawn" not in empty.page.text
    assert "The table has no rows." in empty.page.text
    assert {"outlines", "outlines-detail"} <= set(empty.figures)
    assert "sizes" not in empty.figures


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 10])
def test_few_synapses_give_a_page_that_says_so(tmp_path, n):
    found = Written.of(drawn({**synapses(n), "in_Gaba": np.arange(n) % 2 == 0}, projections=False), tmp_path)
    assert "could not be drawn" not in found.page.text
    assert f"only {n}" in found.page.text
    assert "sizes" in found.figures
    assert ("correlation-matrix" in found.figures) == (n > 1)


@pytest.mark.slow
def test_many_channels_give_every_figure(many_channels):
    assert "could not be drawn" not in many_channels.page.text
    assert "the first 12 of 17" in many_channels.page.text
    assert {"ridge-line", "correlation-matrix", "synaptograms-extreme", "groups"} <= set(many_channels.figures)


def test_figures_whose_columns_are_missing_are_replaced_by_the_reason(tmp_path):
    table = {"a": np.arange(20.0), "b": np.arange(20.0) ** 2}
    file = write_report(tmp_path, title="t", table=table, facts=RunFacts(), overviews={}, mask_overviews={})
    page = Page(file.read_text(encoding="utf-8"))
    for reason in (
        "The report was drawn without projections of the images.",
        "The table has no column “voxels”.",
        "The table has no centroids along z.",
        "The table has no centroids in voxels along z, y, x.",
        "All synapses are in one mask and of one class; there is nothing to compare.",
        "The report was drawn from the table alone, without the voxels of the images.",
    ):
        assert reason in page.text
    assert page.text.count("without projections") == 1, "one sentence for all figures of a chapter"
    assert {slug for slug, plot in PLOTS.items() if plot.title in page.text} == set(PLOTS)
    assert "could not be drawn" not in page.text
    assert (tmp_path / "figures" / "correlation-matrix.png").exists()
    assert (tmp_path / "figures" / "colocalisation.png").exists()


def with_plots(*plots: Plot):
    """Return the chapters of the page with these plots alone."""
    return tuple((slug, *words, plots if slug == "quality" else ()) for slug, *words, _ in report.CHAPTERS)


def test_the_log_names_each_figure_as_it_is_drawn(monkeypatch, caplog):
    monkeypatch.setattr(report, "CHAPTERS", with_plots(PLOTS["sizes"], PLOTS["scree"]))
    with caplog.at_level("INFO", logger="nd_synapse.report"):
        draw_report(title="t", table=synapses(30), facts=FACTS, overviews={}, mask_overviews={})
    said = [record.getMessage().rsplit(",", 1)[0] for record in caplog.records]
    assert said == ["figure 1 of 2: Sizes", "figure 2 of 2: Scree Plot"]


def test_a_mask_has_the_same_colour_in_every_figure():
    table = {**synapses(400), "in_Gaba": np.arange(400) < 100, "class": np.array(["exc", "inh"])[np.arange(400) % 2]}
    images, masks = volumes(table)
    masks["Gaba"] = masks["synapses"] * (np.arange(BOX.shape[2]) < 100).astype(np.uint8)
    made = subject(table, images=images, masks=masks)
    of = replace(
        made, masks={name: mask.max(0) for name, mask in masks.items()}, overviews={"A": images["GABA"].max(0)}
    )
    (legend,) = draw("outlines", of).figure.legends
    outlined = {
        text.get_text(): to_hex(line.get_color()) for text, line in zip(legend.texts, legend.get_lines(), strict=True)
    }
    bars = draw("groups", of).figure.axes[0]
    names = [label.get_text() for label in bars.get_yticklabels()]
    coloured = {name: to_hex(bar.get_facecolor()) for name, bar in zip(names, bars.patches, strict=True)}
    assert list(coloured) == ["synapses", "Gaba", "exc", "inh"]
    assert outlined == {name: coloured[name] for name in ("synapses", "Gaba")}
    assert len(set(coloured.values())) == 4


def test_a_legend_that_would_be_wider_than_the_figure_gets_more_rows():
    assert legend_columns(["cluster 1", "cluster 2", "cluster 3", "cluster 4"]) == 4
    assert legend_columns(["cluster 1 (97.3 %)"] * 4) == 2
    assert legend_columns(["a mask of a name of so and so many letters"] * 16) == 1
    with house_style():
        drawn = figure(3)
        axes = drawn.subplots()
        for i in range(4):
            axes.plot([0, 1], [0, i], label=f"cluster {i} (27.3 %)")
        legend_above(axes)
        drawn.canvas.draw()
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().x1 <= drawn.bbox.x1


def test_a_figure_that_fails_does_not_cost_the_others_and_is_logged(tmp_path, monkeypatch, caplog):
    def boom(subject):
        raise ZeroDivisionError("a defect <here>")

    def page_with(sizes: Plot) -> Page:
        monkeypatch.setattr(report, "CHAPTERS", with_plots(sizes, PLOTS["scree"]))
        made = draw_report(title="t", table=synapses(30), facts=FACTS, overviews={}, mask_overviews={})
        return Written.of(made, tmp_path).page

    page_with(PLOTS["sizes"])
    assert (tmp_path / "figures" / "sizes.png").exists()
    assert "ZeroDivisionError: a defect <here>" in page_with(Plot("sizes", "Sizes", boom)).text
    assert not (tmp_path / "figures" / "sizes.png").exists(), "the figure of the run before must not stay"
    assert (tmp_path / "figures" / "scree.png").exists()
    assert "Traceback" in caplog.text


def test_figures_for_talks_are_the_same_bytes_each_time_with_text_to_edit():
    of = subject(synapses(60))
    first, again = (show(PLOTS["scree"], of, with_svg=True).svg for _ in range(2))
    assert first == again
    assert b"Principal component</text>" in (first or b"")
    assert show(PLOTS["scree"], of).svg is None


def test_a_figure_without_input_has_a_reason_and_has_not_failed():
    def absent(subject):
        raise NothingToDrawError("Not today.")

    shown = show(Plot("a", "A", absent), subject(synapses(3)))
    assert (shown.reason, shown.failed, shown.image) == ("Not today.", False, None)
    made = show(Plot("a", "A", lambda subject: Drawing(Figure(), "c", "a")), subject(synapses(3)))
    assert made.image is not None


@pytest.mark.parametrize("blocked", [".", "figures"], ids=["the folder", "its figures"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, empty, blocked):
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / blocked
    if blocked == ".":
        target.rmdir()
    target.write_text("in the way")
    with pytest.raises(StorageError, match="remove what is in the way") as caught:
        empty.report.write(tmp_path / "out", FACTS)
    assert str(target) in caught.value.requested
    assert "the report" in caught.value.requested


@pytest.mark.slow
@pytest.mark.parametrize("at", ["the first figure", "the page"])
def test_a_full_disk_leaves_the_old_page_and_no_partial_file(tmp_path, whole, many_channels, at):
    """The system refuses to let any file grow beyond a limit: every write that needs more fails half-way."""
    old = Written.of(whole.report, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    largest = max(path.stat().st_size for report in (old, many_channels) for path in report.figures.values())
    assert largest < min(len(old.text), len(many_channels.text))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 if at == "the first figure" else largest, limit[1]))
    try:
        with pytest.raises(StorageError, match="File too large"):
            many_channels.report.write(tmp_path, FACTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert set(after) <= set(before)
    assert after[old.file] == before[old.file]
    if at == "the first figure":
        assert after == before


@pytest.mark.slow
def test_the_real_volume_gives_every_figure(shared_data, tmp_path):
    folder = shared_data / "at_example"
    data = {name: tifffile.imread(folder / f"{name}.tif") for name in ("PSD95", "SYNAPSIN", "GLUR1", "LY")}
    mask = tifffile.imread(folder / "published_detections_mask.tif")
    page = pymeda_pipeline({"published": mask}, data, title="Real", path=tmp_path, voxel_size_nm=VOXEL_NM)
    text = page.read_text(encoding="utf-8")
    assert "2,477" in text
    assert "could not be drawn" not in text
    assert len(list((tmp_path / "figures").iterdir())) == len(PLOTS) - 3, (
        "all but the comparison of several masks, and what a run alone has: scores and the registration"
    )
    assert page.stat().st_size < 6e6


@pytest.mark.slow
def test_a_million_synapses_give_a_small_page(tmp_path):
    table = synapses(1_000_000, tuple(f"C{i}" for i in range(12)))
    page = write_report(tmp_path, title="t", table=table, facts=FACTS, overviews={}, mask_overviews={})
    assert page.stat().st_size < 6e6
    assert "could not be drawn" not in page.read_text(encoding="utf-8")
