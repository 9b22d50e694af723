"""How a raster is to be shown: raster-export's choices, as a map client spells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.raster.colormaps import DEFAULT_COLORMAP
from aerotask.raster.export.options import ExportOptions, parse_request


@dataclass(frozen=True, slots=True)
class Style:
    """The parameters of raster-export that have to do with looks; None where nothing was chosen."""

    formula: str | None = None
    bands: str | None = None
    band_filter: str | None = None
    colormap: str | None = None
    rescale: str | None = None
    preset: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing was chosen, so that a raster that already is a picture is shown as it is."""
        return self == Style()

    def request(self) -> ExportOptions:
        """The choices, each checked by itself.

        Raises:
            InvalidInput: one is malformed or names something unknown, or asks for values instead of colours.
        """
        request = parse_request(
            formula=self.formula,
            band_filter=self.band_filter,
            colormap=DEFAULT_COLORMAP if self.colormap is None else self.colormap,
            rescale=self.rescale,
            bands=self.bands,
            preset=self.preset,
        )
        if request.wants_values:
            raise InvalidInput(
                "A picture shows colours: name a colormap other than 'none', or export the values with raster-export.",
                code="values-not-shown",
            )
        return request

    def to_json(self) -> dict[str, Any]:
        """The style as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Style:
        """The style that `to_json` wrote."""
        return cls(**fields)
