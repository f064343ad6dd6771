"""Writers of odd files and readers of them, for the cases of files.

A case writes an odd file and opens it as ``boss ingest`` and ``evaluate`` do; what they print is shown in a line. Of
voxels that are read these are the shape, the type, and the first voxel of each slice; of a refusal the exit code.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
import zarr
from PIL import Image as Picture

from nd_synapse.cli import boss, evaluate
from nd_synapse.errors import NDSynapseError
from nd_synapse.files.stacks import open_stack
from tests.cases import Case

GREY: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
Made = Path | Sequence[Path]


def volume(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    """Return voxels whose slices begin with 10, 20, 30 ..."""
    made = np.ones(shape, dtype)
    made.reshape(shape[0], -1)[:, 0] = np.arange(1, shape[0] + 1) * 10
    return made


def plain(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "").replace(str(folder), "FOLDER")


def opened(paths: Sequence[Path], folder: Path, *more: Any) -> str:
    """Return what a stack is read as."""
    try:
        stack = open_stack(paths, *more)
        voxels = stack.read(0, stack.shape[0])
    except NDSynapseError as error:
        return f"{error.exit_code}: {plain(str(error), folder)}"
    values = " ".join(str(value) for value in voxels[:12, 0, 0]) + (" ..." if len(voxels) > 12 else "")
    return f"{'x'.join(map(str, stack.shape))} {stack.dtype}: {values}"


def commanded(main: Callable[[list[str]], int], folder: Path, *words: Any) -> str:
    """Return the exit code of a command, and the first line that it printed or the last of its log."""
    shown, log = io.StringIO(), io.StringIO()
    with redirect_stdout(shown), redirect_stderr(log):
        code = main([str(word) for word in words])
    lines = shown.getvalue().splitlines()[:1] or [log.getvalue().splitlines()[-1].partition(" ERROR ")[2]]
    return f"{code}: {plain(lines[0], folder)}"


def read(name: str, given: str, before: str, after: str, make: Callable[[Path], Made], pattern: str = "") -> Case:
    """Return a case of opening what `make` writes."""

    def observe(folder: Path) -> str:
        made = make(folder)
        paths = [made] if isinstance(made, Path) else list(made)
        return opened(paths, folder, *([pattern] if pattern else []))

    return Case(name, given, before, after, observe)


# --- names of slices ------------------------------------------------------------------------------------------------


def slices(*names: str) -> Callable[[Path], list[Path]]:
    """Return what writes a slice under each name, whose voxels are 10, 20, 30 ... in the order of the names."""

    def make(folder: Path) -> list[Path]:
        for number, name in enumerate(names, 1):
            tifffile.imwrite(folder / name, np.full((2, 3), 10 * number, np.uint8), **GREY)
        return sorted(folder.iterdir())

    return make


# --- TIFF -----------------------------------------------------------------------------------------------------------


def tiff(voxels: np.ndarray, name: str = "a.tif", **how: Any) -> Callable[[Path], Path]:
    """Return what writes a TIFF."""

    def make(folder: Path) -> Path:
        tifffile.imwrite(folder / name, voxels, **{"photometric": "minisblack", **how})
        return folder / name

    return make


def pages(voxels: np.ndarray, description: str, **how: Any) -> Callable[[Path], Path]:
    """Return what writes a TIFF with a page a slice, and a description that may not fit."""

    def make(folder: Path) -> Path:
        with tifffile.TiffWriter(folder / "a.tif") as writer:
            for number, one in enumerate(voxels):
                text = description if number == 0 else None
                writer.write(one, description=text, contiguous=False, **{**GREY, **how})
        return folder / "a.tif"

    return make


def changed(
    make: Callable[[Path], Path], *pairs: tuple[bytes, bytes], keep: int | None = None
) -> Callable[[Path], Path]:
    """Return what writes a file and changes bytes of it, or cuts it."""

    def made(folder: Path) -> Path:
        path = make(folder)
        data = path.read_bytes()
        for old, new in pairs:
            assert old in data
            data = data.replace(old, new)
        path.write_bytes(data[:keep])
        return path

    return made


def imagej(**said: Any) -> str:
    return "".join(f"{key}={value}\n" for key, value in {"ImageJ": "1.54f", **said}.items())


def tag(make: Callable[[Path], Path], name: str, value: Any) -> Callable[[Path], Path]:
    """Return what writes a TIFF and overwrites a tag of all of its pages."""

    def made(folder: Path) -> Path:
        path = make(folder)
        with tifffile.TiffFile(path, mode="r+") as tif:
            for page in tif.pages:
                page.aspage().tags[name].overwrite(value)
        return path

    return made


def ome(voxels: np.ndarray, **said: Any) -> Callable[[Path], Path]:
    return tiff(voxels, "a.ome.tif", ome=True, metadata={"axes": "ZYX", **said})


OME_XML = """<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"
UUID="urn:uuid:{me}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="3" SizeY="2"
SizeZ="{z}" SizeC="{c}" SizeT="1">{channels}{data}</Pixels></Image></OME>"""


def ome_set(order: Sequence[tuple[str, int, int]], *, without: str = "") -> Callable[[Path], list[Path]]:
    """Return what writes a file for each (name, channel, z) of one OME image; voxels are 10 times (z + 1)."""

    def make(folder: Path) -> list[Path]:
        data = "".join(
            f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="0" PlaneCount="1">'
            f'<UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
            for name, c, z in order
        )
        most_c, most_z = (max(places) + 1 for places in list(zip(*order, strict=True))[1:])
        channels = "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>' for c in range(most_c))
        for name, _, z in order:
            xml = OME_XML.format(me=name, z=most_z, c=most_c, channels=channels, data=data)
            tifffile.imwrite(folder / name, np.full((2, 3), 10 * (z + 1), np.uint8), description=xml.encode(), **GREY)
        return sorted(path for path in folder.iterdir() if path.name != without)

    return make


def renamed(make: Callable[[Path], list[Path]]) -> Callable[[Path], list[Path]]:
    """Return what writes files and gives them the names s0.tif, s1.tif, ... in the reversed order."""
    return lambda folder: [path.rename(folder / f"s{n}.tif") for n, path in enumerate(reversed(make(folder)))]


def companion(folder: Path) -> Path:
    said = '<BinaryOnly MetadataFile="a.companion.ome"/>'
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{said}</OME>'
    return pages(volume(3, 2, 3), xml)(folder)


def white_page(folder: Path) -> Path:
    """Write what ImageJ calls a stack of three, the last page of which has white as 0."""
    with tifffile.TiffWriter(folder / "a.tif") as writer:
        for number, kind in enumerate(["minisblack", "minisblack", "miniswhite"]):
            text = imagej(images=3, slices=3) if number == 0 else None
            writer.write(V3[number], photometric=kind, description=text, contiguous=False, metadata=None)
    return folder / "a.tif"


def lsm(folder: Path) -> Path:
    """Write slices of a Zeiss LSM file, each with its thumbnail behind it."""
    # magic and size; extents x, y, z, channels, times; type; thumbnail; voxel size and origin in metres; kind of scan
    head = struct.pack("<II8i6dHHI", 67127628, 96, 3, 2, 3, 1, 1, 1, 3, 1, 1e-7, 1e-7, 7e-8, 0, 0, 0, 0, 0, 0)
    with tifffile.TiffWriter(folder / "a.lsm", byteorder="<") as writer:
        for z, one in enumerate(V3):
            info = [] if z else [(34412, 1, len(head), head, False)]
            writer.write(one, extratags=info, contiguous=False, **GREY)
            writer.write(one[:1], subfiletype=1, contiguous=False, **GREY)
    return folder / "a.lsm"


def two_images(folder: Path) -> Path:
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as writer:
        for first in (1, 2):
            writer.write(volume(2, 20, 30) * np.uint8(first), photometric="minisblack", metadata={"axes": "ZYX"})
    return folder / "a.ome.tif"


def palette(folder: Path, colours: np.ndarray, description: str = "") -> Path:
    with tifffile.TiffWriter(folder / "a.tif") as writer:
        for number, one in enumerate(volume(3, 2, 3)):
            text = description or None if number == 0 else None
            writer.write(one, photometric="palette", colormap=colours, description=text, metadata=None)
    return folder / "a.tif"


RAMP = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
GREEN = RAMP * np.array([[0], [1], [0]], np.uint16)
RANDOM = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype(np.uint16)


def trailing(folder: Path) -> Path:
    """Write ImageJ's one page for all slices, announce more, and append what would be read as them."""
    path = tiff(volume(3, 20, 30), imagej=True, metadata={"axes": "ZYX"})(folder)
    data = path.read_bytes().replace(b"images=3", b"images=5").replace(b"slices=3", b"slices=5")
    path.write_bytes(data + bytes(4000))
    return path


V3, V5, WORDS = volume(3, 2, 3), volume(5, 2, 3), volume(3, 2, 3, dtype=np.uint16)
ZYX = {"axes": "ZYX"}
SIGNED = imagej(images=3, slices=3, cf=0, c0=-32768.0, c1=1.0, vunit="Gray Value")


# --- other formats --------------------------------------------------------------------------------------------------


def bytes_as(name: str, head: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(head + bytes(500))
        return folder / name

    return make


def picture(name: str, form: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        Picture.fromarray(V3[0]).save(folder / name, form)
        return folder / name

    return make


def folder_of(files: dict[str, Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "a").mkdir()
        for name, content in files.items():
            (folder / "a" / name).write_text(json.dumps(content))
        return folder / "a"

    return make


def npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", a=V3)
    return folder / "a.npz"


def two_folders(folder: Path) -> list[Path]:
    for name in "ab":
        (folder / name).mkdir()
    return [tiff(V3[n], f"{name}/s{n}.tif", metadata=None)(folder) for n, name in enumerate("ab")]


def npy(*shape: int) -> Callable[[Path], Path]:
    """Return what writes an array without names of axes."""

    def make(folder: Path) -> Path:
        np.save(folder / "a.npy", np.ones(shape, np.uint8))
        return folder / "a.npy"

    return make


def saved(values: np.ndarray) -> Callable[[Path], Path]:
    """Return what writes an array of any type."""

    def make(folder: Path) -> Path:
        np.save(folder / "a.npy", values)
        return folder / "a.npy"

    return make


def npys(folder: Path) -> list[Path]:
    for n in range(2):
        np.save(folder / f"s{n}.npy", V3[n])
    return sorted(folder.iterdir())


# --- Zarr -----------------------------------------------------------------------------------------------------------


def array(
    voxels: np.ndarray, names: Sequence[str | None] | None = None, form: Literal[2, 3] = 3, **attributes: Any
) -> Callable[[Path], Path]:
    """Return what writes a Zarr array, with names of its axes."""

    def make(folder: Path) -> Path:
        made = zarr.create_array(
            folder / "a.zarr", data=voxels, zarr_format=form, dimension_names=names, attributes=attributes
        )
        assert made.shape == voxels.shape
        return folder / "a.zarr"

    return make


def put_image(
    store: Path, axes: str, voxels: np.ndarray, *, scale: Sequence[float] = (), unit: str = "", **more: Any
) -> Path:
    """Write an OME-Zarr image at a path."""
    group = zarr.create_group(store)
    group.create_array("0", data=voxels, dimension_names=more.pop("names", None))
    group.create_array("1", data=voxels[..., ::2])
    space = [
        {"name": axis, "type": "space"} | ({"unit": unit} if unit else {}) if axis in "zyx" else {"name": axis}
        for axis in axes
    ]
    dataset: dict[str, Any] = {"path": "0"}
    if scale:
        dataset["coordinateTransformations"] = [{"type": "scale", "scale": list(scale)}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": space, "datasets": [dataset, {"path": "1"}]}],
        **more,
    }
    return store


def image(axes: str, voxels: np.ndarray, **how: Any) -> Callable[[Path], Path]:
    return lambda folder: put_image(folder / "a.zarr", axes, voxels, **how)


def said(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    """Return what writes an OME-Zarr image of 70 x 100 x 100 nm and changes its metadata."""

    def make(folder: Path) -> Path:
        path = put_image(folder / "a.zarr", "zyx", V3, scale=(0.07, 0.1, 0.1), unit="micrometer")
        made = zarr.open_group(path)
        ome: Any = made.attrs["ome"]
        change(ome)
        made.attrs["ome"] = ome
        return path

    return make


def scales(*values: Any) -> Callable[[Path], Path]:
    """Return what writes an OME-Zarr image with these transformations of its first level."""
    return said(lambda ome: ome["multiscales"][0]["datasets"][0].update(coordinateTransformations=list(values)))


def upside_down(folder: Path) -> Path:
    """Write an OME-Zarr image that names its coarse level first."""
    path = put_image(folder / "a.zarr", "zyx", V3)
    made = zarr.open_group(path)
    ome: Any = made.attrs["ome"]
    ome["multiscales"][0]["datasets"].reverse()
    made.attrs["ome"] = ome
    return path


def layout(folder: Path) -> Path:
    """Write two series as bioformats2raw does."""
    root = zarr.create_group(folder / "a.zarr", attributes={"bioformats2raw.layout": 3})
    root.create_group("OME", attributes={"series": ["0", "1"]})
    for number in (0, 1):
        put_image(folder / "a.zarr" / str(number), "zyx", V3 + np.uint8(number))
    return folder / "a.zarr"


def series(folder: Path) -> Path:
    zarr.create_group(folder / "a.zarr")
    for name in ("left", "right"):
        put_image(folder / "a.zarr" / name, "zyx", V3)
    return folder / "a.zarr"


def group(**attributes: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        zarr.create_group(folder / "a.zarr", attributes=attributes).create_group("A")
        return folder / "a.zarr"

    return make


XYZ = V3.transpose(2, 1, 0)


# --- voxel sizes, and commands --------------------------------------------------------------------------------------


def ingested(make: Callable[[Path], Made], size: str = "70,100,100", *options: str) -> Callable[[Path], str]:
    """Return what ingests a stack."""

    def observe(folder: Path) -> str:
        (folder / "in").mkdir()
        made = make(folder / "in")
        files = [made] if isinstance(made, Path) else list(made)
        target = ("--data", folder / "data", "--col", "c", "--exp", "e", "--chan", "h", "--voxel-size-nm", size)
        return commanded(boss.main, folder / "in", "ingest", *target, *options, *files)

    return observe


def evaluated(make: Callable[[Path], Path], size: str = "70,100,100", *options: str) -> Callable[[Path], str]:
    """Return what evaluates an image against one point."""

    def observe(folder: Path) -> str:
        (folder / "in").mkdir()
        (folder / "truth.csv").write_text("z,y,x\n1,1,1\n")
        words = ("--images", make(folder / "in"), "--truth", folder / "truth.csv", "--voxel-size-nm", size, *options)
        return commanded(evaluate.main, folder / "in", *words)

    return observe


def cubes(name: str = "a.npz", **more: Any) -> Callable[[Path], Path]:
    """Return what writes an archive of six cubes, with other entries."""

    def make(folder: Path) -> Path:
        images = np.random.default_rng(0).integers(0, 99, (6, 2, 5, 5, 5)).astype(np.uint8)
        about = {"channels": ["PSD95", "Synapsin"], "label": [0, 1, 0, 1, 0, 1], "label_names": ["none", "glut"]}
        np.savez(folder / name, **{"images_uint8": images, **about, **more})
        return folder / name

    return make


def synaptograms(make: Callable[[Path], Path], *options: str) -> Callable[[Path], str]:
    """Return what evaluates cubes."""

    def observe(folder: Path) -> str:
        (folder / "in").mkdir()
        words = ("--synaptograms", make(folder / "in"), "--resamples", 9, *options)
        return commanded(evaluate.main, folder / "in", *words)

    return observe


def sized(z: float, y: float, x: float, unit: str = "\N{MICRO SIGN}m") -> Callable[[Path], Path]:
    """Return what writes an OME-TIFF with a voxel size."""
    said = {f"PhysicalSize{axis}": n for axis, n in zip("ZYX", (z, y, x), strict=True)}
    return ome(volume(3, 20, 30), **said, **{f"PhysicalSize{axis}Unit": unit for axis in "ZYX"})


def fiji(unit: str, spacing: float | str, pixels: float) -> Callable[[Path], Path]:
    """Return what writes a TIFF of ImageJ with a voxel size."""
    return tiff(
        V3, imagej=True, resolution=(pixels, pixels), metadata={"axes": "ZYX", "unit": unit, "spacing": spacing}
    )


def two_channels(folder: Path) -> Path:
    voxels = np.random.default_rng(0).integers(0, 99, (2, 8, 40, 40)).astype(np.uint8)
    return image("czyx", voxels, omero={"channels": [{"label": "PSD95"}, {"label": "Synapsin"}]})(folder)


def upper_case(folder: Path) -> Path:
    tiff(V3, "PSD95.OME.TIF", metadata=None)(folder)
    return folder
