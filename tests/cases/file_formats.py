"""Formats: what is no TIFF and no Zarr array is read, or named for what it is."""

import pickle

import numpy as np

from tests.cases._files import V3, bytes_as, folder_of, lsm, npy, npys, npz, picture, read, saved, tiff, volume

CASES = (
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
    read(
        "lsm",
        "a file of Zeiss with a thumbnail for each slice",
        (
            "65: a.lsm: it holds 2 images of unequal shape ((3, 2, 3), (3, 1, 3)). Save one of them "
            "as a file of its own."
        ),
        ("65: a.lsm: it is a Zeiss LSM file. Save it as a TIFF stack (in Fiji: File > Save As > Tiff)."),
        lsm,
    ),
    read(
        "npy-objects",
        "a .npy file of Python objects",
        (
            "65: a.npy: the file is damaged, cut short, or not what its name says (Array can't be "
            "memory-mapped: Python objects in dtype.). Copy or write it anew."
        ),
        (
            "65: a.npy: it holds Python objects, which could run code when read. Save it as numbers "
            "or text of one type (in NumPy: array.astype)."
        ),
        saved(V3.astype(object)),
    ),
    read(
        "npy-objects-in-fields",
        "a .npy file of records, one field of which are Python objects",
        (
            "65: a.npy: the file is damaged, cut short, or not what its name says (Array can't be "
            "memory-mapped: Python objects in dtype.). Copy or write it anew."
        ),
        (
            "65: a.npy: it holds Python objects, which could run code when read. Save it as numbers "
            "or text of one type (in NumPy: array.astype)."
        ),
        saved(np.zeros((3, 2, 3), [("a", "u1"), ("b", "O")])),
    ),
    read(
        "pickle-called-npy",
        "a pickled array called .npy",
        (
            "65: a.npy: the file is damaged, cut short, or not what its name says (not a TIFF file: "
            "header=b'\\x80\\x04\\x95\\x9f'). Copy or write it anew."
        ),
        ("65: a.npy: it is a Python pickle, which could run code when read. Save it as Zarr or TIFF."),
        bytes_as("a.npy", pickle.dumps(V3)),
    ),
)
