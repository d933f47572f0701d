"""A method in params.yaml: how it selects, whether it augments, and which runs are made of it."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vecaf_lib.captions.prompts import Part as CaptionPart
from vecaf_lib.cea import Form, Scope
from vecaf_lib.encoders.bridge import Kind
from vecaf_lib.probe import FirstLosses
from vecaf_lib.selection import names
from vecaf_lib.settings.base import Count, NotNegative, Positive, Ratio, Section
from vecaf_lib.settings.data import Text, Vision
from vecaf_lib.settings.errors import known


class CEA(Section):
    """Cross-attentive embedding augmentation; explained in ``vecaf_lib.cea.Augmentation``."""

    mode: Literal["paper", "official"] = "paper"
    eta: NotNegative = 0.2
    form: Form = "scaled"
    bridge: Kind = "ridge"
    ridge: Positive = 0.1
    refit_bridge: bool = True
    rescale_text: bool = True
    pool_scope: Scope = "selected"
    finetune_augmented: bool = True

    @model_validator(mode="after")
    def _official_has_no_choices(self) -> "CEA":
        chosen = self.model_fields_set - {"mode", "bridge", "ridge"}
        if self.mode == "official" and chosen:
            fixed = " and no ".join(sorted(chosen))
            raise ValueError(f"mode 'official' takes no {fixed}; leave it out or use mode 'paper'")
        return self


class Stylise(Section):
    """CLIPstyler, see ``vecaf_lib.stylise``: train on images in the style of the domain's prompt.

    ``model``: open_clip's ``architecture:tag``; ``weights``: ``hub`` (its local cache) or a path.
    """

    model: str = "ViT-B-32:openai"
    weights: Annotated[str, Field(min_length=1)] = "hub"
    steps: Count = 200
    batch_size: Count = 4


class Grid(Section):
    """A block of runs: every ratio with every number of loops, single and/or multi-run.

    ``targets``: names of classes, each of which is told from all others in a run of its own
    (Table 2); left out, all classes are told apart. ``seeds``: this block's own, in place of the
    profile's, for a replication of its own table.
    """

    ratios: Annotated[list[Ratio], Field(min_length=1)]
    loops: Annotated[list[Count], Field(min_length=1)]
    multi_run: list[bool] = Field(default_factory=lambda: [True], min_length=1)
    targets: list[str] = Field(default_factory=list)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)


class Method(Section):
    """One row of a table: how it selects, whether it augments, and which runs are made of it.

    ``vision`` and ``text`` replace the profile's own. ``class_names``: every caption is told its
    image's class, as the released code's are. ``caption_part``: of the captioner tags, only the
    nouns or only the attributes. ``domain``: whose prompt ends every caption.
    ``domains``: those it is tested in besides. ``repetitions``: it is run with so many of the
    profile's seeds, the first ones; null is all of them. ``stylise``: its training images are
    moved to ``domain`` first.
    """

    select: str
    options: dict[str, Any] = Field(default_factory=dict)
    first_losses: FirstLosses = "uniform"
    accumulate: bool = False
    cea: CEA | None = None
    stylise: Stylise | None = None
    vision: Vision | None = None
    text: Text | None = None
    class_names: bool = False
    caption_part: CaptionPart = "whole"
    domain: str | None = None
    domains: list[str] = Field(default_factory=list)
    repetitions: Count | None = None
    grid: Annotated[list[Grid], Field(min_length=1)]

    @field_validator("select")
    @classmethod
    def _known(cls, value: str) -> str:
        return known(value, names(), "method of selection")

    @model_validator(mode="after")
    def _style_of_what(self) -> "Method":
        if self.stylise and not self.domain:
            raise ValueError("stylise needs a domain, whose prompt says what style; name one")
        return self

    @model_validator(mode="after")
    def _names_for_whom(self) -> "Method":
        for name in ("class_names", "caption_part"):
            if getattr(self, name) not in (False, "whole") and not self.cea:
                raise ValueError(f"{name} changes captions, which only cea reads; give cea")
        return self
