"""Reader of OBJ's material libraries (MTL): diffuse colours and textures."""

from __future__ import annotations

from pathlib import Path

from aerotask.derivatives.glb.mesh import Material

MAX_MTL_BYTES = 16 * 1024 * 1024
# Number of words after each option of a texture, at most; those of -o, -s and -t are numbers.
_OPTIONS = {
    **dict.fromkeys(
        ("-blendu", "-blendv", "-boost", "-bm", "-cc", "-clamp", "-imfchan", "-texres", "-type"), 1
    ),
    "-mm": 2,
    **dict.fromkeys(("-o", "-s", "-t"), 3),
}


def read_mtl(path: Path) -> dict[str, Material]:
    """The materials by name; lines that aren't understood count as absent.

    Raises:
        ValueError: it is larger than 16 MiB.
    """
    if path.stat().st_size > MAX_MTL_BYTES:
        raise ValueError("its material library is larger than 16 MiB")
    materials: dict[str, Material] = {}
    current = Material("")
    for line in path.read_bytes().decode("utf-8", "replace").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if not rest:
            keyword, _, rest = line.strip().partition("\t")
        match keyword.lower():
            case "newmtl":
                current = materials.setdefault(rest.strip(), Material(rest.strip()))
            case "kd":
                current.colour_srgb = _colour(rest) or current.colour_srgb
            case "map_kd":
                current.texture = texture_name(rest) or current.texture
    return materials


def texture_name(words: str) -> str:
    """The file name after the options of a texture; it may hold spaces."""
    rest = words.strip()
    while rest.startswith("-"):
        option, _, after = rest.partition(" ")
        if option.lower() not in _OPTIONS:
            break
        rest = after.strip()
        for _ in range(_OPTIONS[option.lower()]):
            word, _, after = rest.partition(" ")
            if option.lower() in {"-o", "-s", "-t"} and not _is_number(word):
                break
            rest = after.strip()
    return rest.strip('"')


def _colour(words: str) -> tuple[float, float, float] | None:
    values = words.split()[:3]
    if len(values) < 3 or not all(map(_is_number, values)):
        return None
    red, green, blue = (min(max(float(value), 0.0), 1.0) for value in values)
    return red, green, blue


def _is_number(word: str) -> bool:
    try:
        return float(word) == float(word)
    except ValueError:
        return False
