"""XMP parser (ISO 16684-1) that returns a flat mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

XmpValue: TypeAlias = str | tuple[str, ...]

MAX_DEPTH = 32

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns"
# Namespaces that structure a packet and hold no properties.
_STRUCTURE = frozenset({_RDF, "adobe:ns:meta", "http://www.w3.org/XML/1998/namespace"})
_LISTS = frozenset({"Seq", "Bag", "Alt"})
_PREFIXES: Mapping[str, str] = {
    "http://ns.adobe.com/tiff/1.0": "tiff",
    "http://ns.adobe.com/exif/1.0": "exif",
    "http://ns.adobe.com/xap/1.0": "xmp",
    "http://purl.org/dc/elements/1.1": "dc",
    "http://www.dji.com/drone-dji/1.0": "drone-dji",
    "http://www.parrot.com/drone-parrot/1.0": "drone-parrot",
    "https://www.skydio.com/drone-skydio/1.0": "drone-skydio",
    "http://pix4d.com/1.0": "Camera",
    "http://pix4d.com/camera/1.0": "Camera",
    "http://micasense.com/MicaSense/1.0": "MicaSense",
    "http://micasense.com/DLS/1.0": "DLS",
    "http://ns.google.com/photos/1.0/panorama": "GPano",
    "http://ns.flir.com/xmp/1.0": "FLIR",
}
"""Usual prefixes of namespaces, used instead of the file's own; for other namespaces the file's prefix is used."""
# XML has five entities of its own, and a packet may declare no others.
_STRAY_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});)")


def parse_xmp(packet: bytes) -> tuple[dict[str, XmpValue], bool]:
    """Parses an XMP packet into properties by `Prefix:Name`; also returns whether it could be read to its end.

    Attributes and elements are treated alike, the items of a `Seq`, `Bag` or `Alt` become a tuple, and the first of equal
    names is kept. Members of structures are flattened, and are also kept under `Structure/Member`. A second try reads a
    packet whose writer forgot to escape `&`.
    """
    stripped = packet.strip(b"\0\t\r\n ")
    found, is_whole = _parse(stripped)
    if not is_whole and (mended := _STRAY_AMPERSAND.sub(b"&amp;", stripped)) != stripped:
        again, is_whole = _parse(mended)
        found = again if len(again) >= len(found) else found
    return found, is_whole


def _parse(packet: bytes) -> tuple[dict[str, XmpValue], bool]:
    properties = _Properties()
    parser = DefusedXMLParser(target=properties, forbid_dtd=True)
    try:
        parser.feed(packet)
        parser.close()
    # An unknown encoding is a LookupError.
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return properties.found, False
    return properties.found, True


@dataclass(slots=True)
class _Element:
    uri: str
    name: str
    key: str
    text: list[str] = field(default_factory=list)
    items: list[str] | None = None
    has_members: bool = False


@dataclass(slots=True)
class _Properties:
    """Parser target that collects properties; of a damaged packet it has those before the damage."""

    found: dict[str, XmpValue] = field(default_factory=dict)
    _open: list[_Element] = field(default_factory=list)
    _own_prefixes: dict[str, str] = field(default_factory=dict)

    def start_ns(self, prefix: str, uri: str) -> None:
        self._own_prefixes.setdefault(_bare(uri), prefix or "default")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise ValueError("The packet is nested too deeply.")
        element = self._named(tag)
        if element.uri == _RDF and element.name in _LISTS and (owner := self._owner()) is not None:
            owner.items = owner.items or []
        elif self._open:
            self._open[-1].has_members = True
        self._open.append(element)
        for name, value in attributes.items():
            attribute = self._named(name)
            if attribute.uri not in _STRUCTURE:
                element.has_members = True
                self._keep_member(attribute.key, value)

    def data(self, text: str) -> None:
        if self._open:
            self._open[-1].text.append(text)

    def end(self, _tag: str) -> None:
        element = self._open.pop()
        text = "" if element.has_members else "".join(element.text).strip()
        if element.uri == _RDF and element.name == "li":
            owner = self._owner()
            if owner is not None and owner.items is not None and text:
                owner.items.append(text)
        elif element.uri not in _STRUCTURE:
            self._keep_member(element.key, tuple(element.items) if element.items is not None else text)

    def close(self) -> None:
        """Required by the parser."""

    def _owner(self) -> _Element | None:
        """Innermost open property."""
        return next((element for element in reversed(self._open) if element.uri not in _STRUCTURE), None)

    def _keep_member(self, key: str, value: XmpValue) -> None:
        """Keep a value, also under the name of the structure that it is in."""
        self._keep(key, value)
        if (structure := self._owner()) is not None:
            self._keep(f"{structure.key}/{key}", value)

    def _keep(self, key: str, value: XmpValue) -> None:
        if value:
            self.found.setdefault(key, value)

    def _named(self, tag: str) -> _Element:
        uri, _, name = tag.rpartition("}")
        uri = _bare(uri.removeprefix("{"))
        prefix = _PREFIXES.get(uri) or self._own_prefixes.get(uri, "")
        return _Element(uri, name, f"{prefix}:{name}" if prefix else name)


def _bare(uri: str) -> str:
    return uri.rstrip("/#")
