"""Damaged and odd files, each with one fault, generated."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import py7zr
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import Affine
from tests.derivatives.clouds import write_cloud
from tests.metadata.vectors import write_points
from tests.raster.rasters import write_raster

Make = Callable[[Path], bytes]
"""Content of a file; the folder is for what is written on the way."""

NOISE = np.random.default_rng(1).integers(0, 255, (1, 256, 256), "uint8")
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}
POINT = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [7, 50]}}
GEOJSON = json.dumps({"type": "FeatureCollection", "features": [POINT]}).encode()
KML = (
    b'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark><Point><coordinates>7,50'
    b"</coordinates></Point></Placemark></Document></kml>"
)


def cut(content: bytes, share: float = 0.6) -> bytes:
    """The beginning of the content."""
    return content[: int(len(content) * share)]


def altered(content: bytes, at: float = 0.5, length: int = 400) -> bytes:
    """The content with some bytes replaced."""
    begin = int(len(content) * at)
    end = min(begin + length, len(content))
    junk = np.random.default_rng(5).integers(0, 256, end - begin, "uint8").tobytes()
    return content[:begin] + junk + content[end:]


def tiff(**options: Any) -> Make:
    """A GeoTIFF of noise, or of `pixels`."""
    pixels = options.pop("pixels", NOISE)
    return lambda folder: write_raster(folder / "made.tif", pixels, **options).read_bytes()


def with_tag(make: Make, tag: int, value: int) -> Make:
    """A little-endian TIFF in which a tag of the first directory has another short value."""

    def patched(folder: Path) -> bytes:
        content = bytearray(make(folder))
        (directory,) = struct.unpack_from("<I", content, 4)
        (count,) = struct.unpack_from("<H", content, directory)
        for number in range(count):
            at = directory + 2 + 12 * number
            if struct.unpack_from("<H", content, at)[0] == tag:
                struct.pack_into("<H", content, at + 8, value)
        return bytes(content)

    return patched


def picture(kind: str) -> Make:
    """An image of noise without a georeference."""

    def made(_folder: Path) -> bytes:
        content = io.BytesIO()
        Image.fromarray(NOISE[0]).save(content, kind)
        return content.getvalue()

    return made


def cloud(suffix: str) -> Make:
    """A point cloud."""
    xyz = np.random.default_rng(2).uniform([500_000, 5_000_000, 0], [500_100, 5_000_100, 9], (20_000, 3))

    def made(folder: Path) -> bytes:
        path = folder / f"made.{suffix}"
        write_cloud(path, xyz)
        return path.read_bytes()

    return made


def vector(suffix: str, part: str | None = None) -> Make:
    """A vector file, or one part of it."""

    def made(folder: Path) -> bytes:
        path = folder / f"made.{suffix}"
        points = tuple((7 + number / 1000, 50.0) for number in range(2000))
        if not path.exists():
            write_points(path, points)
        return path.with_suffix(f".{part or suffix}").read_bytes()

    return made


def zipped(_folder: Path) -> bytes:
    """A ZIP of two members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.bin", "b.bin"):
            archive.writestr(name, NOISE.tobytes()[:40_000] + b"\0" * 40_000)
    return content.getvalue()


def seven_zipped(folder: Path) -> bytes:
    """A 7z file."""
    path = folder / "made.7z"
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.writestr(NOISE.tobytes()[:40_000], "a.bin")
    return path.read_bytes()


def tarred(_folder: Path) -> bytes:
    """A TAR."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("a.bin")
        member.size = 40_000
        archive.addfile(member, io.BytesIO(NOISE.tobytes()))
    return content.getvalue()


def then(change: Callable[..., bytes], make: Make, *options: float) -> Make:
    """A file that `make` writes, changed afterwards."""
    return lambda folder: change(make(folder), *options)


def exactly(content: bytes) -> Make:
    """The content."""
    return lambda _folder: content


RASTERS: dict[str, Make] = {
    "good.tif": tiff(**TILES),
    "cut-strips.tif": then(cut, tiff(compress="deflate")),
    "cut-tiles.tif": then(cut, tiff(**TILES, compress="deflate")),
    "no-directory.tif": exactly(b"II*\0" + struct.pack("<I", 1_000_000) + b"\0" * 200),
    "odd-directory.tif": exactly(b"II*\0" + struct.pack("<IH", 8, 40) + bytes(range(256)) * 2),
    "odd-compression.tif": with_tag(tiff(**TILES, compress="deflate"), 259, 34661),
    "unknown-compression.tif": with_tag(tiff(**TILES, compress="deflate"), 259, 60_000),
    "damaged-deflate.tif": then(altered, tiff(**TILES, compress="deflate")),
    "damaged-lzw.tif": then(altered, tiff(**TILES, compress="lzw")),
    "damaged-zstd.tif": then(altered, tiff(**TILES, compress="zstd")),
    "damaged-jpeg.tif": then(altered, tiff(**TILES, compress="jpeg"), 0.5, 3000),
    "damaged-tile-sizes.tif": then(altered, tiff(**TILES, compress="deflate"), 0.0, 60),
    "complex.tif": tiff(pixels=np.ones((1, 64, 64), "complex64")),
    "local.tif": tiff(crs=CRS.from_wkt('LOCAL_CS["plant",UNIT["metre",1]]')),
    "unknown-crs.tif": tiff(
        crs=CRS.from_wkt(
            'PROJCS["x",GEOGCS["x",DATUM["x",SPHEROID["x",6378137,298]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925]],'
            'PROJECTION["Nonsense"],UNIT["metre",1]]'
        )
    ),
    "no-crs.tif": tiff(crs=None),
    "nan-transform.tif": tiff(transform=Affine(np.nan, 0, 0, 0, np.nan, 0)),
    "flat-transform.tif": tiff(transform=Affine(1, 0, 500_000, 1, 0, 5_000_000)),
    "far-away.tif": tiff(crs="EPSG:4326", transform=Affine(100, 0, 5000, 0, -100, 9000)),
    "cut.png": then(cut, picture("PNG")),
    "damaged.png": then(altered, picture("PNG")),
    "cut.jpg": then(cut, picture("JPEG")),
    "damaged.jpg": then(altered, picture("JPEG"), 0.3, 4000),
    "cut.webp": then(cut, picture("WEBP")),
    "cut.jp2": exactly(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + b"\0\0\0\x2djp2h"),
    "text.tif": exactly(b"no raster at all"),
}
CLOUDS: dict[str, Make] = {
    "cut.las": then(cut, cloud("las")),
    "cut.laz": then(cut, cloud("laz")),
    "damaged.laz": then(altered, cloud("laz"), 0.5, 3000),
    "damaged-header.las": then(altered, cloud("las"), 0.0, 200),
    "short.las": exactly(b"LASF" + b"\0" * 20),
}
MESHES: dict[str, Make] = {
    "cut.ply": exactly(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 900\nproperty float x\nproperty float y\nproperty float z\n"
        b"element face 300\nproperty list uchar int vertex_indices\nend_header\n" + b"\0" * 50
    ),
    "odd.ply": exactly(b"ply\nformat ascii 1.0\nelement vertex x\nend_header\n"),
    "no-faces.obj": exactly(b"v 0 0 0\nv 1 1 1\n"),
    "odd-faces.obj": exactly(b"v 0 0 0\nv 1 0 0\nv 1 1 1\nf 1 2 99999\n" * 20),
    "cut.glb": exactly(
        b"glTF" + struct.pack("<IIII", 2, 4000, 200, 0x4E4F534A) + b'{"asset":{"version":"2.0"'
    ),
    "odd.stl": exactly(b"\0" * 80 + struct.pack("<I", 5000) + b"\0" * 100),
}
VECTORS: dict[str, Make] = {
    "syntax.geojson": exactly(GEOJSON[:-2] + b",,}"),
    "cut.geojson": then(cut, exactly(GEOJSON)),
    "deep.geojson": exactly(b'{"type":"FeatureCollection","features":' + b"[" * 100_000),
    "other.geojson": exactly(b'{"hello": 1}'),
    "latin.geojson": exactly(GEOJSON.replace(b'"properties": {}', b'"properties": {"a": "\xe4\xf6"}')),
    "unknown-crs.geojson": exactly(
        GEOJSON.replace(
            b'"features"',
            b'"crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG::999999"}},"features"',
        )
    ),
    "cut.kml": then(cut, exactly(KML)),
    "entity.kml": exactly(b'<?xml version="1.0"?><kml>&nonsense;</kml>'),
    "empty.kml": exactly(b'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"></kml>'),
    "odd.gml": exactly(b"<FeatureCollection><x></FeatureCollection>"),
    "cut.gpx": exactly(b'<gpx><trk><trkseg><trkpt lat="a">'),
    "cut.gpkg": then(cut, vector("gpkg"), 0.4),
    "damaged.gpkg": then(altered, vector("gpkg"), 0.1, 60_000),
    "cut.fgb": then(cut, vector("fgb")),
    "damaged.fgb": then(altered, vector("fgb"), 0.01, 2000),
    "no-parts.shp": vector("shp"),
    "cut-index.shp": vector("shp"),
    "cut-index.shx": then(cut, vector("shp", "shx")),
    "cut-index.dbf": vector("shp", "dbf"),
    "cut-table.shp": vector("shp"),
    "cut-table.shx": vector("shp", "shx"),
    "cut-table.dbf": then(cut, vector("shp", "dbf")),
    "odd-system.shp": vector("shp"),
    "odd-system.shx": vector("shp", "shx"),
    "odd-system.dbf": vector("shp", "dbf"),
    "odd-system.prj": exactly(b"no coordinate system"),
    "no-system.shp": vector("shp"),
    "no-system.shx": vector("shp", "shx"),
    "no-system.dbf": vector("shp", "dbf"),
    "odd.dxf": exactly(
        b"  0\nSECTION\n  2\nENTITIES\n  0\nINSERT\n  2\nfoo\n 10\n1\n 20\n2\n  0\nENDSEC\n  0\nEOF\n"
    ),
    "twice.geojson": exactly(
        json.dumps({"type": "FeatureCollection", "features": [{**POINT, "id": 1}] * 2}).encode()
    ),
}
ARCHIVES: dict[str, Make] = {
    "cut.zip": then(cut, zipped),
    "damaged.zip": then(altered, zipped, 0.2),
    "cut.7z": then(cut, seven_zipped),
    "damaged.7z": then(altered, seven_zipped),
    "cut.tar": then(cut, tarred),
    "odd.tar": then(altered, tarred, 0.0, 500),
    "damaged.tar.gz": lambda folder: altered(gzip.compress(tarred(folder))),
    "cut.rar": exactly(b"Rar!\x1a\x07\x01\0" + bytes(range(200))),
}
ODD_FILES = {
    **RASTERS,
    **CLOUDS,
    **MESHES,
    **VECTORS,
    **ARCHIVES,
    "cut.mp4": exactly(b"\0\0\0\x18ftypmp42" + b"\0" * 40),
}


def write_odd_files(folder: Path) -> dict[str, bytes]:
    """The content of each file by its name; `folder` is for what is written on the way."""
    with rasterio.Env(GTIFF_WRITE_LINEAR_UNITS="YES"):
        return {name: make(folder) for name, make in ODD_FILES.items()}
