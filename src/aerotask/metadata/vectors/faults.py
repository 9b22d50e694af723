"""Faults of vector files that GDAL can't read, found by looking again: GDAL's texts name the server's files and wrong places."""

from __future__ import annotations

import json
from pathlib import Path

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from aerotask.metadata.vectors.formats import FORMATS, GDAL_OPTIONS, HEAD_BYTES, MAX_TEXT_BYTES, json_driver

DAMAGED = "it is damaged or incomplete"
_MAX_JSON_BYTES = 8 * 1024 * 1024  # parsed values need some twenty times as much memory
_XML = frozenset({"KML", "GML", "GPX"})
_CHUNK_BYTES = 1024 * 1024
_NO_ELEMENT = 3
"""Expat's code of an error at the end of the input (`XML_ERROR_NO_ELEMENTS`)."""


class _Nothing:
    """Target of a parser that keeps nothing."""

    def start(self, tag: str, attributes: object) -> None:
        """Begin of an element."""

    def end(self, tag: str) -> None:
        """End of an element."""

    def data(self, text: str) -> None:
        """Text."""

    def close(self) -> None:
        """End of the document."""


def fault_of(path: Path, kind: str, gdal_text: str) -> str:
    """Fault in plain words of the vector file at `path`, whose kind is given as its suffix, and which GDAL refused with a text."""
    name = FORMATS[kind].name
    if "too complex/large" in gdal_text:
        return (
            f"one of its features is larger than the limit of {GDAL_OPTIONS['OGR_GEOJSON_MAX_OBJ_SIZE']} MB"
        )
    if name == "GeoJSON":
        return _fault_of_json(path)
    if name in _XML:
        return _fault_of_xml(path, name)
    if name == "GeoPackage" and ("malformed" in gdal_text or "not a database" in gdal_text):
        return "its database is damaged or incomplete"
    if ".shx" in gdal_text:
        return "its .shx file is damaged or incomplete"
    return DAMAGED


def _fault_of_json(path: Path) -> str:
    if path.stat().st_size > _MAX_JSON_BYTES:
        return "its JSON is damaged or incomplete, or holds no features"
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 (byte {error.start + 1:,})"
    # A sequence has one value a line, or each after a record separator (RFC 8142).
    texts = (
        text.replace("\x1e", "\n").split("\n")
        if json_driver(content[:HEAD_BYTES]) == "GeoJSONSeq"
        else [text]
    )
    for line, each in enumerate(texts, start=1):
        try:
            if each.strip():
                json.loads(each)
        except json.JSONDecodeError as error:
            if not each[error.pos :].strip():
                return "it ends before its JSON is complete"
            return f"its JSON is invalid at line {line + error.lineno - 1:,}, column {error.colno:,}"
        except RecursionError:
            return "its JSON is nested too deeply"
    return "its JSON is no GeoJSON (RFC 7946) with features that can be read"


def _fault_of_xml(path: Path, name: str) -> str:
    if path.stat().st_size > MAX_TEXT_BYTES:
        return DAMAGED
    try:
        parser = DefusedXMLParser(target=_Nothing(), forbid_dtd=True)
        with path.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                parser.feed(chunk)
        parser.close()
    except ParseError as error:
        line, column = error.position
        if error.code == _NO_ELEMENT:
            return "it ends before its XML is complete"
        return f"its XML is invalid at line {line:,}, column {column + 1:,}"
    except (DefusedXmlException, ValueError, LookupError):
        return "its XML has a document type definition, or an unknown encoding; write it without"
    return f"its XML is well-formed, but no {name} with features that can be read"
