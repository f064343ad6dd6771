"""Files as people have them: what a stack of slices, a TIFF, or a Zarr array is read as, and what is refused.

A case writes an odd file and opens it as ``boss ingest`` and ``evaluate`` do; what they print is shown in a line. Of
voxels that are read these are the shape, the type, and the first voxel of each slice; of a refusal the exit code.
"""

import numpy as np

from tests.cases import Case
from tests.cases._files import (
    GREEN,
    OME_XML,
    RAMP,
    RANDOM,
    SIGNED,
    V3,
    V5,
    WORDS,
    XYZ,
    ZYX,
    array,
    bytes_as,
    changed,
    companion,
    evaluated,
    fiji,
    folder_of,
    group,
    image,
    imagej,
    ingested,
    layout,
    npy,
    npys,
    npz,
    ome,
    ome_set,
    pages,
    palette,
    picture,
    read,
    renamed,
    series,
    sized,
    slices,
    synaptograms,
    tag,
    tiff,
    trailing,
    two_channels,
    two_folders,
    two_images,
    upper_case,
    upside_down,
    volume,
    white_page,
)

NAMES = (
    read(
        "channel-in-names",
        "img_z000_c000.tif and c001, z000 and z001",
        "4x2x3 uint8: 10 20 30 40",
        (
            "2: img_z000_c000.tif to img_z001_c001.tif: a number in their names counts channels "
            "(c 000 to 001). Give the slices of one channel, time and tile alone, or say what "
            "counts them, as in --pattern 'img_z{z}_c000.tif'."
        ),
        slices("img_z000_c000.tif", "img_z000_c001.tif", "img_z001_c000.tif", "img_z001_c001.tif"),
    ),
    read(
        "channel-picked-by-pattern",
        "the same with --pattern 'img_z{z}_c001.tif'",
        "no such option",
        "2x2x3 uint8: 20 40",
        slices("img_z000_c000.tif", "img_z000_c001.tif", "img_z001_c000.tif", "img_z001_c001.tif"),
        "img_z{z}_c001.tif",
    ),
    read(
        "channels-alone-in-names",
        "img_c0.tif, img_c1.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: img_c0.tif to img_c1.tif: a number in their names counts channels (c 0 to 1). "
            "Give the slices of one channel, time and tile alone, or say what counts them, with "
            "{z} for it in --pattern."
        ),
        slices("img_c0.tif", "img_c1.tif"),
    ),
    read(
        "channel-as-a-word",
        "Channel 1, Channel 2 of Slice 1",
        "2x2x3 uint8: 10 20",
        (
            "2: Slice 1 Channel 1.tif to Slice 1 Channel 2.tif: a number in their names counts "
            "channels (channel 1 to 2). Give the slices of one channel, time and tile alone, or "
            "say what counts them, with {z} for it in --pattern."
        ),
        slices("Slice 1 Channel 1.tif", "Slice 1 Channel 2.tif"),
    ),
    read(
        "channel-in-camel-case",
        "stackZ1C1.tif, stackZ1C2.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: stackZ1C1.tif to stackZ1C2.tif: a number in their names counts channels (c 1 to "
            "2). Give the slices of one channel, time and tile alone, or say what counts them, "
            "with {z} for it in --pattern."
        ),
        slices("stackZ1C1.tif", "stackZ1C2.tif"),
    ),
    read(
        "wavelengths",
        "exp_w1_1.tif, exp_w2_1.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: exp_w1_1.tif to exp_w2_1.tif: a number in their names counts channels (w 1 to 2)."
            " Give the slices of one channel, time and tile alone, or say what counts them, with "
            "{z} for it in --pattern."
        ),
        slices("exp_w1_1.tif", "exp_w2_1.tif"),
    ),
    read(
        "times-in-names",
        "img_t0_z0.tif, img_t0_z1.tif, img_t1_z0.tif, img_t1_z1.tif",
        "4x2x3 uint8: 10 20 30 40",
        (
            "2: img_t0_z0.tif to img_t1_z1.tif: a number in their names counts times (t 0 to 1). "
            "Give the slices of one channel, time and tile alone, or say what counts them, as in "
            "--pattern 'img_t0_z{z}.tif'."
        ),
        slices("img_t0_z0.tif", "img_t0_z1.tif", "img_t1_z0.tif", "img_t1_z1.tif"),
    ),
    read(
        "times-alone",
        "t000.tif, t001.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: t000.tif to t001.tif: a number in their names counts times (t 000 to 001). Give "
            "the slices of one channel, time and tile alone, or say what counts them, with {z} "
            "for it in --pattern."
        ),
        slices("t000.tif", "t001.tif"),
    ),
    read(
        "tiles-in-names",
        "sec0_r0_c0.tif with rows 0 and 1",
        "4x2x3 uint8: 10 20 30 40",
        (
            "2: sec0_r0_c0.tif to sec1_r1_c0.tif: a number in their names counts tiles (r 0 to "
            "1). Give the slices of one channel, time and tile alone, or say what counts them, as"
            " in --pattern 'sec{z}_r0_c0.tif'."
        ),
        slices("sec0_r0_c0.tif", "sec0_r1_c0.tif", "sec1_r0_c0.tif", "sec1_r1_c0.tif"),
    ),
    read(
        "tiles-by-word",
        "tile_1_z1.tif, tile_2_z1.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: tile_1_z1.tif to tile_2_z1.tif: a number in their names counts tiles (tile 1 to "
            "2). Give the slices of one channel, time and tile alone, or say what counts them, "
            "with {z} for it in --pattern."
        ),
        slices("tile_1_z1.tif", "tile_2_z1.tif"),
    ),
    read(
        "tile-and-slice-in-step",
        "s0_r0.tif, s1_r1.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: s0_r0.tif to s1_r1.tif: a number in their names counts tiles (r 0 to 1). Give the"
            " slices of one channel, time and tile alone, or say what counts them, as in "
            "--pattern 's{z}_r0.tif'."
        ),
        slices("s0_r0.tif", "s1_r1.tif"),
    ),
    read(
        "two-numbers-without-words",
        "a_0_0.tif, a_0_1.tif, a_1_0.tif, a_1_1.tif",
        "4x2x3 uint8: 10 20 30 40",
        (
            "2: a_0_0.tif to a_1_1.tif: several numbers in their names vary (0 to 1 and 0 to 1). "
            "Give the slices of one channel, time and tile alone, or say what counts them, as in "
            "--pattern 'a_*_{z}.tif'."
        ),
        slices("a_0_0.tif", "a_0_1.tif", "a_1_0.tif", "a_1_1.tif"),
    ),
    read(
        "two-numbers-by-pattern",
        "the same with --pattern 'a_{z}_{z}.tif'",
        "no such option",
        "4x2x3 uint8: 10 20 30 40",
        slices("a_0_0.tif", "a_0_1.tif", "a_1_0.tif", "a_1_1.tif"),
        "a_{z}_{z}.tif",
    ),
    read(
        "another-number-beside-z",
        "z0_1.tif, z0_2.tif",
        "4x2x3 uint8: 10 20 30 40",
        (
            "2: z0_1.tif to z1_2.tif: several numbers in their names vary (z 0 to 1 and 1 to 2). "
            "Give the slices of one channel, time and tile alone, or say what counts them, as in "
            "--pattern 'z{z}_*.tif'."
        ),
        slices("z0_1.tif", "z0_2.tif", "z1_1.tif", "z1_2.tif"),
    ),
    read(
        "ribbons-and-sections",
        "ribbon1_sec0.tif to ribbon2_sec1.tif",
        "4x2x3 uint8: 10 20 30 40",
        "4x2x3 uint8: 10 20 30 40",
        slices("ribbon1_sec0.tif", "ribbon1_sec1.tif", "ribbon2_sec0.tif", "ribbon2_sec1.tif"),
    ),
    read(
        "gap-in-a-ribbon",
        "ribbon1 has sections 0, 1, 3",
        "4x2x3 uint8: 10 20 30 40",
        (
            "2: ribbon1_sec1.tif and ribbon1_sec3.tif: slices are missing between them. Add the "
            "missing slices (a black one where a section was lost), or renumber the files."
        ),
        slices("ribbon1_sec0.tif", "ribbon1_sec1.tif", "ribbon1_sec3.tif", "ribbon2_sec0.tif"),
    ),
    read(
        "two-far-apart",
        "s1.tif, s5.tif: nothing else shows what a step is",
        "2x2x3 uint8: 10 20",
        (
            "2: s1.tif and s5.tif: their numbers are 4 apart, so slices may be missing, or they are no slices of "
            "one channel. If they follow each other, say --pattern 's{z}.tif'."
        ),
        slices("s1.tif", "s5.tif"),
    ),
    read(
        "two-wavelengths-without-a-word",
        "img_z1_488nm.tif, img_z1_561nm.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: img_z1_488nm.tif and img_z1_561nm.tif: their numbers are 73 apart, so slices may be missing, or they "
            "are no slices of one channel. If they follow each other, say --pattern 'img_z1_{z}nm.tif'."
        ),
        slices("img_z1_488nm.tif", "img_z1_561nm.tif"),
    ),
    read(
        "two-far-apart-by-pattern",
        "s1.tif, s5.tif with --pattern 's{z}.tif'",
        "no such option",
        "2x2x3 uint8: 10 20",
        slices("s1.tif", "s5.tif"),
        "s{z}.tif",
    ),
    read(
        "times-as-one-word",
        "TimePoint_1.tif, TimePoint_2.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: TimePoint_1.tif to TimePoint_2.tif: a number in their names counts times (timepoint 1 to 2). Give the "
            "slices of one channel, time and tile alone, or say what counts them, with {z} for it in --pattern."
        ),
        slices("TimePoint_1.tif", "TimePoint_2.tif"),
    ),
    read(
        "positions",
        "img_xy1.tif, img_xy2.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: img_xy1.tif to img_xy2.tif: a number in their names counts tiles (xy 1 to 2). Give the slices of one "
            "channel, time and tile alone, or say what counts them, with {z} for it in --pattern."
        ),
        slices("img_xy1.tif", "img_xy2.tif"),
    ),
    read(
        "gap-beside-a-date",
        "s1_20180105.tif, s2_20180106.tif, s4_20180109.tif",
        "3x2x3 uint8: 10 20 30",
        (
            "2: s2_20180106.tif and s4_20180109.tif: slices are missing between them. Add the "
            "missing slices (a black one where a section was lost), or renumber the files."
        ),
        slices("s1_20180105.tif", "s2_20180106.tif", "s4_20180109.tif"),
    ),
    read(
        "gap-beside-dates-without",
        "s1, s2, s4 of the 5th, 6th and 7th",
        "3x2x3 uint8: 10 20 30",
        (
            "2: s2_20180106.tif and s4_20180107.tif: slices are missing between them. Add the "
            "missing slices (a black one where a section was lost), or renumber the files."
        ),
        slices("s1_20180105.tif", "s2_20180106.tif", "s4_20180107.tif"),
    ),
    read(
        "times-of-day-beside-z",
        "z1_101500.tif, z2_101733.tif, z3_102010.tif",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        slices("z1_101500.tif", "z2_101733.tif", "z3_102010.tif"),
    ),
    read(
        "date-against-the-order",
        "s1 of the 9th, s2 of the 5th",
        "2x2x3 uint8: 10 20",
        "2x2x3 uint8: 10 20",
        slices("s1_20180109.tif", "s2_20180105.tif"),
    ),
    read(
        "gap-by-pattern",
        "--pattern 's{z}_*.tif' for s1, s2, s4",
        "no such option",
        (
            "2: s2_8.tif and s4_9.tif: slices are missing between them. Add the missing slices (a"
            " black one where a section was lost), or renumber the files."
        ),
        slices("s1_7.tif", "s2_8.tif", "s4_9.tif"),
        "s{z}_*.tif",
    ),
    read(
        "decimal-positions",
        "z0.75.tif, z0.8.tif, z0.85.tif",
        "2: z0.8.tif and z0.75.tif: slices are missing between them",
        "3x2x3 uint8: 10 20 30",
        slices("z0.75.tif", "z0.8.tif", "z0.85.tif"),
    ),
    read(
        "decimal-positions-across-one",
        "z0.75.tif, z1.0.tif, z1.25.tif",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        slices("z0.75.tif", "z1.0.tif", "z1.25.tif"),
    ),
    read(
        "rounded-decimals",
        "z0.33.tif, z0.67.tif, z1.0.tif",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        slices("z0.33.tif", "z0.67.tif", "z1.0.tif"),
    ),
    read(
        "decimal-commas",
        "z0,75.tif, z0,8.tif, z0,85.tif",
        "2: z0,8.tif and z0,75.tif: slices are missing between them",
        "3x2x3 uint8: 10 20 30",
        slices("z0,75.tif", "z0,8.tif", "z0,85.tif"),
    ),
    read(
        "gap-in-decimals",
        "z0.25.tif, z0.5.tif, z1.0.tif",
        "3x2x3 uint8: 20 10 30",
        (
            "2: z0.5.tif and z1.0.tif: slices are missing between them. Add the missing slices (a"
            " black one where a section was lost), or renumber the files."
        ),
        slices("z0.25.tif", "z0.5.tif", "z1.0.tif"),
    ),
    read(
        "decimal-or-separator",
        "s0.25.tif, s0.5.tif: one half, or number 5?",
        "2x2x3 uint8: 20 10",
        (
            "2: s0.5.tif to s0.25.tif: a hyphen or a dot in their names may separate a number, or"
            " be part of it. Say which: --pattern 's0.{z}.tif' or --pattern 's{z}.tif'."
        ),
        slices("s0.25.tif", "s0.5.tif"),
    ),
    read(
        "decimal-by-pattern",
        "the same with --pattern 's{z}.tif'",
        "no such option",
        "2x2x3 uint8: 10 20",
        slices("s0.25.tif", "s0.5.tif"),
        "s{z}.tif",
    ),
    read(
        "dot-as-separator",
        "img.001.tif, img.002.tif, img.010.tif and those between",
        "10x2x3 uint8: 10 20 30 40 50 60 70 80 90 100",
        "10x2x3 uint8: 10 20 30 40 50 60 70 80 90 100",
        slices(*[f"img.{n:03}.tif" for n in range(1, 11)]),
    ),
    read(
        "negative-positions",
        "z-4.tif, z-2.tif, z0.tif, z2.tif",
        (
            "2: z0.tif and z-2.tif: their names differ in more than the slice number, so they may"
            " belong to different stacks"
        ),
        "4x2x3 uint8: 10 20 30 40",
        slices("z-4.tif", "z-2.tif", "z0.tif", "z2.tif"),
    ),
    read(
        "negative-decimals",
        "z-0.5.tif, z0.0.tif, z0.5.tif",
        (
            "2: z0.0.tif and z-0.5.tif: their names differ in more than the slice number, so they"
            " may belong to different stacks"
        ),
        "3x2x3 uint8: 10 20 30",
        slices("z-0.5.tif", "z0.0.tif", "z0.5.tif"),
    ),
    read(
        "all-negative",
        "z-3.tif, z-2.tif, z-1.tif: minus, or a hyphen?",
        "3x2x3 uint8: 30 20 10",
        (
            "2: z-1.tif to z-3.tif: a hyphen or a dot in their names may separate a number, or be"
            " part of it. Say which: --pattern 'z-{z}.tif' or --pattern 'z{z}.tif'."
        ),
        slices("z-3.tif", "z-2.tif", "z-1.tif"),
    ),
    read(
        "all-negative-by-pattern",
        "the same with --pattern 'z{z}.tif'",
        "no such option",
        "3x2x3 uint8: 10 20 30",
        slices("z-3.tif", "z-2.tif", "z-1.tif"),
        "z{z}.tif",
    ),
    read(
        "hyphen-by-pattern",
        "z-1.tif, z-2.tif with --pattern 'z-{z}.tif'",
        "no such option",
        "2x2x3 uint8: 10 20",
        slices("z-1.tif", "z-2.tif"),
        "z-{z}.tif",
    ),
    read(
        "hyphen-as-separator",
        "PSD95-1.tif to PSD95-10.tif",
        "10x2x3 uint8: 10 20 30 40 50 60 70 80 90 100",
        "10x2x3 uint8: 10 20 30 40 50 60 70 80 90 100",
        slices(*[f"PSD95-{n}.tif" for n in range(1, 11)]),
    ),
    read(
        "upper-case-suffix",
        "s1.tif, s2.TIF, s3.tiff",
        (
            "2: s1.tif and s2.TIF: their names differ in more than the slice number, so they may "
            "belong to different stacks"
        ),
        "3x2x3 uint8: 10 20 30",
        slices("s1.tif", "s2.TIF", "s3.tiff"),
    ),
    read(
        "same-slice-twice-by-suffix",
        "s1.tif and s1.TIF",
        (
            "2: s1.TIF and s1.tif: their names differ in more than the slice number, so they may "
            "belong to different stacks"
        ),
        "2: s1.TIF and s1.tif: they have the same slice number. Give each slice once.",
        slices("s1.tif", "s1.TIF"),
    ),
    read(
        "pattern-of-no-file",
        "--pattern 'x{z}.tif' for s1.tif, s2.tif",
        "no such option",
        (
            "2: --pattern 'x{z}.tif': none of the 2 files is called so, such as s1.tif. Write a "
            "name with {z} for the number and * for any text."
        ),
        slices("s1.tif", "s2.tif"),
        "x{z}.tif",
    ),
    read(
        "pattern-without-number",
        "--pattern 's1.tif'",
        "no such option",
        "2: --pattern 's1.tif': it has no {z}. Put {z} where the number of the slice stands.",
        slices("s1.tif", "s2.tif"),
        "s1.tif",
    ),
)

TIFFS = (
    read(
        "ome-fewer-than-pages",
        "OME-XML says SizeZ 3, the file has five pages",
        "3x20x30 uint8: 10 20 30",
        "65: a.ome.tif: it announces 3 planes and holds 5. Copy or write it anew.",
        changed(ome(volume(5, 20, 30)), (b'SizeZ="5"', b'SizeZ="3"'), (b'PlaneCount="5"', b'PlaneCount="3"')),
    ),
    read(
        "ome-more-than-pages",
        "OME-XML says SizeZ 7, the file has five pages",
        ("65: a.ome.tif: slice 5 is missing or has another shape than (20, 30). Give slices of one shape"),
        "65: a.ome.tif: it announces 7 planes and holds 5. Copy or write it anew.",
        changed(ome(volume(5, 20, 30)), (b'SizeZ="5"', b'SizeZ="7"')),
    ),
    read(
        "imagej-more-than-pages",
        "ImageJ announces five slices, three pages are there",
        "65: a.tif: it announces 5 slices and holds 3. Copy or write it anew",
        "65: a.tif: it announces 5 planes and holds 3. Copy or write it anew.",
        pages(V3, imagej(images=5, slices=5)),
    ),
    read(
        "imagej-fewer-than-pages",
        "ImageJ announces three slices, five pages are there",
        "65: a.tif: it announces 3 slices and holds 5. Copy or write it anew",
        "65: a.tif: it announces 3 planes and holds 5. Copy or write it anew.",
        pages(V5, imagej(images=3, slices=3)),
    ),
    read(
        "imagej-images-against-slices",
        "ImageJ announces three images and five slices, three pages are there",
        "65: a.tif: it announces 5 slices and holds 3. Copy or write it anew",
        "65: a.tif: it announces 5 planes and holds 3. Copy or write it anew.",
        pages(V3, imagej(images=3, slices=5)),
    ),
    read(
        "imagej-trailing-bytes",
        "ImageJ announces five slices; behind three come other bytes",
        "65: a.tif: it announces 5 slices and holds 3. Copy or write it anew",
        "65: a.tif: it announces 5 planes and holds 3. Copy or write it anew.",
        trailing,
    ),
    read(
        "imagej-one-page-cut",
        "one page for five slices, cut behind the third",
        "1x2x3 uint8: 10",
        "65: a.tif: it announces 5 planes and holds 1. Copy or write it anew.",
        changed(pages(volume(1, 2, 3), imagej(images=5, slices=5))),
    ),
    read(
        "tifffile-fewer-than-pages",
        "tifffile's description says three slices, five pages are there",
        "5x2x3 uint8: 10 20 30 40 50",
        "65: a.tif: it announces 3 planes and holds 5. Copy or write it anew.",
        pages(V5, '{"shape": [3, 2, 3], "axes": "ZYX"}'),
    ),
    read(
        "imagej-page-white-is-zero",
        "the third page of an ImageJ stack has white as 0",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: slice 2 is (2, 3) uint8 (MINISWHITE, NONE), and the first is (2, 3) uint8"
            " (MINISBLACK, NONE). Give slices of one shape and kind."
        ),
        white_page,
    ),
    read(
        "ome-against-names",
        "OME-XML: s2.tif is slice 0, s1.tif slice 1, s0.tif slice 2",
        "3x2x3 uint8: 30 20 10",
        (
            "65: s0.tif and s1.tif: by their OME-XML they are slices 2 and 1, and by their names "
            "they follow. Give all slices, and name the files in the order of the slices."
        ),
        ome_set([("s2.tif", 0, 0), ("s1.tif", 0, 1), ("s0.tif", 0, 2)]),
    ),
    read(
        "ome-as-names",
        "OME-XML orders s0.tif, s1.tif, s2.tif as their names do",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        ome_set([("s0.tif", 0, 0), ("s1.tif", 0, 1), ("s2.tif", 0, 2)]),
    ),
    read(
        "ome-renamed",
        "files of an OME set were renamed in the reversed order",
        "2x2x3 uint8: 20 10",
        (
            "65: s0.tif and s1.tif: by their OME-XML they are slices 1 and 0, and by their names "
            "they follow. Give all slices, and name the files in the order of the slices."
        ),
        renamed(ome_set([("a0.tif", 0, 0), ("a1.tif", 0, 1)])),
    ),
    read(
        "ome-files-are-channels",
        "OME-XML: s0.tif and s1.tif are channels 0 and 1",
        "2x2x3 uint8: 10 10",
        (
            "65: s0.tif and s1.tif: by their OME-XML they are of different images, channels or "
            "times. Give the slices of one channel only."
        ),
        ome_set([("s0.tif", 0, 0), ("s1.tif", 1, 0)]),
    ),
    read(
        "ome-file-left-out",
        "a0, a1, a2 by OME-XML, of which a1 is not given, and named so that no number shows it",
        "2x2x3 uint8: 10 30",
        (
            "65: s0.tif and s1.tif: by their OME-XML they are slices 0 and 2, and by their names "
            "they follow. Give all slices, and name the files in the order of the slices."
        ),
        lambda f: [
            p.rename(f / f"s{n}.tif")
            for n, p in enumerate(ome_set([("a0.tif", 0, 0), ("a1.tif", 0, 1), ("a2.tif", 0, 2)], without="a1.tif")(f))
        ],
    ),
    read(
        "ome-set-one-file",
        "one file of an OME set of two",
        "65: s0.tif: its slices lie in several files (OME-TIFF)",
        (
            "65: s0.tif: its slices lie in several files (OME-TIFF). Save it as one file, or give"
            " all files of one slice each."
        ),
        lambda f: ome_set([("s0.tif", 0, 0), ("s1.tif", 0, 1)])(f)[0],
    ),
    read(
        "ome-planes-reversed",
        "OME-XML of one file: its first page is the last slice",
        "3x2x3 uint8: 30 20 10",
        "3x2x3 uint8: 30 20 10",
        pages(
            V3,
            OME_XML.format(
                me="a",
                z=3,
                c=1,
                channels="",
                data="".join(f'<TiffData FirstZ="{2 - n}" IFD="{n}" PlaneCount="1"/>' for n in range(3)),
            ),
        ),
    ),
    read(
        "ome-companion",
        "OME-XML in another file (BinaryOnly)",
        "3x2x3 uint8: 10 20 30",
        "65: a.tif: its OME-XML is in another file (BinaryOnly). Save it as one OME-TIFF.",
        companion,
    ),
    read(
        "ome-two-images",
        "an OME-TIFF of two images of one shape",
        "65: a.ome.tif: it holds 2 images of unequal shape ((2, 20, 30), (2, 20, 30))",
        ("65: a.ome.tif: it holds 2 images ((2, 20, 30), (2, 20, 30)). Save one of them as a file of its own."),
        two_images,
    ),
    read(
        "imagej-signed",
        "uint16 that ImageJ calibrates as signed: 32768 is 0",
        "3x2x3 uint16: 32778 32788 32798",
        "3x2x3 int16: 10 20 30",
        pages(WORDS + np.uint16(32768), SIGNED),
    ),
    read(
        "imagej-calibrated",
        "ImageJ calibrates values as 100 - 2 v",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: ImageJ calibrates its values (function 0, coefficients (100.0, -2.0)). "
            "Save it without (in Fiji: Analyze > Calibrate, None keeps the stored values)."
        ),
        pages(V3, imagej(images=3, slices=3, cf=0, c0=100.0, c1=-2.0)),
    ),
    read(
        "imagej-optical-density",
        "ImageJ calibrates values as uncalibrated optical density",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: ImageJ calibrates its values (function 21, coefficients (0, 1)). Save it "
            "without (in Fiji: Analyze > Calibrate, None keeps the stored values)."
        ),
        pages(V3, imagej(images=3, slices=3, cf=21)),
    ),
    read(
        "palette-of-colours",
        "a palette of random colours",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: its values stand for the colours of a palette, which is not grey. Save "
            "its values in grey scale (in Fiji: Image > Lookup Tables > Grays)."
        ),
        lambda f: palette(f, RANDOM),
    ),
    read(
        "palette-green",
        "a palette from black to green",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: its values stand for the colours of a palette, which is not grey. Save "
            "its values in grey scale (in Fiji: Image > Lookup Tables > Grays)."
        ),
        lambda f: palette(f, GREEN),
    ),
    read(
        "palette-reversed",
        "a palette from white to black",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: its values stand for the colours of a palette, which is not grey. Save "
            "its values in grey scale (in Fiji: Image > Lookup Tables > Grays)."
        ),
        lambda f: palette(f, RAMP[:, ::-1]),
    ),
    read(
        "palette-grey",
        "a palette from black to white",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        lambda f: palette(f, RAMP),
    ),
    read(
        "palette-of-imagej",
        "a green lookup table of ImageJ, which keeps the values",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        lambda f: palette(f, GREEN, imagej(images=3, slices=3)),
    ),
    read(
        "white-is-zero",
        "uint8 with white as 0",
        "65: a.tif: it stores white as 0. Save it with black as 0 (in Fiji: Edit > Invert LUT)",
        (
            "65: a.tif: it stores white as 0. Save it with black as 0: in Fiji, Image > Lookup "
            "Tables > Grays if its high values are bright, and then Edit > Invert if they are "
            "dark."
        ),
        tiff(V3, photometric="miniswhite", metadata=None),
    ),
    read(
        "white-is-zero-bits",
        "one bit a pixel with white as 0",
        "3x2x3 bool: False True True",
        (
            "65: a.tif: it stores white as 0. Save it with black as 0: in Fiji, Image > Lookup "
            "Tables > Grays if its high values are bright, and then Edit > Invert if they are "
            "dark."
        ),
        tiff(V3 > 10, photometric="miniswhite", metadata=None),
    ),
    read(
        "turned",
        "a tag says that it is turned by 180 degrees",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: it is to be turned or mirrored when it is shown (Orientation 3). Save it "
            "as it should be seen, without that tag."
        ),
        tiff(V3, extratags=[(274, "H", 1, 3, False)], metadata=None),
    ),
    read(
        "raw-of-a-camera",
        "one sample a pixel of a colour filter array",
        "3x2x3 uint8: 10 20 30",
        "65: a.tif: its values are no grey scale, but CFA. Save it in grey scale.",
        tag(tiff(V3, metadata=None), "PhotometricInterpretation", 32803),
    ),
    read(
        "two-channels",
        "z, c, y, x of ImageJ",
        "65: a.tif: it has several channels or colours (axes ZCYX, extents (2, 2, 2, 3))",
        (
            "65: a.tif: it has several channels (axes z, c, y, x, extents (2, 2, 2, 3)). Save "
            "each channel as a stack of its own (in Fiji: Image > Color > Split Channels)."
        ),
        tiff(volume(2, 2, 2, 3), imagej=True, metadata={"axes": "ZCYX"}),
    ),
    read(
        "two-named-channels",
        "c, z, y, x of OME with names",
        "65: a.ome.tif: it has several channels or colours (axes CZYX, extents (2, 3, 20, 30))",
        (
            "65: a.ome.tif: it has several channels: PSD95, Synapsin (axes c, z, y, x, extents "
            "(2, 3, 20, 30)). Save each channel as a stack of its own (in Fiji: Image > Color > "
            "Split Channels)."
        ),
        tiff(
            volume(2, 3, 20, 30),
            "a.ome.tif",
            ome=True,
            metadata={"axes": "CZYX", "Channel": {"Name": ["PSD95", "Synapsin"]}},
        ),
    ),
    read(
        "channels-alone",
        "c, y, x of ImageJ",
        "65: a.tif: it has several channels or colours (axes CYX, extents (3, 2, 3))",
        (
            "65: a.tif: it has several channels (axes c, y, x, extents (3, 2, 3)). Save each "
            "channel as a stack of its own (in Fiji: Image > Color > Split Channels); if they are"
            " slices, say so in the file (in Fiji: Image > Properties, Channels 1, Slices 3)."
        ),
        tiff(V3, imagej=True, metadata={"axes": "CYX"}),
    ),
    read(
        "times-alone-in-a-file",
        "t, y, x of ImageJ",
        "3x2x3 uint8: 10 20 30",
        (
            "65: a.tif: it has several times (axes t, y, x, extents (3, 2, 3)). Save one time as "
            "a stack (in Fiji: Image > Duplicate); if they are slices, say so in the file (in "
            "Fiji: Image > Properties, Frames 1, Slices 3)."
        ),
        tiff(V3, imagej=True, metadata={"axes": "TYX"}),
    ),
    read(
        "colours",
        "RGB",
        "65: a.tif: it has several channels or colours (axes YXS, extents (3, 2, 3))",
        (
            "65: a.tif: its pixels have several colours (axes y, x, s, extents (3, 2, 3)). Save "
            "each channel as a stack of its own (in Fiji: Image > Color > Split Channels)."
        ),
        tiff(volume(3, 2, 3), photometric="rgb"),
    ),
    read(
        "float-below-one",
        "float32 from 0 to 1",
        "65: a.tif: it holds float32, not whole numbers. Save it as integers, such as uint8",
        (
            "65: a.tif: it holds float32, not whole numbers. Save whole numbers as integers as "
            "they are; scale others to 0 to 65535 and round them to uint16."
        ),
        tiff((V3 / 30).astype(np.float32), metadata=ZYX),
    ),
    read(
        "lzw",
        "compressed with LZW",
        "65: its compression needs the imagecodecs package",
        "3x2x3 uint8: 10 20 30",
        tiff(V3, compression="lzw", metadata=ZYX),
    ),
    read(
        "lzw-with-predictor",
        "uint16, LZW, horizontal differences",
        "65: its compression needs the imagecodecs package",
        "3x2x3 uint16: 10 20 30",
        tiff(WORDS, compression="lzw", predictor=True, metadata=ZYX),
    ),
    read(
        "zstd",
        "compressed with ZSTD",
        "65: its compression needs the imagecodecs package",
        "3x2x3 uint8: 10 20 30",
        tiff(V3, compression="zstd", metadata=ZYX),
    ),
    read(
        "packbits",
        "compressed with PackBits",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        tiff(V3, compression="packbits", metadata=ZYX),
    ),
    read(
        "jpeg-2000",
        "compressed with JPEG 2000 without loss",
        "65: its compression needs the imagecodecs package",
        "3x32x32 uint8: 10 20 30",
        tiff(volume(3, 32, 32), compression="jpeg2000", metadata=ZYX),
    ),
    read(
        "jpeg-xl",
        "compressed with JPEG XL without loss",
        "65: its compression needs the imagecodecs package",
        "3x32x32 uint8: 10 20 30",
        tiff(volume(3, 32, 32), compression="jpegxl", metadata=ZYX),
    ),
    read(
        "twelve-bits",
        "12 bits a pixel",
        "65: its compression needs the imagecodecs package",
        "3x2x3 uint16: 10 20 30",
        tiff(WORDS, bitspersample=12, metadata=None),
    ),
    read(
        "jbig",
        "compressed with JBIG, which nothing here decodes",
        (
            "65: slices 0:1 of a.tif: the file is damaged, cut short, or not what its name says "
            "(<COMPRESSION.JBIG: 34661> not supported)"
        ),
        (
            "65: a.tif: it is a TIFF compressed as JBIG, which is not read. Save it uncompressed,"
            " or with LZW, deflate (zip) or ZSTD."
        ),
        tag(tiff(V3, metadata=None), "Compression", 34661),
    ),
    read(
        "slices-in-two-kinds",
        "s0.tif of uint8, s1.tif of uint16",
        ("65: s1.tif: it is (2, 3) uint16 where s0.tif is (2, 3) uint8. Give slices of one shape and type"),
        ("65: s1.tif: its type is uint16 where s0.tif has uint8. Give slices of one shape, type and voxel size."),
        lambda f: [tiff(V3[0], "s0.tif", metadata=None)(f), tiff(WORDS[0], "s1.tif", metadata=None)(f)],
    ),
    read(
        "slices-in-two-folders",
        "a/s0.tif and b/s1.tif",
        "2x2x3 uint8: 10 20",
        (
            "2: a/s0.tif and b/s1.tif: they lie in several folders, so they may belong to "
            "different stacks. Put the slices of one channel into one folder."
        ),
        two_folders,
    ),
)

FORMATS = (
    read(
        "png",
        "a PNG picture",
        ("65: a.png: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'\\x89PNG')"),
        ("65: a.png: it is a PNG picture. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        picture("a.png", "PNG"),
    ),
    read(
        "png-called-tif",
        "a PNG picture called .tif",
        ("65: a.tif: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'\\x89PNG')"),
        ("65: a.tif: it is a PNG picture. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        picture("a.tif", "PNG"),
    ),
    read(
        "png-slices",
        "two PNG pictures",
        ("65: s0.png: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'\\x89PNG')"),
        ("65: s0.png: it is a PNG picture. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        lambda f: [picture("s0.png", "PNG")(f), picture("s1.png", "PNG")(f)],
    ),
    read(
        "jpeg",
        "a JPEG picture",
        (
            "65: a.jpg: the file is damaged, cut short, or not what its name says (not a TIFF "
            "file: header=b'\\xff\\xd8\\xff\\xe0')"
        ),
        ("65: a.jpg: it is a JPEG picture. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        picture("a.jpg", "JPEG"),
    ),
    read(
        "gif",
        "a GIF picture",
        ("65: a.gif: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'GIF8')"),
        ("65: a.gif: it is a GIF picture. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        picture("a.gif", "GIF"),
    ),
    read(
        "bmp",
        "a BMP picture",
        ("65: a.bmp: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'BM>\\x04')"),
        ("65: a.bmp: it is a BMP picture. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        picture("a.bmp", "BMP"),
    ),
    read(
        "jpeg-2000-picture",
        "a JPEG 2000 picture",
        (
            "65: a.jp2: the file is damaged, cut short, or not what its name says (not a TIFF "
            "file: header=b'\\x00\\x00\\x00\\x0c')"
        ),
        ("65: a.jp2: it is a JPEG 2000 picture. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        bytes_as("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
    ),
    read(
        "hdf5",
        "an HDF5 file",
        ("65: a.h5: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'\\x89HDF')"),
        (
            "65: a.h5: it is an HDF5 file (such as .h5, .ims or .mat). Save it as a TIFF stack "
            "(in Fiji: File > Save As > Tiff)."
        ),
        bytes_as("a.h5", b"\x89HDF\r\n\x1a\n"),
    ),
    read(
        "czi",
        "a file of Zeiss",
        ("65: a.czi: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'ZISR')"),
        ("65: a.czi: it is a Zeiss CZI file. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        bytes_as("a.czi", b"ZISRAWFILE"),
    ),
    read(
        "mrc",
        "an MRC file",
        (
            "65: a.mrc: the file is damaged, cut short, or not what its name says (not a TIFF "
            "file: header=b'\\x00\\x00\\x00\\x00')"
        ),
        "65: a.mrc: it is an MRC file. Save it as a TIFF stack (in Fiji: File > Save As > Tiff).",
        bytes_as("a.mrc", bytes(208) + b"MAP "),
    ),
    read(
        "nifti",
        "a NIfTI file",
        (
            "65: a.nii: the file is damaged, cut short, or not what its name says (not a TIFF "
            "file: header=b'\\x00\\x00\\x00\\x00')"
        ),
        "65: a.nii: it is a NIfTI file. Save it as a TIFF stack (in Fiji: File > Save As > Tiff).",
        bytes_as("a.nii", bytes(344) + b"n+1\0"),
    ),
    read(
        "gzip",
        "a NIfTI file in gzip",
        (
            "65: a.nii.gz: the file is damaged, cut short, or not what its name says (not a TIFF "
            "file: header=b'\\x1f\\x8b\\x00\\x00')"
        ),
        "65: a.nii.gz: it is a gzip archive. Unpack it, and name the array in it.",
        bytes_as("a.nii.gz", b"\x1f\x8b"),
    ),
    read(
        "npz",
        "an archive of arrays",
        (
            "65: a.npz: the file is damaged, cut short, or not what its name says (not a TIFF "
            "file: header=b'PK\\x03\\x04')"
        ),
        ("65: a.npz: it is a ZIP archive (such as .npz or a zipped Zarr). Unpack it, and name the array in it."),
        npz,
    ),
    read(
        "tiff-slices-last",
        "a TIFF of 64 pages of 80 x 8 pixels without names, as y, x, z",
        "64x80x8 uint8: 1 1 1 1 1 1 1 1 1 1 1 1 ...",
        (
            "65: a.tif: it has the shape (64, 80, 8) and no names of axes; it looks like y, x and"
            " slices or colours. Save it as z, y, x, or as Zarr with dimension_names."
        ),
        tiff(np.ones((64, 80, 8), np.uint8), photometric="minisblack"),
    ),
    read(
        "tiff-axis-of-one",
        "a TIFF of tifffile with the shape (3, 1, 2, 3)",
        "3x2x3 uint8: 10 20 30",
        "3x2x3 uint8: 10 20 30",
        tiff(volume(3, 2, 3).reshape(3, 1, 2, 3)),
    ),
    read(
        "npy-slices-last",
        "a .npy file of 64 x 80 x 8 voxels, as y, x, z",
        "64x80x8 uint8: 1 1 1 1 1 1 1 1 1 1 1 1 ...",
        (
            "65: a.npy: it has the shape (64, 80, 8) and no names of axes; it looks like y, x and"
            " slices or colours. Save it as z, y, x, or as Zarr with dimension_names."
        ),
        npy(64, 80, 8),
    ),
    read(
        "npy-colours",
        "a .npy file of 64 x 80 x 3 voxels, as y, x and colours",
        "64x80x3 uint8: 1 1 1 1 1 1 1 1 1 1 1 1 ...",
        (
            "65: a.npy: it has the shape (64, 80, 3) and no names of axes; it looks like y, x and"
            " slices or colours. Save it as z, y, x, or as Zarr with dimension_names."
        ),
        npy(64, 80, 3),
    ),
    read(
        "npy-slices",
        "two .npy files",
        ("65: s0.npy: the file is damaged, cut short, or not what its name says (not a TIFF file: header=b'\\x93NUM')"),
        ("65: s0.npy: it is no TIFF, and of several files each is a TIFF of one slice. Give it alone."),
        npys,
    ),
    read(
        "n5",
        "an N5 container",
        "2: a: it is a folder, not a Zarr array. Name its files instead: a/*.tif",
        "65: a: it is an N5 container. Save it as Zarr or TIFF.",
        folder_of({"attributes.json": {"n5": "2.5.1"}}),
    ),
    read(
        "precomputed",
        "a volume of Neuroglancer",
        "2: a: it is a folder, not a Zarr array. Name its files instead: a/*.tif",
        "65: a: it is a volume of Neuroglancer (precomputed). Save it as Zarr or TIFF.",
        folder_of({"info": {"scales": []}}),
    ),
)

ZARRS = (
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
        "two series in the layout of bioformats2raw: the first is read",
        "65: a.zarr: it is a Zarr group without OME-Zarr metadata; its arrays: none",
        "3x2x3 uint8: 10 20 30",
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
)

SIZES = (
    Case(
        "micrometres-as-nanometres",
        "OME-XML says 0.07, 0.1, 0.1 um; --voxel-size-nm 0.07,0.1,0.1",
        "0: Stored 3 x 20 x 30 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:20 x 0:30.",
        (
            "65: voxel size 0.07,0.1,0.1 nm of a.ome.tif: the file says 70,100,100 nm (z, y, x). "
            "Give --voxel-size-nm 70,100,100, or correct it in the file."
        ),
        ingested(sized(0.07, 0.1, 0.1), "0.07,0.1,0.1"),
    ),
    Case(
        "size-in-x-y-z",
        "OME-XML says 70, 100, 100 nm; --voxel-size-nm 100,100,70",
        "0: Stored 3 x 20 x 30 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:20 x 0:30.",
        (
            "65: voxel size 100,100,70 nm of a.ome.tif: the file says 70,100,100 nm (z, y, x). "
            "Give --voxel-size-nm 70,100,100, or correct it in the file."
        ),
        ingested(sized(70, 100, 100, "nm"), "100,100,70"),
    ),
    Case(
        "size-as-the-file",
        "OME-XML says 0.07, 0.1, 0.1 um; --voxel-size-nm 70,100,100",
        "0: Stored 3 x 20 x 30 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:20 x 0:30.",
        "0: Stored 3 x 20 x 30 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:20 x 0:30.",
        ingested(sized(0.07, 0.1, 0.1)),
    ),
    Case(
        "size-rounded",
        "OME-XML says 0.0698, 0.1, 0.1 um; --voxel-size-nm 70,100,100",
        "0: Stored 3 x 20 x 30 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:20 x 0:30.",
        "0: Stored 3 x 20 x 30 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:20 x 0:30.",
        ingested(sized(0.0698, 0.1, 0.1)),
    ),
    Case(
        "size-of-imagej",
        "ImageJ says 0.05 x 0.1 x 0.1 micron",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        (
            "65: voxel size 70,100,100 nm of a.tif: the file says 50,100,100 nm (z, y, x). Give "
            "--voxel-size-nm 50,100,100, or correct it in the file."
        ),
        ingested(fiji("micron", 0.05, 10)),
    ),
    Case(
        "size-of-imagej-escaped",
        "ImageJ says 0.07 x 0.2 x 0.2 \\u00B5m",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        (
            "65: voxel size 70,100,100 nm of a.tif: the file says 70,200,200 nm (z, y, x). Give "
            "--voxel-size-nm 70,200,200, or correct it in the file."
        ),
        ingested(fiji("\\u00B5m", 0.07, 5)),
    ),
    Case(
        "size-of-imagej-in-pixels",
        "ImageJ says 1 pixel",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        ingested(fiji("pixel", 1, 1)),
    ),
    Case(
        "size-of-imagej-fits",
        "ImageJ says 0.07 x 0.1 x 0.1 um",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        ingested(fiji("um", 0.07, 10)),
    ),
    Case(
        "resolution-of-a-microscope",
        "resolution tags say 50,000 pixels a centimetre",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        (
            "65: voxel size 70,100,100 nm of a.tif: the file says ?,200,200 nm (z, y, x). Give "
            "--voxel-size-nm 70,200,200, or correct it in the file."
        ),
        ingested(tiff(V3, resolution=(50000, 50000), resolutionunit=3, metadata=None)),
    ),
    Case(
        "resolution-of-a-screen-by-imagej",
        "ImageJ says 72 pixels an inch",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        ingested(fiji("inch", 1, 72)),
    ),
    Case(
        "resolution-of-a-printer",
        "resolution tags say 300 dots an inch",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        ingested(tiff(V3, resolution=(300, 300), resolutionunit=2, metadata=None)),
    ),
    Case(
        "size-of-one-slice",
        "of two slices the second says another pixel size",
        "0: Stored 2 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:2 y 0:2 x 0:3.",
        (
            "65: s1.tif: its voxel size is ?,200,200 nm where s0.tif has ?,100,100 nm. Give "
            "slices of one shape, type and voxel size."
        ),
        ingested(
            lambda f: [
                tiff(V3[n], f"s{n}.tif", resolution=(fine, fine), resolutionunit=3, metadata=None)(f)
                for n, fine in enumerate((100000, 50000))
            ]
        ),
    ),
    Case(
        "size-of-ome-zarr",
        "OME-Zarr says 0.05 um along z",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        (
            "65: voxel size 70,100,100 nm of a.zarr: the file says 50,100,100 nm (z, y, x). Give "
            "--voxel-size-nm 50,100,100, or correct it in the file."
        ),
        ingested(image("zyx", V3, scale=(0.05, 0.1, 0.1), unit="micrometer")),
    ),
    Case(
        "size-of-ome-zarr-in-x-y-z",
        "OME-Zarr with axes x, y, z says 0.1, 0.1, 0.07 um",
        "65: a.zarr: its axes are x, y, z. Save it with the axes z, y, x last",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        ingested(image("xyz", XYZ, scale=(0.1, 0.1, 0.07), unit="micrometer")),
    ),
    Case(
        "size-of-funlib",
        "voxel_size and units of funlib say 50 nm along z",
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        (
            "65: voxel size 70,100,100 nm of a.zarr: the file says 50,100,100 nm (z, y, x). Give "
            "--voxel-size-nm 50,100,100, or correct it in the file."
        ),
        ingested(array(V3, axis_names=list("zyx"), voxel_size=[50, 100, 100], units=["nm"] * 3)),
    ),
    Case(
        "size-in-evaluate",
        "evaluate --voxel-size-nm 0.07,0.1,0.1 where OME-XML says micrometres",
        (
            "65: windows for voxels of 0.07 x 0.1 x 0.1 nm (z, y, x): below 3 nm a punctum has "
            "more voxels than anybody has imaged"
        ),
        (
            "65: voxel size 0.07,0.1,0.1 nm of a.ome.tif: the file says 70,100,100 nm (z, y, x). "
            "Give --voxel-size-nm 70,100,100, or correct it in the file."
        ),
        evaluated(sized(0.07, 0.1, 0.1), "0.07,0.1,0.1", "--pipeline", "puncta"),
    ),
    Case(
        "size-of-synaptograms",
        "evaluate --voxel-size-nm 100,100,70 of cubes whose archive says 70, 100, 100 nm",
        "0: nomads-unsupervised on 6 synaptograms of a.npz",
        (
            "65: voxel size 100,100,70 nm of a.npz: the file says 70,100,100 nm (z, y, x). Give "
            "--voxel-size-nm 70,100,100, or correct it in the file."
        ),
        synaptograms("100,100,70"),
    ),
    Case(
        "channels-by-names-in-ingest",
        "ingest of img_z000_c000.tif and c001",
        "0: Stored 2 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:2 y 0:2 x 0:3.",
        (
            "2: img_z000_c000.tif to img_z000_c001.tif: a number in their names counts channels "
            "(c 000 to 001). Give the slices of one channel, time and tile alone, or say what "
            "counts them, with {z} for it in --pattern."
        ),
        ingested(slices("img_z000_c000.tif", "img_z000_c001.tif")),
    ),
    Case(
        "pattern-in-ingest",
        "the same with z000 and z001 and --pattern 'img_z{z}_c001.tif'",
        ("2: the command line: unrecognized option --pattern. nd-synapse boss --help lists the options"),
        "0: Stored 2 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:2 y 0:2 x 0:3.",
        ingested(
            slices("img_z000_c000.tif", "img_z000_c001.tif", "img_z001_c000.tif", "img_z001_c001.tif"),
            "70,100,100",
            "--pattern",
            "img_z{z}_c001.tif",
        ),
    ),
    Case(
        "signed-in-ingest",
        "ingest of int16",
        "65: a.tif: it holds int16, and BOSS holds uint8, uint16, uint64",
        (
            "65: a.tif: it holds int16, and BOSS holds uint8, uint16, uint64. Save it as uint16, "
            "after making sure that no value is negative or too large for that."
        ),
        ingested(tiff(V3.astype(np.int16), metadata=ZYX)),
    ),
    Case(
        "wide-in-ingest",
        "ingest of int32",
        "65: a.tif: it holds int32, and BOSS holds uint8, uint16, uint64",
        (
            "65: a.tif: it holds int32, and BOSS holds uint8, uint16, uint64. Save it as uint64 "
            "(annotation), after making sure that no value is negative or too large for that."
        ),
        ingested(tiff(V3.astype(np.int32), metadata=ZYX)),
    ),
    Case(
        "levels-as-channels",
        "evaluate --images of an OME-Zarr image: its levels are no channels",
        (
            "2: a presynaptic channel (a marker of the pre-synaptic side; names with synapsin, "
            "syn1, bassoon, vglut1, vglut): the image channels are 0, 1"
        ),
        (
            "2: a presynaptic channel (a marker of the pre-synaptic side; names with synapsin, "
            "syn1, bassoon, vglut1, vglut): the image channels are a. Name it with --channels "
            "presynaptic=NAME."
        ),
        evaluated(image("zyx", V3)),
    ),
    Case(
        "channels-in-evaluate",
        "evaluate --images of an OME-Zarr image with PSD95 and Synapsin",
        (
            "2: a presynaptic channel (a marker of the pre-synaptic side; names with synapsin, "
            "syn1, bassoon, vglut1, vglut): the image channels are 0, 1"
        ),
        "0: nomads-unsupervised, mask All, on a.zarr",
        evaluated(two_channels),
    ),
    Case(
        "one-zarr-array-in-evaluate",
        "evaluate --images of one Zarr array",
        ("65: a.zarr: it is a single array. Give a Zarr group with an array z, y, x for each channel"),
        (
            "2: a presynaptic channel (a marker of the pre-synaptic side; names with synapsin, "
            "syn1, bassoon, vglut1, vglut): the image channels are a. Name it with --channels "
            "presynaptic=NAME."
        ),
        evaluated(array(V3)),
    ),
    Case(
        "upper-case-in-evaluate",
        "evaluate --images of a folder with PSD95.OME.TIF",
        (
            "2: a presynaptic channel (a marker of the pre-synaptic side; names with synapsin, "
            "syn1, bassoon, vglut1, vglut): the image channels are PSD95.OME"
        ),
        (
            "2: a presynaptic channel (a marker of the pre-synaptic side; names with synapsin, "
            "syn1, bassoon, vglut1, vglut): the image channels are PSD95. Name it with --channels"
            " presynaptic=NAME."
        ),
        evaluated(upper_case),
    ),
    Case(
        "white-is-zero-in-evaluate",
        "evaluate --images of a picture with white as 0",
        "65: a.tif: it stores white as 0. Save it with black as 0 (in Fiji: Edit > Invert LUT)",
        (
            "65: a.tif: it stores white as 0. Save it with black as 0: in Fiji, Image > Lookup "
            "Tables > Grays if its high values are bright, and then Edit > Invert if they are "
            "dark."
        ),
        evaluated(tiff(V3, photometric="miniswhite", metadata=None), "70,100,100", "--pipeline", "puncta"),
    ),
)

CASES: tuple[Case, ...] = (*NAMES, *TIFFS, *FORMATS, *ZARRS, *SIZES)
