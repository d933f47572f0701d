"""params.yaml, or a file in profiles/: one schema, checked as a whole before any work starts.

A method may be another with some settings changed: ``{like: vecaf, change: {options.tau: 0.5}}``.
Runs are not listed: the tables and figures ask for them (``vecaf_lib.results.runs``).
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator as After
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vecaf_lib import captions, selection
from vecaf_lib.cea import OFFICIAL, Augmentation
from vecaf_lib.data.load import Corruption, Severity
from vecaf_lib.data.load import option_schema as dataset_options
from vecaf_lib.data.place import KNOWN, nfc
from vecaf_lib.devices import Device, Precision
from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.evaluation import FirstLosses
from vecaf_lib.files import atomic_write, write_json
from vecaf_lib.models.text import TEXT_ENCODERS, encode
from vecaf_lib.options import Count, NotNegative, Positive, Whole, one_of, schema_of, sentences
from vecaf_lib.training import LossPredictor, Recipe

Some = Field(min_length=1)


def _short(ratio: float) -> float:
    if ratio != float(f"{ratio:g}"):
        raise ValueError(f"{ratio} has more than six digits, which no table shows; round it")
    return ratio


Ratio = Annotated[float, Field(gt=0, le=100), After(_short)]  # percent
NotEmpty = Annotated[str, Some]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
ImageSize = Annotated[int, Field(ge=32, le=1024)]  # px
PLAIN = {  # what is no text without quotes: YAML 1.2, less 010; not yes, 1:30 and 1_0 of YAML 1.1
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9]\d*)",
    "float": r"[-+]?(((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?|\.(inf|nan|NaN))",
    "merge": r"<<",
}
Class = Annotated[str, After(nfc)]
PaperTable = Literal["table1", "table2", "table3", "table5", "table6", "table7"]


def _source(name: str) -> str:
    return one_of(
        name,
        [name] if captions.is_file(name) else [*captions.CAPTIONERS],
        "captioner, .csv or .jsonl",
    )


def _options(options: dict[str, Any], info: Any) -> dict[str, Any]:
    """With their defaults; the section's selector, data set or captioner says which there are."""
    kinds: dict[str, Any] = {
        "select": selection.option_schema,
        "name": dataset_options,
        "source": captions.option_schema,
    }
    for key in kinds.keys() & info.data.keys():
        schema = kinds[key](info.data[key])
        try:
            return schema.model_validate(options).model_dump(mode="json")
        except ValidationError as error:
            raise ValueError("\n".join(sentences(error, schema))) from error
    return options


def _address(text: str) -> str:
    if not re.fullmatch(r"(tcp|tls)://[^/\s]+:\d+", text):
        raise ValueError(f"{text!r} is no address of a Dask scheduler, such as tcp://host:8786")
    return text


Options = Annotated[dict[str, Any], Field(validate_default=True), After(_options)]


class Section(BaseModel):
    """A part of the settings: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, strict=True)


# What a loop finetunes on: the set it selects, or all sets so far.
Sets = Annotated[list[Literal["fresh", "kept"]], Some]


class StandsFor(Section):
    """The data set of the paper that the profile is about."""

    dataset: Literal["CIFAR-10", "Caltech-101", "ImageNet-1K"]
    full: bool = False  # with the paper's settings


class Dataset(Section):
    """Which images, and where they lie; see ``vecaf_lib.data.load``."""

    name: Annotated[str, After(lambda name: one_of(name, KNOWN, "data set"))]
    image_size: ImageSize
    root: str | None = None
    memory_gib: NotNegative = 1.0
    blind: bool = False  # the validation split stands in for the test split, which nothing reads
    options: Options = {}


class Captions(Section):
    """Where captions come from: a captioner, or the path of a CSV or JSONL file (id, caption)."""

    source: Annotated[NotEmpty, After(_source)]
    image_size: ImageSize | None = None  # of what the captioner gets; null is the data set's
    batch_size: Count = 32
    options: Options = {}


class Vision(Section):
    """The pretrained vision model: timm's name; ``package``, ``hub`` or the path of a file."""

    name: NotEmpty
    weights: NotEmpty = "package"


class Text(Section, schema_of(encode, ("captions", "device", "bar"), "Text")):  # type: ignore[misc]
    """The frozen text encoder; see ``vecaf_lib.models.text.encode``."""

    name: Annotated[str, After(lambda name: one_of(name, [*TEXT_ENCODERS], "text encoder"))]
    weights: NotEmpty = "package"


class Training(Section, schema_of(Recipe, (), "Training")):  # type: ignore[misc]
    """Finetuning: the fields of ``vecaf_lib.training.Recipe``, which says what does not fit."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Training":
        Recipe(**self.model_dump())
        return self


class Domain(Section):
    """A target domain (section 3.3)."""

    prompt: NotEmpty  # ends captions
    corruption: Corruption
    images: Literal["corrupted", "imagenet_c"] = "corrupted"  # own test images, or those at root
    root: str | None = None
    severities: Annotated[list[Severity], Some] = [*get_args(Severity)]


class CEA(Section, schema_of(Augmentation, ("text", "seed", "plain_text"), "CEA")):  # type: ignore[misc]
    """Embedding augmentation, as in the paper or in its code; see ``vecaf_lib.cea``."""

    mode: Literal["paper", "official"] = "paper"
    first_loop: bool = True  # of mode official: whether the first loop's pool is augmented, too

    @model_validator(mode="after")
    def _of_the_mode(self) -> "CEA":
        others = OFFICIAL if self.mode == "official" else self.model_fields_set - {"first_loop"}
        if fixed := sorted(self.model_fields_set - {"mode", *others}):
            raise ValueError(f"mode {self.mode!r} has no {' and no '.join(fixed)}; leave it out")
        return self


class Stylise(Section):
    """CLIPstyler (``vecaf_lib.stylise``): train on images in the style of the domain's prompt."""

    model: str = "ViT-B-32:openai"  # open_clip's ``architecture:tag``
    weights: NotEmpty = "hub"  # its local cache, or a path
    steps: Count = 200
    batch_size: Count = 4


Prediction: Any = schema_of(LossPredictor, ("pvm", "generator", "ranking"), "LossPrediction")


class LossPrediction(Section, Prediction):
    """How a rival's loss predictor is trained; see ``vecaf_lib.training``."""


class Method(Section):
    """How a method selects, whether it augments, and what it works on."""

    select: Annotated[str, After(lambda name: one_of(name, selection.names(), "selector"))]
    options: Options = {}
    first_losses: FirstLosses = "uniform"
    probe: bool = False  # a ridge probe of frozen embeddings in place of finetuning
    loss_predictor: LossPrediction | None = None  # of LearnLoss and TA-VAAL
    cea: CEA | None = None
    stylise: Stylise | None = None  # moves the training images to the domain
    vision: Vision | None = None  # replaces the profile's own, as does text
    text: Text | None = None
    class_names: bool = False  # captions begin with the image's class, as in the released code
    caption_part: captions.Part = "whole"  # of the captioner ``tags``: the nouns or the attributes
    domain: str | None = None  # its prompt ends every caption
    domains: list[str] = []  # in which it is tested besides
    repetitions: Count | None = None  # seeds of the profile, from the start; null is all

    @model_validator(mode="after")
    def _complete(self) -> "Method":
        if self.stylise and not self.domain:
            raise ValueError("stylise needs a domain, whose prompt says what style")
        if not self.cea and (self.class_names or self.caption_part != "whole"):
            raise ValueError("class_names and caption_part are for captions; give cea, their user")
        rival = hasattr(selection.load(self.select), "LOSS_PREDICTOR")
        if self.loss_predictor and not rival:
            raise ValueError(
                f"loss_predictor is not for {self.select}, which has none; leave it out"
            )
        if self.probe and (self.cea or rival):
            raise ValueError(
                "probe finetunes nothing; take a method without cea and loss predictor"
            )
        return self


class Table(Section):
    """The runs that a table compares: methods x ratios x loops x targets x seeds."""

    methods: Annotated[list[str], Some]  # rows, in order; they select anew in each loop (multi-run)
    single_run: list[str] = []  # have a row in which one selection serves all loops
    ratios: Annotated[list[Ratio], Some]
    loops: Annotated[list[Count], Some] = [3]
    sets: Sets = ["fresh"]
    targets: list[Class] = []  # classes told from all others, a run each (Table 2)
    readings: Annotated[list[Literal["finetuning", "selection"]], Some] = ["finetuning"]  # of it
    seeds: list[Whole] = []  # the table's own (a replication); none are the profile's
    reference: str | None = None  # the row that the others are compared with
    by_class: bool = False  # also in mean accuracy per class
    optional: list[str] = []  # rows not run, which need weights of their own; leave out to run


class Figures(Section):
    """Figures 1(b), 4 and 5: the curves of multi-run methods at one ratio."""

    methods: Annotated[list[str], Some]
    ratio: Ratio
    loops: Count = 3
    sets: Sets = ["fresh"]
    loss_window: Count  # steps that figure 4 averages over
    target_accuracy: Annotated[list[Ratio], Some]  # validation, to which figure 5 counts batches


class Compute(Section):
    """Where the work is done."""

    workers: Count = 2  # runs side by side; no result depends on it
    threads: Count = 1  # torch's, of each
    device: Device = "auto"
    processes: Count = 1  # that share one run and one pass over the images, a GPU each
    # scheduler whose workers, of one thread each and sharing the folder, make runs in place of ours
    dask: Annotated[str, After(_address)] | None = None
    precision: Precision = "float32"  # of training
    evaluation_precision: Precision | None = None  # of passes without gradients; null is the same
    memory_gib: Positive | None = None  # what the profile needs, for ``vecaf check``
    gpu_memory_gib: Positive | None = None


class Settings(Section):
    """A profile as a whole."""

    profile: Name
    stands_for: StandsFor | None = None
    dataset: Dataset
    captions: Captions
    vision: Vision
    text: Text
    training: Training
    domains: dict[Name, Domain] = {}
    seeds: Annotated[list[Whole], Some]
    methods: Annotated[dict[Name, Method], Some]
    tables: dict[Literal[PaperTable, "decisions", "variant", "replication"], Table]
    figures: Figures
    compute: Compute = Compute()

    @field_validator("seeds", "methods", "tables", "figures", "compute")
    @classmethod
    def _fits_the_rest(cls, section: Any, info: Any) -> Any:
        if problems := [*_misfits(info.field_name, section, info.data)]:
            raise ValueError("\n".join(problems))
        return section


def _misfits(kind: str, section: Any, above: Mapping[str, Any]) -> Iterator[str]:
    """What does not fit in a section; ``above`` are those before it that are valid."""
    steps = above["training"].steps if "training" in above else math.inf
    short = f"but training.steps is only {steps}"
    if kind == "seeds" and len(set(section)) < len(section):
        yield f"{section} has a seed twice; each repetition needs a seed of its own"
    source = above["captions"].source if "captions" in above else ""
    for name, method in section.items() if kind == "methods" else ():
        if method.caption_part != "whole" and source in {*captions.CAPTIONERS} - {"tags"}:
            yield f"{name}.caption_part needs captions.source tags, not {source}"
        used = filter(None, [method.domain, *method.domains])
        yield from _unknown(name, used, above.get("domains", {}), "domain")
    for name, table in section.items() if kind == "tables" else ():
        rows = [*table.methods, *table.single_run, *table.optional]
        methods = above.get("methods", dict.fromkeys(rows))
        yield from _unknown(name, rows, methods)
        yield from _unknown(f"{name}.optional", table.optional, table.methods)
        yield from _unknown(f"{name}.reference", filter(None, [table.reference]), table.methods)
        if (most := max(table.loops)) > steps:
            yield f"{name}.loops has {most}, {short}"
        if "kept" in table.sets and most * max(table.ratios) > 100:
            yield f"{name}.sets has kept, but {most} x {max(table.ratios):g} % exceed the pool"
        yield from _of_one_table(name, table, above.get("methods", {}))
        if name == "table3" and any(methods[row].domains == [] for row in rows if methods.get(row)):
            yield f"{name} has a method whose domains are empty; name some"
        if both := sorted({*table.seeds} & {*above.get("seeds", ())}):
            yield f"{name}.seeds has {both}, which are the profile's; its own must be others"
    if kind == "tables" and "table1" not in section:
        yield "table1 is missing; the report is about it"
    if kind == "figures":
        yield from _unknown("methods", section.methods, above.get("methods", section.methods))
        counts = {"loops": section.loops, "loss_window": section.loss_window}
        yield from (f"{name} has {n}, {short}" for name, n in counts.items() if n > steps)
    if kind == "compute":
        count, workers = section.processes, section.workers
        if count > 1 and workers > 1:
            yield f"processes is {count} and workers is {workers}; one of them must be 1"
        if count > 1 and section.dask:
            yield f"processes is {count}, but dask makes each run in one; leave one of them out"
        if "training" in above and (batch := above["training"].batch_size) % count:
            yield f"processes is {count}, no divisor of training.batch_size ({batch})"


def _of_one_table(name: str, table: Table, methods: Mapping[str, Method]) -> Iterator[str]:
    """What the page of tables cannot show: cells that it does not tell apart, or lacks."""
    several = {"table1": ("ratios", "single_run"), "table2": ("targets",), "table7": ("loops",)}
    for field, most in {"ratios": 1, "loops": 1, "targets": 0, "single_run": 0}.items():
        if field not in several.get(name, ()) and len(set(getattr(table, field))) > most:
            yield f"{name}.{field} has {getattr(table, field)}; it may have {most or 'none'}"
    if name == "table2" and not table.targets:
        yield f"{name}.targets is empty; name a class that is told from all others"
    if name == "table7" and len(set(table.methods)) > 1:
        yield f"{name}.methods has {table.methods}; it may have 1"
    if name in ("table6", "decisions", "variant", "replication") and not table.reference:
        yield f"{name}.reference is missing; name the method that the others are compared with"
    for row in table.methods if name == "table6" else ():
        if row in methods and "loss_power" not in methods[row].options:
            yield f"{name} has {row}, whose selector has no loss_power, so no ODS to switch off"
    pairs = [(methods[row].vision, methods[row].text) for row in table.methods if row in methods]
    if name == "table5" and any(pairs.count(pair) > 1 for pair in pairs):
        yield f"{name} has two methods with one vision model and one text encoder; keep one"


def _unknown(
    where: str, names: Iterable[str], choices: Collection[str], kind: str = "method"
) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if name not in choices:
            yield f"{where} has {name!r}, which is no {kind} there; {did_you_mean(name, choices)}"


def change(content: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the values at some dotted names replaced: ``{"options.tau": 0.5}``."""
    for name, value in changes.items():
        key, _, rest = str(name).partition(".")
        content = dict(content) if isinstance(content, dict) else {}
        content[key] = change(content.get(key), {rest: value}) if rest else value
    return dict(content)


class _Reader(yaml.SafeLoader):
    """YAML in which no key is there twice, and what looks like text is text."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (filled below)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node, lines = super().compose_mapping_node(anchor), dict[Any, int]()
        for key, line in ((str(key.value), key.start_mark.line + 1) for key, _ in node.value):
            if key in lines:
                both = f"in lines {lines[key]} and {line}"
                raise BadInput(f"{self.name}: {key} is there twice, {both}; keep one.")
            lines[key] = line
        return node


for kind, form in PLAIN.items():
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"({form})$"), [None])


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's sections; BadInput if it is missing, no YAML, empty, or has a key twice."""
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, _Reader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not readable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} has no settings; `make profile PROFILE=smoke` gives it some.")
    return content


def read(path: Path) -> Settings:
    """A profile or params.yaml, every default explicit; BadInput has a line for each problem."""
    return checked(read_yaml(path), str(path))


def checked(content: Mapping[str, Any], where: str, schema: type[Section] = Settings) -> Any:
    """As ``read``, of a file's content; ``where`` begins each sentence."""
    try:
        return schema.model_validate(spelt_out(content, where))
    except ValidationError as error:
        problems = _own([*sentences(error, schema)], content)
        raise BadInput("\n".join(f"{where}: {text}" for text in problems)) from error


def spelt_out(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The content, its methods without ``like`` and ``change``; BadInput if these make no sense."""
    methods = content.get("methods")
    if not isinstance(methods, dict):
        return dict(content)  # the schema complains

    def whole(name: str, *way: str) -> Any:
        method, others = methods[name], [*methods.keys() - {*way, name}]
        if not isinstance(method, dict) or "like" not in method:
            return method
        like, changes = method["like"], method.get("change", {})
        if like in others and method.keys() <= {"like", "change"} and isinstance(changes, dict):
            return change(whole(like, *way, name), changes)
        raise BadInput(
            f"{where}: methods.{name}.like is {like!r}; it should be another method, beside it "
            f"only change, with dotted names; {did_you_mean(like, others)}."
        )

    return {**content, "methods": {name: whole(name) for name in methods}}


def _own(problems: list[str], content: Mapping[str, Any]) -> Iterator[str]:
    """The problems without those that a method shares with the one it is like."""
    methods = content["methods"] if isinstance(content.get("methods"), dict) else {}
    likes = {name: m["like"] for name, m in methods.items() if isinstance(m, dict) and "like" in m}
    for text in problems:
        name = text.removeprefix("methods.").partition(".")[0].partition(":")[0]
        if name not in likes or text.replace(name, likes[name], 1) not in problems:
            yield text


def write_sections(params: Path, folder: Path) -> None:
    """Check the active profile (BadInput), then write each section to ``folder/NAME.json``."""
    for name, section in read(params).model_dump(mode="json").items():
        write_json(folder / f"{name}.json", section)


def profile_path(name: str, profiles: Path) -> Path:
    """The file of a profile; BadInput if there is none, or it has another profile's name."""
    files = {path.stem: path for path in sorted(profiles.glob("*.yaml"))}
    path = files[one_of(name, files, "profile")]
    if (inside := read_yaml(path).get("profile")) != name:
        raise BadInput(f"{path}: profile is {inside!r}; it should be {name}, as the file is named.")
    return path


def switch(name: str, *, profiles: Path, params: Path, force: bool = False) -> None:
    """Copy a valid profile over ``params``; edits there that no profile has need ``force``."""
    source = profile_path(name, profiles)
    read(source)
    committed = {path.read_bytes() for path in profiles.glob("*.yaml")}
    if params.exists() and not force and params.read_bytes() not in committed:
        raise BadInput(
            f"{params} has edits that no file in {profiles} has; save it there, or repeat with "
            f"--force to overwrite {params}."
        )
    atomic_write(params, source.read_bytes())
