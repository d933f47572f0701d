"""The names a reader sees, and the ids that lead from a number to its evidence."""

import re
from collections.abc import Mapping
from typing import Any

from vecaf_lib.run_files import SUFFIX

BY_CLASS = "table1_by_class"  # Table 1 in mean accuracy per class
VECAF, VARIANT = "vecaf", "vecaf_self_paced"  # the method as printed, and ours
FULL = "full"  # full-data finetuning: no selection, so no ratio and no multi-run

METHOD_NAMES: dict[str, str] = {
    "random": "Random",
    "learnloss": "LearnLoss",
    "ta_vaal": "TA-VAAL",
    "alfa_mix": "ALFA-Mix",
    "activeft": "ActiveFT",
    "topk_loss": "Top-K loss",
    FULL: "Full-data FT",
    "vecaf": "VeCAF",
    "vecaf_no_ods": "VeCAF without ODS",
    "vecaf_no_cea": "VeCAF without CEA",
    "vecaf_neither": "VeCAF without both",
    "vecaf_snowy": "VeCAF, snowy captions",
    "vecaf_foggy": "VeCAF, foggy captions",
    "vecaf_tau": "VeCAF, another tau",
    "vecaf_lambda": "VeCAF, another lambda",
    "vecaf_alone": "VeCAF without the ensemble",
    "vecaf_literal": "VeCAF, CEA as printed",
    "vecaf_procrustes": "VeCAF, Procrustes bridge",
    "vecaf_eta": "VeCAF, another eta",
    "vecaf_probe": "VeCAF, first losses of a probe",
    "vecaf_accumulated": "VeCAF that keeps its sets",
    "vecaf_named": "VeCAF with class names",
    "vecaf_nouns": "VeCAF, captions of nouns",
    "vecaf_attributes": "VeCAF, captions of attributes",
    "vecaf_hashed": "VeCAF, text without meaning",
    "vecaf_official": "VeCAF as released",
    "vecaf_by_class": "VeCAF by class (ours)",
    VARIANT: "VeCAF self-paced (ours)",
    "paced_no_cea": "Self-paced without captions",
    "paced_unnamed": "Self-paced without class names",
    "paced_hashed": "Self-paced, text without meaning",
    "paced_uniform": "Self-paced without losses",
    "paced_hard": "Self-paced, equation 3's losses",
    "paced_fresh": "Self-paced, fresh sets alone",
    "paced_alone": "Self-paced without the ensemble",
    "paced_printed": "Self-paced, VeCAF's selection",
    "activeft_accumulated": "ActiveFT that keeps its sets",
    "clipstyler": "CLIPstyler",
}


def method_name(method: str) -> str:
    """The name printed for a method's key; an unknown key is printed as it is."""
    return METHOD_NAMES.get(method, method)


def selection(multi_run: bool) -> str:
    """``multi`` (a fresh subset per loop) or ``single`` (one subset for all loops)."""
    return "multi" if multi_run else "single"


def row_name(method: str, multi_run: bool) -> str:
    """Method and selection in words, such as ``multi-run ActiveFT``."""
    name = method_name(method)
    return name if method == FULL else f"{selection(multi_run)}-run {name}"


def run_file(run: Mapping[str, Any]) -> str:
    """A run's file below the folder of run files, from the ``run`` section of the run file."""
    name = f"{selection(run['multi_run'])}-r{run['ratio']:g}-l{run['loops']}-s{run['seed']}"
    target = "-t" + re.sub(r"\W+", "_", run["target"]) if run.get("target") else ""
    return f"{run['method']}/{name}{target}{SUFFIX}"


def slug(cell: str) -> str:
    """The HTML anchor of a cell id: ``table1/vecaf/multi/r5`` -> ``table1-vecaf-multi-r5``."""
    return re.sub(r"[^a-z0-9]+", "-", cell.lower()).strip("-")


def percent(ratio: float) -> str:
    """A ratio in percent, such as ``5 %``."""
    return f"{ratio:g} %"


def join(parts: list[str]) -> str:
    """Join words as in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
