"""ODS as the authors' released code computes it; see ``vecaf_lib.official``."""

from vecaf_lib.official import NEEDS, select

__all__ = ["NEEDS", "select"]
