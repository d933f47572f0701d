"""Run files as one tidy frame, the comparison of its groups, and the rule of verdicts."""
