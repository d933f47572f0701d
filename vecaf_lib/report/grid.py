"""How numbers and tables are written: two decimals, true minus signs, MyST pipe tables."""

import pandas as pd


def accuracy_text(mean: float, standard_error: float) -> str:
    """``mean ± SE`` with two decimals, or a dash where there is no number."""
    if pd.isna(mean):
        return "–"
    return f"{mean:.2f}" + ("" if pd.isna(standard_error) else f" ± {standard_error:.2f}")


def signed(value: float) -> str:
    """A difference with its sign and two decimals; what rounds to zero has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def pipe_table(header: list[str], lines: list[list[str]], *, words: int = 0) -> str:
    """A pipe table; the first ``words`` columns are left-aligned, the others right-aligned.

    A cell that is only ``←`` is joined to the cell on its left when the site is built.
    """
    rule = [":--" if i < words else "--:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines]) + "\n"
