"""Names of files: which of several files are the slices of one channel, and in which order."""

from tests.cases._files import (
    read,
    slices,
)

CASES = (
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
