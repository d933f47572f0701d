"""Find a captioner by its name, with its options read off its signature."""

import importlib
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from vecaf_lib.captions.captioner import Captioner, Images
from vecaf_lib.errors import BadInput
from vecaf_lib.options import checked, schema_of

CAPTIONERS = {  # name -> (module, class); imported when asked for
    "attributes": ("attributes", "AttributeCaptioner"),
    "tags": ("tags", "TagCaptioner"),
    "blip2": ("blip2", "Blip2Captioner"),
}
FILE_ENDINGS = (".csv", ".jsonl")
_GIVEN_BY_MAKE = {"self", "pool_images", "device"}


def is_file(source: str) -> bool:
    """Whether the source is a file of captions, by its ending."""
    return source.endswith(FILE_ENDINGS)


def check_source(source: str) -> None:
    """Refuse a source of captions that is no captioner's name and no file's.

    Raises:
        BadInput: says which there are.
    """
    if source in CAPTIONERS or is_file(source):
        return
    near = get_close_matches(source, CAPTIONERS, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise BadInput(
        f"captions.source is {source!r}; it should be {', '.join(CAPTIONERS)}, or the path of a "
        f".csv or .jsonl file{meant}."
    )


def option_schema(source: str) -> type[BaseModel]:
    """Pydantic model of a source's options; a file has none.

    Raises:
        BadInput: no such source.
    """
    check_source(source)
    function = _captioner(source) if source in CAPTIONERS else _no_options
    return schema_of(function, _GIVEN_BY_MAKE, f"{source} options")


def make(
    source: str,
    *,
    pool_images: Images,
    options: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> Captioner:
    """Build the captioner ``source`` (attributes, tags, blip2) for a pool.

    Raises:
        BadInput: no such captioner, a wrong option, or its model is absent.
    """
    values = checked(option_schema(source), options or {}, "captions.options")
    if is_file(source):
        raise BadInput(f"captions.source: {source} is a file; read_captions reads it.")
    captioner = _captioner(source)
    given = {"pool_images": pool_images, "device": device}
    taken = inspect.signature(captioner).parameters.keys() & given.keys()
    return captioner(**values, **{name: given[name] for name in taken})


def available(source: str, options: Mapping[str, Any] | None = None) -> str | None:
    """None if all that the source needs is on this machine, else what to do, in one sentence."""
    try:
        values = checked(option_schema(source), options or {}, "captions.options")
    except BadInput as error:
        return str(error)
    if is_file(source) and not Path(source).is_file():
        return f"captions.source: there is no file {source}."
    if source == "tags":
        from vecaf_lib.captions import tags

        return tags.available(values["model"], values["weights"])
    if source == "blip2":
        from vecaf_lib.captions import blip2_files

        return blip2_files.available(values["model"], values["revision"], values["weights"])
    return None


def download(source: str, options: Mapping[str, Any] | None = None) -> Path | None:
    """Fetch what the source needs from the hub; the place of it, or None if it needs nothing.

    Raises:
        BadInput: the hub cannot be reached or has no such model.
    """
    values = checked(option_schema(source), options or {}, "captions.options")
    if values.get("weights") != "hub":
        return None
    if source == "tags":
        from vecaf_lib.encoders import weights

        return weights.cached_weights(values["model"]) or weights.download(values["model"])
    from vecaf_lib.captions import blip2_files

    return blip2_files.checkpoint(values["model"], values["revision"], "hub")


def _captioner(source: str) -> type[Any]:
    module, name = CAPTIONERS[source]
    found: type[Any] = getattr(importlib.import_module(f"vecaf_lib.captions.{module}"), name)
    return found


def _no_options() -> None: ...
