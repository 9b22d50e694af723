"""GLB builder: meshes as binary glTF 2.0, compressed by Draco, with their textures."""
