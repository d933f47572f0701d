"""Ranges of options, stated once; settings are checked against them before any work starts."""

from typing import Annotated, Any

from pydantic import Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Record = dict[str, Any] | None
