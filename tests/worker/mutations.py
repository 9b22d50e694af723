"""Damaged TIFF files: random bytes, extreme values, changed tags, truncation, copied pieces."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

_EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def mutants(seeds: Path, seed: int, count: int) -> Iterator[tuple[int, bytes]]:
    """`count` damaged copies of the files in the folder, with their numbers; deterministic for a seed."""
    chance = random.Random(seed)
    originals = [file.read_bytes() for file in sorted(seeds.iterdir())]
    for number in range(count):
        content = bytearray(chance.choice(originals))
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            _damage(content, chance)
        yield number, bytes(content)


def _damage(content: bytearray, chance: random.Random) -> None:
    kind = chance.randrange(6)
    place = chance.randrange(max(1, len(content) - 8))
    if kind == 0:
        content[place] = chance.randrange(256)
    elif kind == 1:
        content[place] ^= 1 << chance.randrange(8)
    elif kind == 2:
        struct.pack_into("<I", content, place, chance.choice(_EXTREMES))
    elif kind == 3:
        _damage_tag(content, chance)
    elif kind == 4:
        del content[max(8, chance.randrange(len(content))) :]
    else:
        piece = content[place : place + chance.randrange(1, 64)]
        target = chance.randrange(len(content))
        content[target : target + len(piece)] = piece
    if len(content) < 16:
        content.extend(bytes(16 - len(content)))


def _damage_tag(content: bytearray, chance: random.Random) -> None:
    """Change the tag, type, count or value of one of the directory's entries."""
    big = content[2:3] == b"+"
    start, head, size = (
        (struct.unpack_from("<Q", content, 8)[0], 8, 20)
        if big
        else (struct.unpack_from("<I", content, 4)[0], 2, 12)
    )
    entry = start + head + size * chance.randrange(20)
    if entry + size > len(content):
        return
    fields = (
        (0, "<H", (256, 257, 258, 273, 279, 324, 325)),
        (2, "<H", tuple(range(20))),
        (4, "<I", _EXTREMES),
        (size - 4, "<I", _EXTREMES),
    )
    offset, form, values = chance.choice(fields)
    struct.pack_into(form, content, entry + offset, chance.choice(values))
