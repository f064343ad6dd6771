"""Voxel sizes that a file contradicts, and what the commands make of files."""

import pickle

import numpy as np

from tests.cases import Case
from tests.cases._files import (
    V3,
    WORDS,
    XYZ,
    ZYX,
    array,
    bytes_as,
    changed,
    cubes,
    evaluated,
    fiji,
    image,
    imagej,
    ingested,
    pages,
    saved,
    sized,
    slices,
    synaptograms,
    tiff,
    two_channels,
    upper_case,
)

CASES = (
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
        synaptograms(cubes(voxel_size_nm=[70, 100, 100]), "--voxel-size-nm", "100,100,70"),
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
            "syn1, bassoon, vglut1, vglut): the image channels are a. For one marker alone "
            "take --pipeline puncta."
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
            "syn1, bassoon, vglut1, vglut): the image channels are a. For one marker alone "
            "take --pipeline puncta."
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
            "syn1, bassoon, vglut1, vglut): the image channels are PSD95. For one marker "
            "alone take --pipeline puncta."
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
    Case(
        "decimal-comma-of-imagej",
        "ImageJ says spacing=0,07",
        (
            "65: a.tif: the file is damaged, cut short, or not what its name says (could not convert "
            "string to float: '0,07'). Copy or write it anew."
        ),
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        ingested(fiji("um", "0,07", 10)),
    ),
    Case(
        "other-decimal-comma-of-imagej",
        "ImageJ says spacing=0,05",
        (
            "65: a.tif: the file is damaged, cut short, or not what its name says (could not convert "
            "string to float: '0,05'). Copy or write it anew."
        ),
        (
            "65: voxel size 70,100,100 nm of a.tif: the file says 50,100,100 nm (z, y, x). Give "
            "--voxel-size-nm 50,100,100, or correct it in the file."
        ),
        ingested(fiji("um", "0,05", 10)),
    ),
    Case(
        "no-number-of-imagej",
        "ImageJ says spacing=unknown",
        (
            "65: a.tif: the file is damaged, cut short, or not what its name says (could not convert "
            "string to float: 'unknown'). Copy or write it anew."
        ),
        "0: Stored 3 x 2 x 3 voxels (z, y, x) of uint8 as image c/e/h, z 0:3 y 0:2 x 0:3.",
        ingested(fiji("um", "unknown", 10)),
    ),
    Case(
        "decimal-comma-of-calibration",
        "ImageJ says c0=-32768,0 and c1=1,0 of uint16",
        (
            "65: a.tif: ImageJ calibrates its values (function 0, coefficients ('-32768,0', '1,0')). "
            "Save it without (in Fiji: Analyze > Calibrate, None keeps the stored values)."
        ),
        (
            "65: a.tif: it holds int16, and BOSS holds uint8, uint16, uint64. Save it as uint16, "
            "after making sure that no value is negative or too large for that."
        ),
        ingested(pages(WORDS + np.uint16(32768), imagej(images=3, slices=3, cf=0, c0="-32768,0", c1="1,0"))),
    ),
    Case(
        "decimal-comma-of-ome",
        "OME-XML says PhysicalSizeZ 0,05",
        (
            "65: a.ome.tif: the file is damaged, cut short, or not what its name says (could not "
            "convert string to float: '0,05'). Copy or write it anew."
        ),
        (
            "65: voxel size 70,100,100 nm of a.ome.tif: the file says 50,100,100 nm (z, y, x). Give "
            "--voxel-size-nm 50,100,100, or correct it in the file."
        ),
        ingested(changed(sized(0.05, 0.1, 0.1), (b"0.05", b"0,05"))),
    ),
    Case(
        "synaptograms-as-npy",
        "evaluate --synaptograms of a .npy file",
        (
            "65: a.npy: the file is damaged, cut short, or not what its name says ('numpy.ndarray' "
            "object does not support the context manager protocol). Copy or write it anew."
        ),
        (
            "65: a.npy: it is one array (.npy). Give an archive (.npz) with images_uint8 or "
            "images_uint16, channels, label and label_names."
        ),
        synaptograms(saved(V3)),
    ),
    Case(
        "synaptograms-as-tiff",
        "evaluate --synaptograms of a TIFF",
        (
            "65: a.tif: the file is damaged, cut short, or not what its name says (This file "
            "contains pickled (object) data. If you trust the file you can load it unsafely using "
            "the `allow_pickle=` keyword argument or `pickle.load()`.). Copy or write it anew."
        ),
        (
            "65: a.tif: it is no archive of arrays. Give an archive (.npz) with images_uint8 or "
            "images_uint16, channels, label and label_names."
        ),
        synaptograms(tiff(V3)),
    ),
    Case(
        "synaptograms-as-zarr",
        "evaluate --synaptograms of a Zarr array",
        "74: a.zarr: it cannot be read (Is a directory). Check the path and your right to read it.",
        (
            "65: a.zarr: it is a folder. Give an archive (.npz) with images_uint8 or images_uint16, "
            "channels, label and label_names."
        ),
        synaptograms(array(V3)),
    ),
    Case(
        "synaptograms-as-pickle",
        "evaluate --synaptograms of a pickle",
        (
            "65: a.pkl: the file is damaged, cut short, or not what its name says (This file "
            "contains pickled (object) data. If you trust the file you can load it unsafely using "
            "the `allow_pickle=` keyword argument or `pickle.load()`.). Copy or write it anew."
        ),
        (
            "65: a.pkl: it is a Python pickle, which could run code when read. Give an archive "
            "(.npz) with images_uint8 or images_uint16, channels, label and label_names."
        ),
        synaptograms(bytes_as("a.pkl", pickle.dumps(V3))),
    ),
    Case(
        "synaptograms-named-by-objects",
        "label_names of synaptograms are Python objects",
        (
            "65: a.npz: the file is damaged, cut short, or not what its name says (Object arrays "
            "cannot be loaded when allow_pickle=False). Copy or write it anew."
        ),
        (
            "65: label_names of a.npz: it holds Python objects, which could run code when read. Save "
            "it as numbers or text of one type (in NumPy: array.astype)."
        ),
        synaptograms(cubes(label_names=np.array(["none", "glut"], object))),
    ),
    Case(
        "synaptograms-beside-objects",
        "an archive of synaptograms has an entry of Python objects beside",
        (
            "65: a.npz: the file is damaged, cut short, or not what its name says (Object arrays "
            "cannot be loaded when allow_pickle=False). Copy or write it anew."
        ),
        "0: nomads-unsupervised on 6 synaptograms of a.npz",
        synaptograms(cubes(note=np.array([None]))),
    ),
    Case(
        "synaptograms-named-by-bytes",
        "channels of synaptograms are bytes",
        (
            "2: channel 'PSD95' as postsynaptic: there is no such image channel; there are b'PSD95', "
            "b'Synapsin'. Correct the name in --channels."
        ),
        "0: nomads-unsupervised on 6 synaptograms of a.npz",
        synaptograms(
            cubes(channels=[b"PSD95", b"Synapsin"]),
            "--channels",
            "presynaptic=Synapsin",
            "--channels",
            "postsynaptic=PSD95",
        ),
    ),
    Case(
        "synaptograms-labelled-by-fractions",
        "labels of synaptograms are float64",
        (
            "65: a.npz: the file is damaged, cut short, or not what its name says (arrays used as "
            "indices must be of integer (or boolean) type). Copy or write it anew."
        ),
        "65: a.npz: its label is not 6 indices of label_names. Correct label.",
        synaptograms(cubes(label=[0.0, 1, 0, 1, 0, 1])),
    ),
    Case(
        "size-of-synaptograms-in-two",
        "voxel_size_nm of synaptograms has two numbers",
        (
            "65: a.npz: the file is damaged, cut short, or not what its name says (not enough values "
            "to unpack (expected 3, got 2)). Copy or write it anew."
        ),
        "65: a.npz: its voxel_size_nm is [70, 100]. Give three sizes in nanometres: z, y, x.",
        synaptograms(cubes(voxel_size_nm=[70, 100])),
    ),
    Case(
        "size-of-synaptograms-is-nan",
        "voxel_size_nm of synaptograms has NaN",
        (
            "65: nomads-unsupervised on these images: ValueError: cannot convert float NaN to "
            "integer. Correct the pipeline."
        ),
        ("65: a.npz: its voxel_size_nm is [70.0, nan, 100.0]. Give three sizes in nanometres: z, y, x."),
        synaptograms(cubes(voxel_size_nm=[70, np.nan, 100])),
    ),
)
