"""Files with the same bytes, found by comparing sizes first."""

import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from vecaf_lib.datasets.file_images import in_threads
from vecaf_lib.errors import BadInput

NAMED = 3  # groups of equal files that a sentence names, and files of a group


def duplicates(root: Path, files: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of files with the same bytes, each group and the list of groups sorted.

    Only files of equal size are read, and each only once in a process.

    Args:
        root: folder that the files are relative to.
        files: relative paths.
    """
    sizes: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for file in files:
        stat = os.stat(f"{root}/{file}")  # noqa: PTH116 (quicker)
        sizes[stat.st_size].append((file, stat.st_mtime_ns))
    suspects = [item for group in sizes.values() if len(group) > 1 for item in group]
    digests = in_threads(lambda item: _digest(f"{root}/{item[0]}", item[1]), suspects)
    same: dict[str, list[str]] = defaultdict(list)
    for (file, _), digest in zip(suspects, digests, strict=True):
        same[digest].append(file)
    return sorted(tuple(sorted(group)) for group in same.values() if len(group) > 1)


@lru_cache(maxsize=200_000)
def _digest(path: str, modified: int) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 (quicker)
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_shared(root: Path, splits: Mapping[str, Sequence[str]]) -> None:
    """Refuse files with the same bytes in two splits; warn of such files within one.

    Args:
        root: folder that the files are relative to.
        splits: the files of each split.

    Raises:
        BadInput: the same bytes are in two splits, so that a test image would be trained on.
    """
    split_of = {file: split for split, files in splits.items() for file in files}
    groups = duplicates(root, list(split_of))
    shared = [group for group in groups if len({split_of[file] for file in group}) > 1]
    if shared:
        named = "; ".join(
            _equal([f"{file} ({split})" for split, file in _one_of_each_first(group, split_of)])
            for group in shared[:NAMED]
        )
        raise BadInput(
            f"{root} has the same bytes in two splits, {len(shared):,} times: {named}"
            f"{_more(shared)}; keep one file of each, or a test image is trained on."
        )
    warn_of(root, groups)


def warn_of(root: Path, groups: Sequence[tuple[str, ...]]) -> None:
    """Warn that these files have the same bytes, if there are any."""
    if groups:
        named = "; ".join(map(_equal, groups[:NAMED]))
        warnings.warn(
            f"{root} has files with the same bytes, {len(groups):,} times: {named}{_more(groups)}.",
            stacklevel=2,
        )


def _equal(files: Sequence[str]) -> str:
    more = f" = {len(files) - NAMED:,} others" if len(files) > NAMED else ""
    return " = ".join(files[:NAMED]) + more


def _one_of_each_first(group: Sequence[str], split_of: Mapping[str, str]) -> list[tuple[str, str]]:
    """(split, file) of a group, led by the first file of each split, so that the cut shows it."""
    pairs = [(split_of[file], file) for file in group]
    heads = list({split: (split, file) for split, file in reversed(pairs)}.values())[::-1]
    return [*heads, *(pair for pair in pairs if pair not in heads)]


def _more(groups: Sequence[tuple[str, ...]]) -> str:
    return f"; and {len(groups) - NAMED:,} more" if len(groups) > NAMED else ""
