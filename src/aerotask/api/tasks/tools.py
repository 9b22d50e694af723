"""Tools, as the contract shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aerotask.api.tasks.schemas import ToolResponse
from aerotask.sdk import Tool


def tool_response(tool: Tool[Any], schema: Mapping[str, Any]) -> ToolResponse:
    """A tool as clients see it, with the JSON Schema of its params."""
    reason = tool.unavailable_reason()
    return ToolResponse(
        id=tool.id,
        version=tool.version,
        title=tool.title,
        description=tool.description,
        required_access=tool.access,
        produces_artifact=tool.artifact_suffix is not None,
        result_extension=tool.artifact_suffix,
        input_schema={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
        },
        available=reason is None,
        unavailable_reason=reason,
    )
