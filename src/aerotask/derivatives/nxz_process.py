"""Program: a mesh file as Nexus, plain and compressed, by pymeshlab.

pymeshlab is under the GPL, so nothing of ours imports it: this file stands alone and runs as a process of its own
(`python nxz_process.py MESH NXS NXZ`), and what it finds out it prints as one line of JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(mesh: str, nxs: str, nxz: str) -> None:
    """Convert the mesh; refused meshes are told of as `{"error": …}`."""
    try:
        import pymeshlab  # noqa: PLC0415  absent unless somebody has installed it
    except ImportError as error:
        tell(missing=str(error))
        return
    try:
        tell(**convert(pymeshlab.MeshSet(), mesh, nxs, nxz))
    # The program's edge: whatever MeshLab says of the mesh, the caller is told.
    except Exception as error:  # noqa: BLE001
        tell(error=str(error))


def convert(meshes: Any, mesh: str, nxs: str, nxz: str) -> dict[str, Any]:
    """Load, simplify where there is nothing to keep, build and compress; what the mesh holds."""
    meshes.load_new_mesh(mesh)
    loaded = meshes.current_mesh()
    facts = {
        "vertices": loaded.vertex_number(),
        "faces": loaded.face_number(),
        "colours": bool(loaded.has_vertex_color() or loaded.has_face_color()),
        "textures": len(loaded.textures()),
    }
    if not facts["faces"]:
        return {"error": "it has no faces, so there is no surface to show"}
    # MeshLab's Nexus filter fails on OBJ with materials: what it has loaded goes in as PLY.
    plain = str(Path(nxs).with_suffix(".ply"))
    meshes.save_current_mesh(plain, binary=True, save_textures=False)
    meshes.nxs_build(input_file=plain, output_file=nxs)
    meshes.nxs_compress(input_file=nxs, output_file=nxz)
    return facts


def tell(**facts: Any) -> None:
    """Print the one line that the caller reads."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    main(*sys.argv[1:])
