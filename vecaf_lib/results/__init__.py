"""Run files as one tidy frame, and the comparison of its groups."""
