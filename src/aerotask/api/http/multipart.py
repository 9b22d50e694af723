"""Streaming reader of multipart upload forms: no part is held in memory or spooled to disk."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from aerotask.domain.errors import InvalidInput, TooLarge

MAX_FIELD_BYTES = 8 * 1024
# Bounds everything in a form beside its file, otherwise skipped parts could go on without end.
MAX_BESIDE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Part:
    """Part of a form; its `body` must be read before the next part."""

    name: str
    file_name: str | None
    """The last part of the file's path on the client's machine; None for a field without a file."""
    body: AsyncIterator[bytes]


@dataclass(slots=True)
class _Head:
    disposition: str = ""


@dataclass(slots=True)
class _End:
    pass


@dataclass(slots=True)
class FormReader:
    """Reader of a `multipart/form-data` request (RFC 7578) that yields its parts in order."""

    request: Request
    payload: str
    """The field whose first part doesn't count towards `MAX_BESIDE_BYTES`; its reader limits it."""
    _beside_bytes: int = 0
    _parser: MultipartParser = field(init=False)
    _stream: AsyncIterator[bytes] = field(init=False)
    _tokens: deque[_Head | bytes | _End] = field(default_factory=deque)
    _header_name: bytes = b""
    _header_value: bytes = b""
    _head: _Head = field(default_factory=_Head)
    _complete: bool = False

    def __post_init__(self) -> None:
        kind, options = parse_options_header(self.request.headers.get("content-type", ""))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidInput("Send a multipart/form-data body with a boundary.", code="invalid-form")
        self._stream = self.request.stream()
        try:
            self._parser = self._parser_of(boundary)
        except FormParserError as error:
            raise InvalidInput("The form's boundary is too long.", code="invalid-form") from error

    def _parser_of(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def parts(self) -> AsyncIterator[Part]:
        """The parts, read from the request as it arrives.

        Raises:
            InvalidInput: the form is malformed or ends too early.
            TooLarge: the form contains too much beside the payload.
        """
        payload_pending = True
        while (token := await self._next()) is not None:
            if isinstance(token, _Head):
                _, options = parse_options_header(token.disposition)
                name = options.get(b"name", b"").decode("utf-8", "replace")
                is_payload = payload_pending and name == self.payload
                payload_pending = payload_pending and not is_payload
                yield Part(name, _file_name(options), self._body(counted=not is_payload))

    async def _body(self, *, counted: bool) -> AsyncIterator[bytes]:
        while isinstance(token := await self._next(), bytes):
            if not counted:
                self._beside_bytes -= len(token)
            yield token

    async def _next(self) -> _Head | bytes | _End | None:
        while not self._tokens:
            piece = await anext(self._stream, None)
            if piece is None:
                if not self._complete:
                    raise InvalidInput("The form ends too early.", code="invalid-form")
                return None
            # All tokens of earlier pieces are consumed by now, so the payload's bytes have been subtracted.
            if self._beside_bytes > MAX_BESIDE_BYTES:
                raise TooLarge("The form contains too much data beside the file.")
            self._beside_bytes += len(piece)
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise InvalidInput("The form is malformed.", code="invalid-form") from error
        return self._tokens.popleft()

    def _on_part_begin(self) -> None:
        self._head = _Head()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        if len(self._header_name) + len(self._header_value) > MAX_FIELD_BYTES:
            raise InvalidInput("A part's header is too long.", code="invalid-form")

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            # Latin-1 keeps the raw bytes, whatever their encoding: parse_options_header encodes them back.
            self._head.disposition = self._header_value.decode("latin-1")
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        self._tokens.append(self._head)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._tokens.append(data[start:end])

    def _on_part_end(self) -> None:
        self._tokens.append(_End())

    def _on_end(self) -> None:
        self._complete = True


async def field_text(part: Part) -> str:
    """The text of a small field.

    Raises:
        InvalidInput: the field is longer than `MAX_FIELD_BYTES` or not UTF-8.
    """
    gathered = b""
    async for piece in part.body:
        gathered += piece
        if len(gathered) > MAX_FIELD_BYTES:
            raise InvalidInput(f"The field '{part.name[:64]}' is too long.", code="invalid-form")
    try:
        return gathered.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"The field '{part.name[:64]}' is not valid UTF-8.", code="invalid-form"
        ) from error


def _file_name(options: Mapping[bytes, bytes]) -> str | None:
    written = options.get(b"filename")
    return None if written is None else re.split(r"[/\\]", written.decode("utf-8", "replace"))[-1]
