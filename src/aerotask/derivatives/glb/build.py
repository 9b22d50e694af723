"""GLB builder: a mesh with its textures, compressed by Draco, turned for viewers on the web."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aerotask.derivatives.glb.mesh import Mesh, checked, unreadable
from aerotask.derivatives.glb.mtl import read_mtl
from aerotask.derivatives.glb.obj import read_obj
from aerotask.derivatives.glb.ply import read_ply
from aerotask.derivatives.glb.progress import part
from aerotask.derivatives.glb.read_back import check_bounds, damaged, read_back
from aerotask.derivatives.glb.recompress import recompress
from aerotask.derivatives.glb.scene import write_mesh
from aerotask.derivatives.glb.stl import read_stl
from aerotask.derivatives.sources import side_files
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import suffix_of

_MAX_NAMED = 10


def build_glb(source: Path, target: Path, *, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Write the mesh at `source` as GLB to `target`, which must not exist; temporary files go next to it.

    Materials and textures are read from the source's side files only, whatever folders their names say.

    Raises:
        InvalidInput: it is no mesh with faces, or damaged (`unreadable-mesh`), or too large (`mesh-too-large`).
        TaskFailed: the GLB doesn't read back with every face, the same bounds and textures (`derivative-damaged`).
    """
    if source.stat().st_size == 0:
        raise unreadable(source.name, "it is empty")
    if suffix_of(source.name) == "glb":
        return _build_from_glb(source, target, on_progress)
    beside = {path.name: path for path in map(Path, side_files(str(source), _siblings(source)))}
    mesh = checked(_read(source, beside, part(on_progress, 0, 0.5)), source.name)
    textures = _textures(mesh, beside)
    written = write_mesh(mesh, textures, target, name=source.stem, progress=part(on_progress, 0.5, 0.9))
    found = read_back(target)
    check_bounds(found, written.offset_xyz, written.bounds, written.max_error)
    sizes = tuple((each["width"], each["height"]) for each in written.textures)
    if found.faces != written.faces or found.texture_sizes != sizes:
        raise damaged(f"{found.faces:,} faces instead of {written.faces:,}, or other textures")
    on_progress(1)
    return {
        "faces": written.faces,
        "vertices": written.vertices,
        "materials": written.materials,
        "textures": written.textures,
        "colours": mesh.colours_srgb is not None,
        "bounds": [*written.bounds[0], *written.bounds[1]],
        "offset": list(written.offset_xyz),
        "maxError": written.max_error,
        "warnings": written.warnings,
    }


def _build_from_glb(source: Path, target: Path, on_progress: Callable[[float], None]) -> dict[str, Any]:
    try:
        made = recompress(source, target, part(on_progress, 0, 0.9))
    except InvalidInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else "its description of the scene is damaged"
        raise unreadable(source.name, why) from error
    try:
        found = read_back(target)
    except TaskFailed as error:
        if made.is_compressed:
            raise
        raise unreadable(source.name, "its compressed data or its images are damaged") from error
    if found.faces != made.faces:
        raise damaged(f"{found.faces:,} faces instead of {made.faces:,}")
    on_progress(1)
    return {
        "faces": made.faces,
        "vertices": made.vertices,
        "textures": [{"width": width, "height": height} for width, height in found.texture_sizes],
        "maxError": made.max_error,
        "warnings": made.warnings,
    }


def _siblings(source: Path) -> list[str]:
    return [str(path) for path in source.parent.iterdir()]


def _read(source: Path, beside: dict[str, Path], progress: Callable[[float], None]) -> Mesh:
    match suffix_of(source.name):
        case "ply":
            return read_ply(source, progress)
        case "stl":
            return read_stl(source, progress)
    mesh, library = read_obj(source, progress)
    libraries = [path for path in beside.values() if suffix_of(path.name) == "mtl"]
    if not libraries:
        if library:
            mesh.warnings.append(
                f"The material library {shown(_base_name(library))} isn't in the same folder under the OBJ's own name, "
                "so the GLB has no textures."
            )
        return mesh
    try:
        materials = read_mtl(libraries[0])
    except ValueError as error:
        raise unreadable(source.name, str(error)) from error
    used = [] if mesh.material_of is None else sorted(set(mesh.material_of.tolist()))
    unknown = [mesh.materials[each].name for each in used if mesh.materials[each].name not in materials]
    named = [name for name in unknown if name]
    if named:
        mesh.warnings.append(
            f"{shown(libraries[0].name)} has no material {', '.join(map(shown, named[:_MAX_NAMED]))}."
        )
    mesh.materials = [materials.get(each.name, each) for each in mesh.materials]
    return mesh


def _textures(mesh: Mesh, beside: dict[str, Path]) -> dict[str, Path]:
    """Files of the used materials' textures by the name in the source; those that are missing become a warning."""
    used = mesh.materials[:1]
    if mesh.material_of is not None:
        used = [mesh.materials[each] for each in sorted(set(mesh.material_of.tolist()))]
    by_name = {name.casefold(): path for name, path in beside.items()}
    found, missing = {}, []
    for named in dict.fromkeys(each.texture for each in used if each.texture):
        path = by_name.get(_base_name(named).casefold())
        if path is None or suffix_of(path.name) == "mtl":
            missing.append(shown(_base_name(named)))
        else:
            found[named] = path
    if missing:
        mesh.warnings.append(
            f"{len(missing):,} textures are missing: {', '.join(missing[:_MAX_NAMED])}. They must be in the mesh's "
            "folder, under names that begin with its name."
        )
    return found


def _base_name(path: str) -> str:
    """Last part of a path of any system."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
