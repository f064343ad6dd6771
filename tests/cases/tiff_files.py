"""TIFF files: pages against metadata, values that do not mean brightness, compressions."""

import numpy as np

from tests.cases._files import (
    GREEN,
    OME_XML,
    RAMP,
    RANDOM,
    SIGNED,
    V3,
    V5,
    WORDS,
    ZYX,
    changed,
    companion,
    imagej,
    ome,
    ome_set,
    pages,
    palette,
    read,
    renamed,
    tag,
    tiff,
    trailing,
    two_folders,
    two_images,
    volume,
    white_page,
)

CASES = (
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
