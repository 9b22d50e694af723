"""What EXIF and XMP tell of a photo: camera, time, position, orientation, and the ground that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.metadata.geojson import GeoJson, point, polygon
from aerotask.metadata.photos import pose
from aerotask.metadata.photos.camera import Size, camera
from aerotask.metadata.photos.capture_time import capture_time
from aerotask.metadata.photos.exif import EmbeddedMetadata, read_embedded
from aerotask.metadata.photos.footprint import CameraView, footprint
from aerotask.metadata.photos.multispectral import BAND_NAMES, wavelength_nm
from aerotask.metadata.photos.values import first_number, first_text, number, text


@dataclass(frozen=True, slots=True)
class PhotoMetadata:
    """What was found in the metadata of a photo."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    point: GeoJson | None = None
    footprint: GeoJson | None = None
    is_panorama: bool = False


def describe(path: Path, picture_px: tuple[int, int] | None) -> PhotoMetadata:
    """Read the metadata of the photo at `path`, whose width and height are known from elsewhere.

    Broken metadata never fail; what is wrong is named in `metadataFaults`.
    """
    return interpret(read_embedded(path), picture_px)


def interpret(found: EmbeddedMetadata, picture_px: tuple[int, int] | None) -> PhotoMetadata:
    """Make sense of a photo's metadata."""
    size = picture_px if picture_px and min(picture_px) > 0 else _size(found)
    where, how = pose.position(found), pose.orientation(found)
    taken_with = camera(found, size or (1, 1))
    when = capture_time(found, where.longitude if where else None)
    panorama = _panorama(found)
    properties: dict[str, Any] = {
        **(dict(zip(("width", "height"), size, strict=True)) if size else {}),
        **taken_with.to_properties(),
        **(when.to_properties() if when else {}),
        **_orientation_properties(how),
        **pose.flight(found),
        **pose.accuracy(found),
        **_further(found),
        **panorama,
    }
    if found.faults:
        properties["metadataFaults"] = list(found.faults)
    if where is None:
        return PhotoMetadata(properties, is_panorama=bool(panorama))
    view = taken_with.field_of_view(size) if size and not panorama else None
    return PhotoMetadata(
        properties,
        point(where.longitude, where.latitude, where.altitude_m),
        _shown(where, how, pose.height_above_ground(found), view),
        is_panorama=bool(panorama),
    )


def _shown(
    where: pose.Position, how: pose.Orientation | None, height_m: float | None, view: Size | None
) -> GeoJson | None:
    """The ground in the picture, if everything is known that it takes."""
    if how is None or height_m is None or view is None:
        return None
    corners = footprint(
        where.longitude, where.latitude, height_m, CameraView(how.yaw, how.pitch, how.roll, *view)
    )
    return None if corners is None else polygon(corners)


def _further(found: EmbeddedMetadata) -> dict[str, Any]:
    return _present(
        orientation=_whole(found.exif.get("Orientation")),
        absoluteAltitude=pose.altitude(found),
        relativeAltitude=pose.height_above_ground(found),
        bandName=_band_name(found),
        centralWavelength=wavelength_nm(found.xmp),
        wavelengthFWHM=first_number(found.xmp, "Camera:WavelengthFWHM"),
        rigCameraIndex=_whole(first_number(found.xmp, "Camera:RigCameraIndex")),
        captureId=first_text(found.xmp, "MicaSense:CaptureId", "Camera:CaptureUUID"),
        flightId=first_text(found.xmp, "MicaSense:FlightId", "Camera:FlightUUID"),
    )


def _size(found: EmbeddedMetadata) -> tuple[int, int] | None:
    width = _whole(found.exif.get("ExifImageWidth")) or 0
    height = _whole(found.exif.get("ExifImageHeight")) or 0
    return (width, height) if width > 0 and height > 0 else None


def _orientation_properties(how: pose.Orientation | None) -> dict[str, Any]:
    if how is None:
        return {"hasCameraOrientation": False}
    return {
        "hasCameraOrientation": True,
        "cameraYaw": how.yaw,
        "cameraPitch": how.pitch,
        "cameraRoll": how.roll,
    }


def _panorama(found: EmbeddedMetadata) -> dict[str, Any]:
    """The properties of a panorama (Google's GPano schema); empty if it is none."""
    projection = text(found.xmp.get("GPano:ProjectionType"))
    if projection is None:
        return {}
    return _present(
        projectionType=projection,
        croppedWidth=_whole(found.xmp.get("GPano:CroppedAreaImageWidthPixels")),
        croppedHeight=_whole(found.xmp.get("GPano:CroppedAreaImageHeightPixels")),
        croppedX=_whole(found.xmp.get("GPano:CroppedAreaLeftPixels")),
        croppedY=_whole(found.xmp.get("GPano:CroppedAreaTopPixels")),
        poseHeading=number(found.xmp.get("GPano:PoseHeadingDegrees")),
        posePitch=number(found.xmp.get("GPano:PosePitchDegrees")),
        poseRoll=number(found.xmp.get("GPano:PoseRollDegrees")),
    )


def _band_name(found: EmbeddedMetadata) -> str | None:
    """The name of the band that the picture shows, or of all in its order."""
    names = next((value for name in BAND_NAMES if (value := found.xmp.get(name))), None)
    return ", ".join(names)[:200] if isinstance(names, tuple) else text(names)


def _whole(value: Any) -> int | None:
    found = number(value)
    return round(found) if found is not None and abs(found) < 2**53 else None


def _present(**properties: Any) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value is not None}
