"""Rendering jobs, as plain values, and their JSON on the socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from aerotask.raster.georeference.side_georeference import SideGeoreference
from aerotask.sandbox.protocol import Message
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

MEMORY_BYTES = 1024**3
"""Memory limit of one child that renders, beyond what the fork shares."""


class ThumbnailKind(StrEnum):
    """Kinds of thumbnail sources."""

    PICTURE = "picture"
    CLOUD = "cloud"
    GEOJSON = "geojson"


@dataclass(frozen=True, slots=True)
class RenderInfoJob:
    """Render info of the raster at `original`, whose tiles are read from `cog`."""

    original: Path
    cog: Path
    style: Style
    side: SideGeoreference | None = None
    """The georeference of the raster's side files, if its own tags have none."""

    def to_message(self) -> Message:
        """The job on the wire."""
        body = {
            "original": str(self.original),
            "cog": str(self.cog),
            "style": self.style.to_json(),
            "side": None if self.side is None else self.side.to_json(),
        }
        return Message("render-info", body)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> RenderInfoJob:
        """The job of a message."""
        side = None if body["side"] is None else SideGeoreference.from_json(body["side"])
        return cls(Path(body["original"]), Path(body["cog"]), Style.from_json(body["style"]), side)


@dataclass(frozen=True, slots=True)
class TileJob:
    """Tile as PNG, read from `cog` and, zoomed out, from the overviews that it lacks, if they have been made."""

    cog: Path
    overviews: Path | None
    render_info: RenderInfo
    style: Style
    tile_index: TileIndex
    size_px: int

    def to_message(self) -> Message:
        """The job on the wire."""
        body = {
            "cog": str(self.cog),
            "overviews": _path_to_json(self.overviews),
            "renderInfo": self.render_info.to_json(),
            "style": self.style.to_json(),
            "tileIndex": [self.tile_index.z, self.tile_index.x, self.tile_index.y],
            "size": self.size_px,
        }
        return Message("tile", body)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> TileJob:
        """The job of a message."""
        return cls(
            Path(body["cog"]),
            _path_from_json(body["overviews"]),
            RenderInfo.from_json(body["renderInfo"]),
            Style.from_json(body["style"]),
            TileIndex(*body["tileIndex"]),
            int(body["size"]),
        )


@dataclass(frozen=True, slots=True)
class ThumbnailJob:
    """Thumbnail of a file, as WebP; that of a raster is read as its tiles, with the value range of the file at `path`."""

    path: Path
    cog: Path
    overviews: Path | None
    render_info: RenderInfo | None
    """Without it, the range of the values is found again."""
    subject: ThumbnailKind
    size_px: int

    def to_message(self) -> Message:
        """The job on the wire."""
        body = {
            "path": str(self.path),
            "cog": str(self.cog),
            "overviews": _path_to_json(self.overviews),
            "renderInfo": None if self.render_info is None else self.render_info.to_json(),
            "subject": self.subject,
            "size": self.size_px,
        }
        return Message("thumbnail", body)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> ThumbnailJob:
        """The job of a message."""
        return cls(
            Path(body["path"]),
            Path(body["cog"]),
            _path_from_json(body["overviews"]),
            RenderInfo.from_json(body["renderInfo"]) if body["renderInfo"] else None,
            ThumbnailKind(body["subject"]),
            int(body["size"]),
        )


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """Preview of a tool's output for some files, by their dataset paths, as WebP."""

    tool_id: str
    tool_version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    size_px: int

    def to_message(self) -> Message:
        """The job on the wire."""
        inputs = {path: str(file) for path, file in self.inputs.items()}
        body = {
            "tool": self.tool_id,
            "version": self.tool_version,
            "params": self.params,
            "inputs": inputs,
            "size": self.size_px,
        }
        return Message("preview", body)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> PreviewJob:
        """The job of a message."""
        inputs = {path: Path(file) for path, file in body["inputs"].items()}
        return cls(body["tool"], body["version"], body["params"], inputs, int(body["size"]))


def _path_to_json(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path_from_json(path: str | None) -> Path | None:
    return None if path is None else Path(path)
