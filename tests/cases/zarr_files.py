"""Zarr arrays and groups: named axes, levels of OME-Zarr, groups that are several images."""

import numpy as np

from tests.cases._files import (
    V3,
    XYZ,
    array,
    group,
    image,
    layout,
    read,
    said,
    scales,
    series,
    upside_down,
)

CASES = (
    read(
        "zarr-xyz",
        "Zarr 3 with dimension_names x, y, z",
        "3x2x3 uint8: 10 1 1",
        "3x2x3 uint8: 10 20 30",
        array(XYZ, "xyz"),
    ),
    read(
        "zarr-xyz-2",
        "Zarr 2 with _ARRAY_DIMENSIONS x, y, z",
        "3x2x3 uint8: 10 1 1",
        "3x2x3 uint8: 10 20 30",
        array(XYZ, form=2, _ARRAY_DIMENSIONS=list("xyz")),
    ),
    read(
        "zarr-yxz",
        "dimension_names y, x, z",
        "2x3x3 uint8: 10 1",
        "3x2x3 uint8: 10 20 30",
        array(V3.transpose(1, 2, 0), "yxz"),
    ),
    read("zarr-zyx", "dimension_names z, y, x", "3x2x3 uint8: 10 20 30", "3x2x3 uint8: 10 20 30", array(V3, "zyx")),
    read(
        "zarr-words",
        "dimension_names section, row, column",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        array(V3, ["section", "row", "column"]),
    ),
    read(
        "zarr-unknown-names",
        "dimension_names dim_0, dim_1, dim_2, as xarray calls axes without names",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        array(V3, ["dim_0", "dim_1", "dim_2"]),
    ),
    read(
        "zarr-names-with-units",
        "_ARRAY_DIMENSIONS x_um, y_um, z_um",
        "3x2x3 uint8: 10 1 1",
        "3x2x3 uint8: 10 20 30",
        array(XYZ, form=2, _ARRAY_DIMENSIONS=["x_um", "y_um", "z_um"]),
    ),
    read(
        "zarr-partly-named",
        "dimension_names x, none, z",
        "3x2x3 uint8: 10 1 1",
        (
            "65: a.zarr: its axes are x, ?, z (? has a name that is not known) with extents (3, 2, 3). Give a stack "
            "z, y, x: a multi-page TIFF, one TIFF a slice, a Zarr array or a .npy file."
        ),
        array(XYZ, ["x", None, "z"]),
    ),
    read(
        "zarr-foreign-names",
        "dimension_names i, j, k",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.zarr: its axes are ?, ?, ? (? has a name that is not known) with extents (3, 2, 3). Give a stack "
            "z, y, x: a multi-page TIFF, one TIFF a slice, a Zarr array or a .npy file."
        ),
        array(V3, ["i", "j", "k"]),
    ),
    read(
        "zarr-cyx",
        "dimension_names c, y, x",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.zarr: it has several channels (axes c, y, x, extents (3, 2, 3)). Save each "
            "channel as a stack of its own (in Fiji: Image > Color > Split Channels); if they are"
            " slices, say so in the file (in Fiji: Image > Properties, Channels 1, Slices 3)."
        ),
        array(V3, "cyx"),
    ),
    read(
        "zarr-cyx-2",
        "_ARRAY_DIMENSIONS c, y, x",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.zarr: it has several channels (axes c, y, x, extents (3, 2, 3)). Save each "
            "channel as a stack of its own (in Fiji: Image > Color > Split Channels); if they are"
            " slices, say so in the file (in Fiji: Image > Properties, Channels 1, Slices 3)."
        ),
        array(V3, form=2, _ARRAY_DIMENSIONS=list("cyx")),
    ),
    read(
        "zarr-tyx",
        "dimension_names time, y, x",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.zarr: it has several times (axes t, y, x, extents (3, 2, 3)). Save one time as"
            " a stack (in Fiji: Image > Duplicate); if they are slices, say so in the file (in "
            "Fiji: Image > Properties, Frames 1, Slices 3)."
        ),
        array(V3, ["time", "y", "x"]),
    ),
    read(
        "zarr-slices-last",
        "a Zarr array of 64 x 80 x 8 voxels without names",
        "64x80x8 uint8: 1 1 1 1 1 1 1 1 1 1 1 1 ...",
        (
            "65: a.zarr: it has the shape (64, 80, 8) and no names of axes; it looks like y, x "
            "and slices or colours. Save it as z, y, x, or as Zarr with dimension_names."
        ),
        array(np.ones((64, 80, 8), np.uint8)),
    ),
    read(
        "zarr-slices-last-named",
        "a Zarr array of 64 x 80 x 8 voxels with dimension_names z, y, x",
        "64x80x8 uint8: 1 1 1 1 1 1 1 1 1 1 1 1 ...",
        "64x80x8 uint8: 1 1 1 1 1 1 1 1 1 1 1 1 ...",
        array(np.ones((64, 80, 8), np.uint8), "zyx"),
    ),
    read(
        "zarr-one-channel",
        "dimension_names c, x, y, z with one channel",
        "3x2x3 uint8: 10 1 1",
        "3x2x3 uint8: 10 20 30",
        array(XYZ[None], "cxyz"),
    ),
    read(
        "zarr-one-name",
        "dimension_names q, y, x",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.zarr: its axes are ?, y, x (? has a name that is not known) with extents (3, "
            "2, 3). Give a stack z, y, x: a multi-page TIFF, one TIFF a slice, a Zarr array or a "
            ".npy file."
        ),
        array(V3, "qyx"),
    ),
    read(
        "zarr-funlib",
        "axis_names x, y, z of funlib",
        "3x2x3 uint8: 10 1 1",
        "3x2x3 uint8: 10 20 30",
        array(XYZ, axis_names=list("xyz")),
    ),
    read(
        "zarr-too-few-names",
        "three axes, and two in _ARRAY_DIMENSIONS",
        "3x2x3 uint8: 10 20 30",
        "65: a.zarr: it names 2 axes and has 3. Correct the names of its axes.",
        array(V3, _ARRAY_DIMENSIONS=list("yx")),
    ),
    read(
        "ome-zarr-xyz",
        "OME-Zarr with axes x, y, z",
        "65: a.zarr: its axes are x, y, z. Save it with the axes z, y, x last",
        "3x2x3 uint8: 10 20 30",
        image("xyz", XYZ),
    ),
    read(
        "ome-zarr-contradicted",
        "OME-Zarr with axes z, y, x over an array with x, y, z",
        "3x2x3 uint8: 10 20 30",
        ("65: a.zarr: its axes are x, y, z, and the group says z, y, x. Correct the names of its axes."),
        image("zyx", V3, names="xyz"),
    ),
    read(
        "ome-zarr-channels",
        "OME-Zarr with two channels",
        "65: a.zarr: it has the shape (2, 3, 2, 3), not z, y, x",
        (
            "65: a.zarr: it has several channels: PSD95, GABA (axes c, z, y, x, extents (2, 3, 2,"
            " 3)). Save each channel as a stack of its own (in Fiji: Image > Color > Split "
            "Channels)."
        ),
        image("czyx", np.stack([V3, V3]), omero={"channels": [{"label": "PSD95"}, {"label": "GABA"}]}),
    ),
    read(
        "ome-zarr-times",
        "OME-Zarr with two times",
        "65: a.zarr: it has the shape (2, 3, 2, 3), not z, y, x",
        (
            "65: a.zarr: it has several times (axes t, z, y, x, extents (2, 3, 2, 3)). Save one "
            "time as a stack (in Fiji: Image > Duplicate)."
        ),
        image("tzyx", np.stack([V3, V3])),
    ),
    read(
        "ome-zarr-coarse-first",
        "OME-Zarr that names its coarse level first",
        "3x2x2 uint8: 10 20 30",
        (
            "65: a.zarr: its first level 1 has the shape (3, 2, 2), and 0 has (3, 2, 3). Name the"
            " level that you mean, such as a.zarr/0."
        ),
        upside_down,
    ),
    read(
        "bioformats2raw",
        "two series in the layout of bioformats2raw",
        "3x2x3 uint8: 10 20 30, which is the first, and nothing of the other",
        "65: a.zarr: it has 2 series: 0, 1. Name one of them, such as a.zarr/0.",
        layout,
    ),
    read(
        "zarr-series",
        "a group of two OME-Zarr images",
        "65: a.zarr: it is a Zarr group without OME-Zarr metadata; its arrays: none",
        ("65: a.zarr: it is a group of 2 images: left, right. Name one of them, such as a.zarr/left."),
        series,
    ),
    read(
        "zarr-plate",
        "a plate of OME-Zarr",
        "65: a.zarr: it is a Zarr group without OME-Zarr metadata; its arrays: none",
        ("65: a.zarr: it is a plate of OME-Zarr, with several images. Name one image in it, below a.zarr/A."),
        group(ome={"plate": {}}),
    ),
    read(
        "zarr-group",
        "a group without metadata",
        "65: a.zarr: it is a Zarr group without OME-Zarr metadata; its arrays: none",
        ("65: a.zarr: it is a Zarr group without OME-Zarr metadata; it holds A. Name one of them, such as a.zarr/A."),
        group(),
    ),
    read(
        "ome-zarr-empty-scale",
        "OME-Zarr whose scale is empty: it says nothing",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says (zip() argument 2 "
            "is shorter than argument 1). Copy or write it anew."
        ),
        "3x2x3 uint8: 10 20 30",
        scales({"type": "scale", "scale": []}),
    ),
    read(
        "ome-zarr-scale-without-numbers",
        "OME-Zarr with a transformation of the type scale and no scale",
        ("65: a.zarr: the file is damaged, cut short, or not what its name says ('scale'). Copy or write it anew."),
        "3x2x3 uint8: 10 20 30",
        scales({"type": "scale"}),
    ),
    read(
        "ome-zarr-no-transformations",
        "OME-Zarr whose coordinateTransformations are null",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says ('NoneType' "
            "object is not iterable). Copy or write it anew."
        ),
        "3x2x3 uint8: 10 20 30",
        said(lambda ome: ome["multiscales"][0].update(coordinateTransformations=None)),
    ),
    read(
        "ome-zarr-short-scale",
        "OME-Zarr with three axes and a scale of two numbers",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says (zip() argument 2 "
            "is shorter than argument 1). Copy or write it anew."
        ),
        (
            "65: a.zarr: its OME-Zarr metadata are not as the format has them (a scale of 2 numbers "
            "for 3 axes). Correct its multiscales (in zarr.json or .zattrs)."
        ),
        scales({"type": "scale", "scale": [0.1, 0.1]}),
    ),
    read(
        "ome-zarr-scale-of-words",
        "OME-Zarr with a word in its scale",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says (could not "
            "convert string to float: 'wide'). Copy or write it anew."
        ),
        (
            "65: a.zarr: its OME-Zarr metadata are not as the format has them (could not convert "
            "string to float: 'wide'). Correct its multiscales (in zarr.json or .zattrs)."
        ),
        scales({"type": "scale", "scale": ["wide", 0.1, 0.1]}),
    ),
    read(
        "ome-zarr-no-axes",
        "OME-Zarr whose axes are null",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says ('NoneType' "
            "object is not iterable). Copy or write it anew."
        ),
        "3x2x3 uint8: 10 20 30",
        said(lambda ome: ome["multiscales"][0].update(axes=None)),
    ),
    read(
        "ome-zarr-scale-without-axes",
        "OME-Zarr with a scale and no axes",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says (zip() argument 2 "
            "is longer than argument 1). Copy or write it anew."
        ),
        "3x2x3 uint8: 10 20 30",
        said(lambda ome: ome["multiscales"][0].update(axes=[])),
    ),
    read(
        "ome-zarr-axis-without-name",
        "OME-Zarr with an axis that has no name",
        ("65: a.zarr: the file is damaged, cut short, or not what its name says ('name'). Copy or write it anew."),
        (
            "65: a.zarr: its OME-Zarr metadata are not as the format has them ('name' is missing). "
            "Correct its multiscales (in zarr.json or .zattrs)."
        ),
        said(lambda ome: ome["multiscales"][0]["axes"][0].pop("name")),
    ),
    read(
        "ome-zarr-no-levels",
        "OME-Zarr that names no level",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says (list index out "
            "of range). Copy or write it anew."
        ),
        (
            "65: a.zarr: its OME-Zarr metadata are not as the format has them (they name no level). "
            "Correct its multiscales (in zarr.json or .zattrs)."
        ),
        said(lambda ome: ome["multiscales"][0].update(datasets=[])),
    ),
    read(
        "ome-zarr-missing-level",
        "OME-Zarr that names an array 5, which is not there",
        ("65: a.zarr: the file is damaged, cut short, or not what its name says ('5'). Copy or write it anew."),
        "65: a.zarr: its metadata name an array 5 that is not there. Copy it anew.",
        said(lambda ome: ome["multiscales"][0].update(datasets=[{"path": "5"}])),
    ),
    read(
        "ome-zarr-no-display",
        "OME-Zarr whose omero, which is for display, is null",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says ('NoneType' "
            "object has no attribute 'get'). Copy or write it anew."
        ),
        "3x2x3 uint8: 10 20 30",
        said(lambda ome: ome.update(omero=None)),
    ),
    read(
        "ome-zarr-display-without-channels",
        "OME-Zarr whose omero has null for channels",
        (
            "65: a.zarr: the file is damaged, cut short, or not what its name says ('NoneType' "
            "object is not iterable). Copy or write it anew."
        ),
        "3x2x3 uint8: 10 20 30",
        said(lambda ome: ome.update(omero={"channels": None})),
    ),
)
