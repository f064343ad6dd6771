"""The viewer: what it shows, and what its server answers, read by TensorStore as neuroglancer would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import requests
import zarr

import driver
from nd_synapse.errors import DataError, StorageError, UnknownNameError
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.geometry import Box
from nd_synapse.job.verify import Request, mask_of
from nd_synapse.view import layer as layers
from nd_synapse.view import server
from nd_synapse.view.layer import Layer, outlines
from nd_synapse.view.run import open_run
from nd_synapse.view.scene import Places
from nd_synapse.view.shared import shared_link
from tests.fixtures_boss import REPOSITORY, blobs, fill, start_boss
from tests.in_process import main, restored
from tests.volumes_on_disk import SIZE_NM, write

SHAPE = (6, 60, 70)
CHANNELS = blobs(SHAPE, 5, 25)
BOX: dict[str, Any] = {"z_range": (1, 6), "y_range": (3, 60), "x_range": (2, 70)}


def ran(folder: Path, **volume: Any) -> Path:
    """Run the default pipeline, and return its folder."""
    info, _, _ = driver.driver(path=folder, plots=False, push=False, cpus=1, **BOX, **volume)
    return Path(info["folder"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    write("ome05.zarr", folder / "images.zarr", CHANNELS)
    return ran(folder, source=folder / "images.zarr")


@dataclass
class Viewer:
    url: str
    process: subprocess.Popen[str]

    def state(self, query: str = "") -> dict[str, Any]:
        """Return the state that the first address leads to."""
        page = requests.get(f"{self.url}{query}", timeout=20)
        assert page.text.startswith("<!doctype html>")
        events = page.url.replace("/v/", "/events/").rstrip("/")
        with requests.get(events, params={"c": "a", "gc": "", "gs": ""}, stream=True, timeout=20) as answer:
            message = json.loads(next(answer.iter_lines()).removeprefix(b"data: "))
        assert message["k"] == "s"
        return message["s"]


@contextmanager
def viewed(folder: Path, *words: str, **environment: str) -> Iterator[Viewer]:
    """Run ``nd-synapse view`` on a folder until the context ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nd_synapse", "view", str(folder), "--no-open", "--quiet", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )
    try:
        assert process.stdout is not None
        yield Viewer(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def viewer(run: Path) -> Iterator[Viewer]:
    with viewed(run) as found:
        yield found


def printed(*words: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it printed."""
    out, err = StringIO(), StringIO()
    with restored(), redirect_stdout(out), redirect_stderr(err):
        code = main("nd-synapse", *words)
    return code, out.getvalue(), err.getvalue()


def volume_at(url: str) -> Any:
    """Open a precomputed volume at a URL."""
    tensorstore = pytest.importorskip("tensorstore")
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "http", "base_url": url}}
    return tensorstore.open(spec, read=True).result()


def row(folder: Path, number: int) -> dict[str, str]:
    """Return a row of the table."""
    header, *rows = read_rows(folder / "synapses.csv")
    return dict(zip(header, rows[number - 1], strict=True))


class TestLayers:
    """A chunk is what the source has there."""

    @staticmethod
    def layer(voxels: np.ndarray, start: tuple[int, int, int], labels: bool = False) -> Layer:
        box = Box.of_shape(voxels.shape, start)

        def read(part: Box) -> np.ndarray:
            assert box.contains(part)
            return voxels[part.slices(start)]

        return Layer(box, SIZE_NM, voxels.dtype, read, labels)

    @pytest.mark.parametrize("labels", [False, True])
    def test_every_level_has_the_means_of_images_and_the_largest_of_labels(self, labels: bool) -> None:
        voxels = np.random.default_rng(0).integers(0, 1000, (5, 600, 301)).astype(np.uint16)
        layer = self.layer(voxels, (3, 7, 16), labels)
        scales = layer.info()["scales"]
        assert [scale["key"] for scale in scales] == ["1", "2", "4"]
        assert scales[2]["resolution"] == [400, 400, 70]
        (x, y, z), (_, height, depth) = scales[2]["voxel_offset"], scales[2]["size"]
        assert (x, y, z, height, depth) == (4, 1, 3, 151, 5)
        body = layer.chunk("4", f"{x}-{x + 64}_{y}-{y + 128}_3-8")
        assert body is not None
        found = np.frombuffer(body, "<u2").reshape(5, 128, 64)
        inner = voxels[:, 1 : 1 + 4 * 127, : 4 * 64].reshape(5, 127, 4, 64, 4)
        expected = inner.max((2, 4)) if labels else np.rint(inner.mean((2, 4)))
        assert np.array_equal(found[:, 1:], expected)

    @pytest.mark.parametrize(
        ("key", "name"),
        [
            ("1", "0-64_0-64_0-9"),
            ("1", "0-129_0-64_0-8"),
            ("1", "0-64_0-64_4-12"),
            ("1", "64-0_0-64_0-8"),
            ("1", "a"),
            ("3", "0-64_0-64_0-8"),
            ("x", "0-64_0-64_0-8"),
        ],
    )
    def test_what_is_no_chunk_is_not_read(self, key: str, name: str) -> None:
        """A page that asks for all at once would take all memory."""
        assert self.layer(np.zeros((10, 200, 200), np.uint8), (0, 0, 0)).chunk(key, name) is None

    def test_an_outline_lies_in_its_object_and_leaves_its_middle_free(self) -> None:
        labels = np.zeros((1, 6, 7), np.uint32)
        labels[0, 2:5, 1:4], labels[0, 2:5, 4] = 7, 9
        made = outlines(self.layer(labels, (0, 10, 20), labels=True))
        assert made.extent == Box((0, 1), (40, 64), (80, 108))
        assert made.voxel_size_nm == (70, 25, 25)
        found = made.read(made.extent)
        fine = labels.repeat(4, 1).repeat(4, 2)
        assert np.array_equal(np.unique(found), [0, 7, 9])
        assert (found[found != 0] == fine[found != 0]).all()
        assert np.count_nonzero(found == 7) == 4 * 11
        assert (found[0, 9:19, 5:15] == 0).all()
        part = Box((0, 1), (45, 61), (83, 99))
        assert np.array_equal(made.read(part), found[part.slices(made.extent.start)])


class TestScene:
    """What is seen first."""

    def test_the_densest_tile_is_shown(self) -> None:
        random = np.random.default_rng(1)
        sparse = random.uniform(0, 1000, (300, 3))
        dense = random.uniform((500, 500, 500), (520, 520, 520), (300, 3))
        places = Places(np.arange(1, 601), np.concatenate([sparse, dense]))
        chosen = places.densest((100, 100, 100))
        assert chosen is not None
        assert np.abs(places.centroids[chosen] - 510).max() < 60
        assert Places(np.arange(0), np.empty((0, 3))).densest((1, 1, 1)) is None

    def test_searched_channels_are_in_colour_the_others_wait(self, viewer: Viewer, run: Path) -> None:
        state = viewer.state()
        images = [layer for layer in state["layers"] if layer["type"] == "image"]
        roles = json.loads((run / "run.json").read_bytes())["roles"]
        assert [layer["name"] for layer in images if layer["visible"]] == list(roles.values())
        assert [layer["name"] for layer in state["layers"][-3:]] == ["synapses", "outlines", "points"]
        for layer in images:
            low, high = layer["shaderControls"]["normalized"]["range"]
            assert CHANNELS[layer["name"]].min() <= low < high < 70_000
        assert state["dimensions"] == {"x": [1e-7, "m"], "y": [1e-7, "m"], "z": [7e-08, "m"]}
        assert len(json.dumps(state)) < 6000

    def test_a_synapse_is_opened_by_its_id(self, viewer: Viewer, run: Path) -> None:
        state = viewer.state("?at=3")
        centroid = [float(row(run, 3)[f"centroid_{axis}_voxel"]) for axis in "xyz"]
        assert state["position"] == pytest.approx([place + 0.5 for place in centroid])
        assert state["selection"]["layers"]["points"]["annotationId"] == "3"
        for query in ("?at=0", "?at=a", "?at=99999"):
            assert requests.get(f"{viewer.url}{query}", timeout=20).status_code == 404

    def test_an_id_that_the_table_lacks_is_refused(self, run: Path) -> None:
        code, out, err = printed("view", str(run), "--at", "99999")
        assert (code, out) == (2, "")
        assert "ERROR synapse 99999: the table has the ids 1 to " in err
        with pytest.raises(UnknownNameError, match="the table has no row"):
            Places(np.arange(0), np.empty((0, 3))).row_of(1)


class TestServer:
    """What neuroglancer asks for."""

    def test_images_labels_and_points_are_those_of_the_run(self, viewer: Viewer, run: Path) -> None:
        for layer in viewer.state()["layers"]:
            if layer["type"] == "image":
                found = volume_at(layer["source"].removeprefix("precomputed://"))
                voxels = np.asarray(found[..., 0].read().result()).transpose(2, 1, 0)
                assert np.array_equal(voxels, CHANNELS[layer["name"]])
        labels = volume_at(f"{viewer.url}labels")
        assert labels.domain.origin[:3] == (2, 3, 1)
        voxels = np.asarray(labels[..., 0].read().result()).transpose(2, 1, 0)
        mask = np.asarray(mask_of(run, open_run(Request(folder=run)).run, "All"))
        assert np.array_equal(voxels != 0, mask != 0)
        assert np.count_nonzero(voxels == 3) == int(row(run, 3)["voxels"])
        reader = pytest.importorskip("neuroglancer.read_precomputed_annotations").AnnotationReader(
            f"{viewer.url}points/"
        )
        assert reader.by_id[3].point[0] == np.float32(float(row(run, 3)["centroid_x_voxel"]) + 0.5)

    def test_pages_that_were_left_do_not_use_up_the_connections_of_a_browser(self, viewer: Viewer) -> None:
        """The sixth visit in one tab waited 40 s for a free connection."""
        with ExitStack() as stack:
            pages = [
                stack.enter_context(requests.get(f"{viewer.url}events/first", stream=True, timeout=20))
                for _ in range(server._MOST_EVENTS + 2)
            ]
            for page in pages[:2]:
                assert list(page.iter_lines()) == [b": ", b""]
            assert next(pages[2].iter_lines()) == b": "

    def test_other_names_of_this_machine_are_refused(self, viewer: Viewer) -> None:
        """A page elsewhere could have its name lead here, and read what is served."""
        assert requests.get(viewer.url, headers={"Host": "elsewhere.example"}, timeout=20).status_code == 400
        for path in ("x/info", "labels/1/a", "x/1/0-1_0-1_0-1", "points/../run.json", "points/%2e%2e/run.json"):
            assert requests.get(f"{viewer.url}{path}", timeout=20).status_code == 404

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_at_once_with_0(self, run: Path, number: int) -> None:
        with viewed(run) as viewer, requests.get(f"{viewer.url}events/view", stream=True, timeout=20) as events:
            assert events.status_code == 200
            started = time.monotonic()
            viewer.process.send_signal(number)
            assert viewer.process.wait(10) == 0
            assert time.monotonic() - started < 1

    def test_a_volume_that_goes_away_is_named_and_the_viewer_stays(self, run: Path, tmp_path: Path) -> None:
        write("one.ome.tif", tmp_path / "one.ome.tif", CHANNELS)
        folder = ran(tmp_path, source=tmp_path / "one.ome.tif")
        with viewed(folder) as viewer:
            (tmp_path / "one.ome.tif").write_bytes(b"")
            answer = requests.get(f"{viewer.url}image0/1/0-70_0-60_0-6", timeout=20)
            assert answer.status_code == 503
            assert answer.text.startswith("z 0:6 y 0:60 x 0:70 of ")
            assert requests.get(f"{viewer.url}labels/info", timeout=20).status_code == 200

    def test_a_volume_in_a_local_boss_is_read_with_a_token_that_stays_here(self, tmp_path: Path) -> None:
        fill(tmp_path / "boss", "small", "plain", CHANNELS)
        with start_boss(tmp_path / "boss") as boss:
            folder = ran(tmp_path, host=boss.url, token=boss.token, col="small", exp="plain")
            with viewed(folder, BOSS_TOKEN=boss.token) as viewer:
                state = viewer.state()
                found = volume_at(f"{viewer.url}image0")
                voxels = np.asarray(found[..., 0].read().result()).transpose(2, 1, 0)
                assert boss.token not in json.dumps(state)
                name = next(layer["name"] for layer in state["layers"] if layer["source"].endswith("image0"))
                z, y, x = SHAPE
                assert np.array_equal(voxels[:z, :y, :x], CHANNELS[name])

    def test_a_run_of_an_earlier_version_shows_its_mask(self, run: Path, tmp_path: Path) -> None:
        shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("*.ome.zarr"))
        opened = open_run(Request(folder=tmp_path / "run"))
        assert set(np.unique(opened.labels["labels"].read(opened.run.box))) == {0, 255}

    def test_the_client_is_named_where_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(StorageError, match=r"pip install 'nd-synapse\[view\]'"):
            server.client_folder()

    def test_a_port_that_is_taken_is_refused(self, run: Path, viewer: Viewer) -> None:
        port = viewer.url.rsplit(":")[-1].strip("/")
        code, _, err = printed("view", str(run), "--no-open", "--port", port)
        assert code == 2
        assert f"--port {port}: address already in use" in err

    def test_memory_is_bounded_by_the_chunk(self) -> None:
        assert layers._CHUNK[0] * (layers._CHUNK[1] * max(layers._FACTORS)) ** 2 <= 2**23


def test_a_volume_that_has_moved_is_read_where_it_is_now(tmp_path: Path) -> None:
    """Also where its channels lay apart: the address of each was kept, and the new one went unheard."""
    write("zarr3.zarr", tmp_path / "a.zarr", CHANNELS)
    apart = {name: str(tmp_path / "a.zarr" / name) for name in CHANNELS}
    folder = ran(tmp_path, source=apart, name="apart")
    (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
    opened = open_run(Request(folder=folder, source=str(tmp_path / "b.zarr")))
    name = next(iter(opened.images))
    assert np.array_equal(opened.images[name].read(Box.of_shape(SHAPE)), CHANNELS[name])


def test_a_volume_with_other_voxels_is_no_moved_one(run: Path, tmp_path: Path) -> None:
    """It was shown with labels that lay elsewhere."""
    write("precomputed", tmp_path / "a", CHANNELS)
    for info in (tmp_path / "a").glob("*/info"):
        said = json.loads(info.read_text())
        said["scales"][0]["resolution"] = [200, 200, 70]
        info.write_text(json.dumps(said))
    with pytest.raises(DataError, match="its voxels have 70,200,200 nm"):
        open_run(Request(folder=run, source=f"precomputed://{tmp_path / 'a'}"))


class TestLink:
    """A link for others."""

    def test_files_on_this_machine_have_none(self, run: Path) -> None:
        code, out, err = printed("view", str(run), "--print")
        assert (code, out) == (2, "")
        assert "it is on this machine, where no other can read it" in err

    @pytest.mark.parametrize("form", ["ome05.zarr", "zarr3.zarr"])
    def test_images_on_a_web_server_are_shown_with_the_nearest_points(
        self, form: str, run: Path, tmp_path: Path
    ) -> None:
        write(form, tmp_path / "a.zarr", CHANNELS)
        with served(tmp_path) as url:
            code, out, _ = printed("view", str(run), "--source", f"{url}/a.zarr", "--print", "--at", "2")
        assert code == 0
        client, _, text = out.strip().partition("#!")
        assert client == "https://neuroglancer-demo.appspot.com/"
        state = json.loads(unquote(text))
        points, *images = state["layers"]
        name = images[0]["name"]
        if form == "ome05.zarr":
            assert images[0]["source"] == {"url": f"zarr://{url}/a.zarr/"}
            assert images[0]["localPosition"] == [list(CHANNELS).index(name)]
        else:
            assert images[0]["source"]["url"] == f"zarr://{url}/a.zarr/{name}/"
            assert list(images[0]["source"]["transform"]["outputDimensions"]) == ["z", "y", "x"]
        assert points["annotations"][0]["id"] == "2"

    @pytest.mark.parametrize("form", ["ome05.zarr", "precomputed"])
    def test_places_follow_a_volume_that_neuroglancer_shows_elsewhere(self, form: str, tmp_path: Path) -> None:
        """Positions counted from its first voxel, and the volume was shown where its metadata have it."""
        write(form, tmp_path / "a", CHANNELS)
        with served(tmp_path) as url:
            if form == "precomputed":  # it begins at the voxel x 5, y 6, z 7
                source: Any = {name: f"precomputed://{url}/a/{name}" for name in CHANNELS}
                first = np.array([7.5, 6.5, 5.5])
            else:
                group = zarr.open_group(tmp_path / "a")
                ome: Any = group.attrs["ome"]
                scale, move = {"type": "scale", "scale": [1, 2, 1, 1]}, [0, 0.14, 0.3, 0.5]
                steps = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
                steps.append({"type": "translation", "translation": move})
                ome["multiscales"][0]["coordinateTransformations"] = [scale]
                group.attrs["ome"] = ome
                source, first = f"{url}/a", np.array([2, 3, 5])
            folder = ran(tmp_path, source=source)
            opened = open_run(Request(folder=folder))
            _, _, text = shared_link(opened, 2).partition("#!")
        state = json.loads(unquote(text))
        expected = (opened.scene.places.centroids[1] + first)[::-1]
        assert np.allclose(state["position"], expected)
        nearest = next(layer["annotations"][0] for layer in state["layers"] if layer["type"] == "annotation")
        assert nearest["id"] == "2"
        assert np.allclose(nearest["point"], expected, atol=0.01)


class _Quiet(SimpleHTTPRequestHandler):
    """Lets pages of others read, and answers ranges, as buckets do."""

    def do_GET(self) -> None:
        wanted, path = self.headers.get("Range"), Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        body = path.read_bytes()
        first, last = (int(end) if end else None for end in wanted.removeprefix("bytes=").split("-"))
        part = body[-(last or 0) :] if first is None else body[first : None if last is None else last + 1]
        start = len(body) - len(part) if first is None else first
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "Content-Range")
        super().end_headers()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as any web server does."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Quiet(*given, directory=str(folder)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()
