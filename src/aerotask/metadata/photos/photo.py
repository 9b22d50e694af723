"""Photo metadata from EXIF and XMP: camera, capture time, position, orientation and footprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.metadata.geojson import GeoJson, point, polygon
from aerotask.metadata.photos import pose
from aerotask.metadata.photos.camera import Size, camera_of
from aerotask.metadata.photos.capture_time import capture_time
from aerotask.metadata.photos.exif import EmbeddedMetadata, read_embedded
from aerotask.metadata.photos.footprint import CameraView, footprint
from aerotask.metadata.photos.multispectral import BAND_NAMES, wavelength_nm
from aerotask.metadata.photos.values import first_number, first_text, number, text

IMPLAUSIBLE_ANGLES = "implausible-angles"


@dataclass(frozen=True, slots=True)
class PhotoMetadata:
    """Properties and geometries of a photo."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    point: GeoJson | None = None
    footprint: GeoJson | None = None
    is_panorama: bool = False


def extract_photo(path: Path, image_px: tuple[int, int] | None) -> PhotoMetadata:
    """Extracts the metadata of the photo at `path`; `image_px` is its width and height, if known.

    Damaged metadata raise no error; they are listed in `metadataFaults`.
    """
    return interpret(read_embedded(path), image_px)


def interpret(embedded: EmbeddedMetadata, image_px: tuple[int, int] | None) -> PhotoMetadata:
    """Interprets the embedded metadata of a photo."""
    size = image_px if image_px and min(image_px) > 0 else _size(embedded)
    position, angles = pose.position(embedded), pose.camera_angles(embedded)
    orientation = angles.orientation
    camera = camera_of(embedded, size or (1, 1))
    time = capture_time(embedded, position.longitude if position else None)
    panorama = _panorama(embedded)
    properties: dict[str, Any] = {
        **(dict(zip(("width", "height"), size, strict=True)) if size else {}),
        **camera.to_properties(),
        **(time.to_properties() if time else {}),
        **_angle_properties(angles),
        **pose.flight(embedded),
        **pose.accuracy(embedded),
        **_further(embedded),
        **panorama,
    }
    if faults := [*embedded.faults, *([] if angles.is_plausible else [IMPLAUSIBLE_ANGLES])]:
        properties["metadataFaults"] = faults
    if position is None:
        return PhotoMetadata(properties, is_panorama=bool(panorama))
    view = camera.field_of_view(size) if size and not panorama else None
    return PhotoMetadata(
        properties,
        point(position.longitude, position.latitude, position.altitude_m),
        _footprint(position, orientation, pose.height_above_ground(embedded), view),
        is_panorama=bool(panorama),
    )


def _footprint(
    position: pose.Position, orientation: pose.Orientation | None, height_m: float | None, view: Size | None
) -> GeoJson | None:
    """Footprint on the ground, if position, orientation, height and field of view are known."""
    if orientation is None or height_m is None or view is None:
        return None
    corners = footprint(
        position.longitude,
        position.latitude,
        height_m,
        CameraView(orientation.yaw, orientation.pitch, orientation.roll, *view),
    )
    return None if corners is None else polygon(corners)


def _further(embedded: EmbeddedMetadata) -> dict[str, Any]:
    return _present(
        orientation=_whole(embedded.exif.get("Orientation")),
        absoluteAltitude=pose.altitude(embedded),
        relativeAltitude=pose.height_above_ground(embedded),
        bandName=_band_name(embedded),
        centralWavelength=wavelength_nm(embedded.xmp),
        wavelengthFWHM=first_number(embedded.xmp, "Camera:WavelengthFWHM"),
        rigCameraIndex=_whole(first_number(embedded.xmp, "Camera:RigCameraIndex")),
        captureId=first_text(embedded.xmp, "MicaSense:CaptureId", "Camera:CaptureUUID"),
        flightId=first_text(embedded.xmp, "MicaSense:FlightId", "Camera:FlightUUID"),
    )


def _size(embedded: EmbeddedMetadata) -> tuple[int, int] | None:
    width = _whole(embedded.exif.get("ExifImageWidth")) or 0
    height = _whole(embedded.exif.get("ExifImageHeight")) or 0
    return (width, height) if width > 0 and height > 0 else None


def _angle_properties(angles: pose.CameraAngles) -> dict[str, Any]:
    orientation = angles.orientation
    if orientation is None:
        known = _present(cameraYaw=angles.yaw, cameraPitch=angles.pitch, cameraRoll=angles.roll)
        return {"hasCameraOrientation": False, **known}
    return {
        "hasCameraOrientation": True,
        "cameraYaw": orientation.yaw,
        "cameraPitch": orientation.pitch,
        "cameraRoll": orientation.roll,
    }


def _panorama(embedded: EmbeddedMetadata) -> dict[str, Any]:
    """Properties of a panorama (Google's GPano schema); empty for other photos."""
    projection = text(embedded.xmp.get("GPano:ProjectionType"))
    if projection is None:
        return {}
    return _present(
        projectionType=projection,
        croppedWidth=_whole(embedded.xmp.get("GPano:CroppedAreaImageWidthPixels")),
        croppedHeight=_whole(embedded.xmp.get("GPano:CroppedAreaImageHeightPixels")),
        croppedX=_whole(embedded.xmp.get("GPano:CroppedAreaLeftPixels")),
        croppedY=_whole(embedded.xmp.get("GPano:CroppedAreaTopPixels")),
        poseHeading=number(embedded.xmp.get("GPano:PoseHeadingDegrees")),
        posePitch=number(embedded.xmp.get("GPano:PosePitchDegrees")),
        poseRoll=number(embedded.xmp.get("GPano:PoseRollDegrees")),
    )


def _band_name(embedded: EmbeddedMetadata) -> str | None:
    """Band name, or the names of all bands in order."""
    names = next((value for name in BAND_NAMES if (value := embedded.xmp.get(name))), None)
    return ", ".join(names)[:200] if isinstance(names, tuple) else text(names)


def _whole(value: Any) -> int | None:
    found = number(value)
    return round(found) if found is not None and abs(found) < 2**53 else None


def _present(**properties: Any) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value is not None}
