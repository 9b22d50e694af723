"""Small photos with drone metadata, written by Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

_NUMBER = {name: number for number, name in ExifTags.TAGS.items()}
_GPS_NUMBER = {name: number for number, name in ExifTags.GPSTAGS.items()}

DJI = "http://www.dji.com/drone-dji/1.0/"
CAMERA = "http://pix4d.com/camera/1.0"


def exif_block(
    image: Mapping[str, Any] | None = None,
    photo: Mapping[str, Any] | None = None,
    gps: Mapping[str, Any] | None = None,
) -> Image.Exif:
    """EXIF block with the given tags in its three directories."""
    exif = Image.Exif()
    for name, value in (image or {}).items():
        exif[_NUMBER[name]] = value
    for pointer, tags, numbers in (
        (ExifTags.IFD.Exif, photo, _NUMBER),
        (ExifTags.IFD.GPSInfo, gps, _GPS_NUMBER),
    ):
        directory = exif.get_ifd(pointer)
        directory.update({numbers[name]: value for name, value in (tags or {}).items()})
        if directory:
            exif[pointer] = directory
    return exif


def xmp_packet(attributes: Mapping[str, str], *, namespace: str = DJI, prefix: str = "drone-dji") -> bytes:
    """XMP packet with one description that has these attributes."""
    members = " ".join(f'{prefix}:{name}="{value}"' for name, value in attributes.items())
    return packet_of(f'<rdf:Description rdf:about="" xmlns:{prefix}="{namespace}" {members}/>')


def packet_of(descriptions: str) -> bytes:
    """XMP packet around descriptions given as XML."""
    return (
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>"
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"{descriptions}</rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def write_photo(
    path: Path,
    *,
    size: tuple[int, int] = (40, 30),
    exif: Image.Exif | None = None,
    xmp: bytes | None = None,
    mode: str = "RGB",
) -> Path:
    """Writes a photo in the format of the path's suffix."""
    image, block = Image.new(mode, size), exif or Image.Exif()
    match path.suffix.lower():
        case ".png":
            texts = PngInfo()
            if xmp is not None:
                texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
            image.save(path, "PNG", exif=block, pnginfo=texts)
        case ".tif" | ".tiff":
            if xmp is not None:
                block[700] = xmp
            image.save(path, "TIFF", exif=block)
        case ".webp":
            image.save(path, "WEBP", exif=block, xmp=xmp or b"")
        case _:
            image.save(path, "JPEG", exif=block, **({} if xmp is None else {"xmp": xmp}))
    return path
