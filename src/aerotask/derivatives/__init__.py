"""Derivatives of entries for web clients (COG, COPC, NXZ, PMTiles, GeoPackage), one module per kind."""
