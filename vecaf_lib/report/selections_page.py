"""The page of selection diagnostics: each measure, and what it can and cannot show."""

import pandas as pd

from vecaf_lib.report.grid import pipe_table
from vecaf_lib.report.names import method_name, slug
from vecaf_lib.report.out_of_fold import COMPONENTS, FEWER, FOLDS, ITERATIONS, LARGE
from vecaf_lib.report.selections import CHANCE, COVERED, POOL

BESIDE = ("random", "activeft", "vecaf")  # columns of the overlaps

SECTIONS = {
    "overlap": (
        "Overlap between methods",
        "Images that two methods share, as a part of all that either chose (Jaccard index), at the "
        "same seed, ratio and loop, in percent ± standard error over seeds. Its first line is what "
        "two random sets of that size have in common. It shows whether two methods differ in what "
        "they choose. It cannot show that the difference matters: two sets without a common image "
        "may serve equally well. `selections.csv` has every pair of methods.",
    ),
    "overlap_between_loops": (
        "Overlap between the loops of a run",
        "The same index for every pair of loops of one run. A high value says that a fresh "
        "selection finds little that is new, so more loops cost without changing the set; a "
        "single-run selection has 100 % by construction. A low value can come from a model that "
        "has learnt, or from the randomness of the selection itself: compare with random.",
    ),
    "class_entropy": (
        "Class balance",
        "Entropy of the class counts of a selection, divided by the logarithm of the number of "
        "classes: 1 if all classes are equally frequent. With fewer images than classes 1 is out "
        "of reach. It shows a neglect of classes; it does not say which, and balance alone is "
        "no merit where the pool is unbalanced (see its own value).",
    ),
    "classes_missed": (
        "Classes missed",
        "Classes of which a loop's selection has no image, of all classes. The classifier learns "
        "nothing good of a class that no loop ever showed it; here each loop is counted by "
        "itself, so a class missed in one loop may have been seen in another.",
    ),
    "probe_loss_rank": (
        "Difficulty: mean rank of the loss",
        "Each image's leave-one-out loss under a linear probe on the pretrained embeddings, as a "
        "quantile of the pool: 50 % is a selection as difficult as the pool. The yardstick is the "
        "same for all methods and loops, and no method was given it, except in a first loop with "
        "`first_losses: linear_probe`. It is not the loss of the model as finetuned: what is hard "
        "for a probe may be easy for the network, and the other way round.",
    ),
    "probe_loss_top_decile": (
        "Difficulty: share of the hardest tenth",
        "Chosen images that belong to the tenth of the pool with the largest losses by the same "
        "probe. A random selection has 10 % on average. The hardest tenth holds informative "
        "images and wrong labels alike, and this measure cannot tell them apart.",
    ),
    "label_doubted": (
        "Ambiguous or mislabelled images",
        "Chosen images whose label is not what a classifier predicts that never saw them: logistic "
        f"regression on the pretrained embeddings (standardised, {COMPONENTS} principal "
        f"components), {FOLDS}-fold, at most {ITERATIONS} iterations of the solver, {FEWER} for "
        f"pools above {LARGE:,} images. Against the pool's own share it shows whether a method "
        "draws doubtful images, as methods that follow the loss may. It does not prove a label "
        "wrong: most disagreements are errors of the classifier.",
    ),
    "distance": (
        "Coverage",
        "Mean over the pool of 1 − cosine to the nearest chosen image, in the pretrained "
        f"embeddings (at most {COVERED:,} evenly spaced pool images are looked at): lower covers "
        "the pool better. ActiveFT minimises something close to it and has an advantage here by "
        "design. Finetuning moves the embeddings, so later loops choose in another space than "
        "the one measured.",
    ),
}


def selections_page(table: pd.DataFrame, evidence: str = "") -> str:
    """The page as MyST Markdown, one section a measure.

    Args:
        table: from :func:`vecaf_lib.report.selections.diagnose` (or read back from its CSV file).
        evidence: the page with one section a cell, if there is one to link to.
    """
    text = (
        "# What was chosen\n\nMeasured on the lists of chosen images in the run files, with the "
        "pool's labels and the embeddings of the model as pretrained. Numbers are means over the "
        "loops of a run, then over seeds, ± the standard error over seeds. These are descriptions, "
        "not verdicts: which selection is better is for the test accuracy to say.\n"
    )
    for measure, (heading, words) in SECTIONS.items():
        lines = table[table["measure"] == measure]
        if len(lines):
            write = _overlaps if measure == "overlap" else _numbers
            text += f"\n## {heading}\n\n{words}\n\n{write(lines, evidence)}"
    return text


def _overlaps(lines: pd.DataFrame, evidence: str) -> str:
    """Every method beside the few that all are compared with."""
    chance = _cell(lines[lines["method"] == CHANCE].iloc[0], evidence)
    pairs = {}
    for _, line in lines[lines["method"] != CHANCE].iterrows():
        shown = _cell(line, evidence)
        pairs[line["method"], line["other"]] = pairs[line["other"], line["method"]] = shown
    methods = list(dict.fromkeys(one for one, _ in pairs))
    beside = [name for name in BESIDE if name in methods]
    rows = [["*two random sets*", *[chance] * len(beside)]]
    rows += [[method_name(one), *(pairs.get((one, b), "–") for b in beside)] for one in methods]
    return pipe_table(["Method", *map(method_name, beside)], rows, words=1)


def _numbers(lines: pd.DataFrame, evidence: str) -> str:
    """The rows of one measure, one a method."""
    unit = str(lines["unit"].iloc[0])
    rows = []
    for _, line in lines.iterrows():
        seeds = f"{line['n']:g}" if line["n"] else "–"
        rows.append([_who(line), _cell(line, evidence), seeds])
    header = ["Method", f"Mean ± SE, {unit.replace('-', '−')}", "Seeds"]
    return pipe_table(header, rows, words=1)


def _who(line: pd.Series) -> str:
    return "*the whole pool*" if line["method"] == POOL else method_name(line["method"])


def _cell(line: pd.Series, evidence: str) -> str:
    text = _value(line)
    return f"[{text}]({evidence}#{slug(line['cell'])})" if evidence else text


def _value(line: pd.Series) -> str:
    digits = 1 if line["unit"] in ("%", "classes") else 4
    error = line["standard_error"]
    text = f"{line['mean']:.{digits}f}"
    return text if pd.isna(error) else f"{text} ± {error:.{digits}f}"
