"""Style of map tiles: raster-export's display options, chosen by a map client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.options import DisplayOptions, ExportOptions


class Style(DisplayOptions):
    """Display options that shape a map tile; None where nothing was chosen."""

    # The tiles' own query parameters (`path`, `v`, `token`) stand beside them.
    model_config = ConfigDict(extra="ignore")

    @property
    def is_plain(self) -> bool:
        """Whether nothing was chosen: a raster that already is a picture is then shown as it is."""
        return self == Style()

    def options(self) -> ExportOptions:
        """The parsed options.

        Raises:
            InvalidInput: one is malformed or names something unknown, or asks for values instead of colours.
        """
        options = self.parsed()
        if options.wants_values:
            raise InvalidInput(
                "A map tile shows colours: name a colormap other than 'none', or export the values.",
                code="values-not-shown",
            )
        return options

    def to_json(self) -> dict[str, Any]:
        """The style as JSON values, by the names of the query parameters."""
        return self.model_dump(by_alias=True)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Style:
        """The style that `to_json` wrote."""
        return cls.model_validate(fields)
