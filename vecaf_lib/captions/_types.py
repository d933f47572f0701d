"""Ranges of options, stated once; settings are checked against them before any work starts."""

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1)]
Tokens = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Pixels = Annotated[int, Field(ge=32, le=1024)]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
