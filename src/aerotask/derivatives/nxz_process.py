"""Converter of a mesh file to Nexus, plain and compressed, by pymeshlab.

pymeshlab is under the GPL, so no other module imports it: this file stands alone and runs as a separate process
(`python nxz_process.py MESH NXS NXZ`), and prints its result as one line of JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(mesh: str, nxs: str, nxz: str) -> None:
    """Convert the mesh; the result of one that MeshLab can't read is `{"error": its text}`."""
    try:
        import pymeshlab  # noqa: PLC0415  optional
    except ImportError as error:
        print_result(missing=str(error))
        return
    try:
        print_result(**convert(pymeshlab.MeshSet(), mesh, nxs, nxz))
    # The edge of the process: the caller must get any error of MeshLab as a result.
    except Exception as error:  # noqa: BLE001
        print_result(error=str(error))


def convert(meshes: Any, mesh: str, nxs: str, nxz: str) -> dict[str, Any]:
    """Load the mesh, build and compress the Nexus; the facts about the mesh."""
    meshes.load_new_mesh(mesh)
    loaded = meshes.current_mesh()
    facts = {
        "vertices": loaded.vertex_number(),
        "faces": loaded.face_number(),
        "colours": bool(loaded.has_vertex_color() or loaded.has_face_color()),
        "textures": len(loaded.textures()),
    }
    if not facts["faces"]:
        return facts
    # MeshLab's Nexus filter fails on OBJ with materials, so it gets the loaded mesh as PLY.
    plain = str(Path(nxs).with_suffix(".ply"))
    meshes.save_current_mesh(plain, binary=True, save_textures=False)
    meshes.nxs_build(input_file=plain, output_file=nxs)
    meshes.nxs_compress(input_file=nxs, output_file=nxz)
    return facts


def print_result(**facts: Any) -> None:
    """Print the line that the caller reads."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    main(*sys.argv[1:])
