"""The one schema of params.yaml."""

from vecaf_lib.settings.method import Method
from vecaf_lib.settings.sections import Tables, Training
from vecaf_lib.settings.whole import Settings, read

__all__ = ["Method", "Settings", "Tables", "Training", "read"]
