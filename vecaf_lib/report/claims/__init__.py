"""The ledger of claims: each number and comparison of the paper, beside ours, with a verdict."""

from vecaf_lib.report.claims.ledger import COLUMNS, ledger, link, read_csv, to_csv
from vecaf_lib.report.claims.paper import Paper

__all__ = ["COLUMNS", "Paper", "ledger", "link", "read_csv", "to_csv"]
