"""Own images: ``vecaf select``, and ``vecaf profile new``."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vecaf_lib import subset
from vecaf_lib.cli import main
from vecaf_lib.data import folder
from vecaf_lib.data.images import FileImages, ImageSet
from vecaf_lib.pipeline import own
from vecaf_lib.pipeline.new_profile import profile_of
from vecaf_lib.pipeline.settings import checked, read, read_yaml
from vecaf_lib.results.runs import runs_of
from vecaf_lib.selection.pool import budget_of

ODD = "a <b>$x$ & 'ö' <script src=x>"  # a class whose name is text, whatever is in it
COUNTS = {ODD: 12, "dots": 8, "lines": 4}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three kinds of pictures, 24 in all; the present folder is beside them."""
    draw = np.random.default_rng(0)
    for number, (name, count) in enumerate(COUNTS.items()):
        (tmp_path / "images" / name).mkdir(parents=True)
        for at in range(count):
            pixels = np.full((40, 40, 3), [[200, 30, 40], [240, 240, 240], [20, 60, 160]][number])
            pixels[:: 3 * number or 99, :: 4 if number == 1 else 1] = 10
            pixels += draw.integers(0, 12, pixels.shape)
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(tmp_path / "images" / name / f"{at:02d}.png")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "images"


class Sheet(HTMLParser):
    """The pictures and captions of a contact sheet, and whatever would fetch or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.sources, self.texts = list[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name == "src"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def chosen(output: str = "selected") -> pd.DataFrame:
    return pd.read_csv(Path(output, "selected.csv"))


def test_a_folder_gives_a_list_and_a_sheet_and_is_embedded_once(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["select", str(images), "--budget", "4"])
    table = chosen()
    assert [*table] == ["file", "order", "cluster_size", "labelled"]
    assert table["order"].tolist() == [1, 2, 3, 4]
    assert {name.partition("/")[0] for name in table["file"]} == COUNTS.keys()
    sizes = table.groupby(table["file"].str.partition("/")[0])["cluster_size"].sum()
    assert sizes.to_dict() == COUNTS
    sheet = Sheet(Path("selected/contact_sheet.html").read_text())
    assert set(table["file"]) <= {*sheet.texts}
    assert {*sheet.tags} == {
        *("html", "head", "meta", "title", "style", "body", "h1", "p", "main"),
        *("figure", "img", "figcaption", "b", "br"),
    }
    for source, name in zip(sheet.sources, table["file"], strict=True):
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        thumbnail = Image.open(io.BytesIO(base64.b64decode(data)))
        assert thumbnail.size == (160, 160)
        whole = np.asarray(Image.open(images / name)).mean((0, 1))
        assert np.abs(np.asarray(thumbnail).mean((0, 1)) - whole).max() < 12
    monkeypatch.setattr(own, "FileImages", lambda *a: Looked(*a))
    main(["select", str(images), "--share", "12.5%"])
    pd.testing.assert_frame_equal(chosen()[["file", "order"]], table[["file", "order"]].head(3))
    (images / "dots" / "00.png").write_bytes((images / "dots" / "01.png").read_bytes())
    with pytest.raises(IndexError, match="embedded anew"):
        main(["select", str(images), "--budget", "4"])


class Looked(FileImages):
    """Images that are not to be looked at."""

    def __getitem__(self, at: Any) -> Any:
        raise IndexError("embedded anew")


@pytest.fixture
def rows() -> np.ndarray:
    np.save("rows.npy", values := np.random.default_rng(1).normal(size=(30, 5)).astype(np.float32))
    return values


@pytest.mark.parametrize("kind", [".npy", ".npz", ".csv", "named.csv"])
def test_an_array_of_any_form_gives_the_same_choice(
    kind: str, images: Path, rows: np.ndarray
) -> None:
    frame, names = pd.DataFrame(rows), [f"x{at}" for at in range(30)]
    np.savez("rows.npz", any=rows)
    frame.to_csv("rows.csv", index=False)
    frame.assign(name=names)[["name", *range(5)]].to_csv("rowsnamed.csv", index=False)
    main(["select", f"rows{kind}", "--budget", "5", "--method", "maxherding"])
    expected = subset.select(rows, 5, method="maxherding")
    assert chosen()["file"].tolist() == [
        names[at] if kind == "named.csv" else at for at in expected
    ]
    assert not Path("selected/contact_sheet.html").exists()


def test_what_is_labelled_is_not_chosen_but_listed_and_counted(
    images: Path, rows: np.ndarray
) -> None:
    main(["select", "rows.npy", "--budget", "4"])
    first = chosen()["file"].tolist()
    main(["select", "rows.npy", "--budget", "3", "--labelled", "selected/selected.csv"])
    table = chosen()
    assert table["labelled"].tolist() == ["no"] * 3 + ["yes"] * 4
    assert table["file"].tolist()[3:] == first
    assert table["order"].isna().tolist() == [False] * 3 + [True] * 4
    assert table["file"].tolist()[:3] == [
        *subset.select(rows, 3, method="maxherding", labelled=first)
    ]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = (unit @ unit[table["file"]].T).argmax(1)
    assert table["cluster_size"].tolist() == np.bincount(nearest, minlength=7).tolist()
    Path("lines.txt").write_text("".join(f"{name}\n" for name in first))
    main(["select", "rows.npy", "--budget", "3", "--labelled", "lines.txt"])
    pd.testing.assert_frame_equal(chosen(), table)


def test_losses_come_in_the_names_order_or_by_name(images: Path, rows: np.ndarray) -> None:
    losses = np.random.default_rng(2).permutation(30).astype(np.float64)
    np.save("losses.npy", losses)
    order = np.random.default_rng(3).permutation(30)
    pd.DataFrame({"file": order, "loss": losses[order]}).to_csv("losses.csv", index=False)
    for name in ("losses.npy", "losses.csv"):
        main(["select", "rows.npy", "--budget", "3", "--losses", name, "--method", "topk_loss"])
        assert chosen()["file"].tolist() == [*np.argsort(-losses)[:3]]
    main(["select", "rows.npy", "--budget", "3", "--losses", "losses.csv"])
    expected = subset.select(rows, 3, losses=losses, method="ods")
    assert chosen()["file"].tolist() == [*expected]


def test_of_a_folder_with_splits_only_training_images_are_chosen(images: Path) -> None:
    (images / "Training").mkdir()
    (images / "dots").rename(images / "Training" / "dots")
    (images / "lines").rename(images / "Training" / "lines")
    found = own.images_of(images)  # no folder for tests: a class like the others
    assert (len(found.names), {*(found.classes or ())}) == (24, {ODD, "Training"})
    (images / ODD).rename(images / "Testing")
    found = own.images_of(images)
    assert {*(found.classes or ())} == {"dots", "lines"}
    assert found.names[0] == "Training/dots/00.png"


BAD = {
    "absent": ("absent --budget 2", "absent is not a folder of images, nor a .npy"),
    "empty": (". --budget 2", "has no images at any depth, such as .jpg"),
    "too many": ("IMAGES --budget 25", "--budget is 25; need a whole number, 1 or more, of the 24"),
    "none": ("IMAGES --budget 0", "--budget is 0; need"),
    "neither": ("IMAGES", "Give --budget, how many to choose, or --share"),
    "both": ("IMAGES --budget 2 --share 2%", "one of them"),
    "share": ("IMAGES --share 0.02", "'0.02' is no percentage between 0 and 100, such as 2%"),
    "too little": ("IMAGES --share 0.1%", "0.1 % of 24 samples"),
    "labelled": ("IMAGES --budget 2 --labelled names", r"x0, x1, x2 \(4 in all\); names here"),
    "no list": (
        "IMAGES --budget 2 --labelled absent",
        "absent is not a CSV with file in its",
    ),
    "no column": ("IMAGES --budget 2 --labelled t.csv", "t.csv is not a CSV with file in its head"),
    "method": ("IMAGES --budget 2 --method ods_", "'ods_' is no method; did you mean 'ods'"),
    "trained": ("IMAGES --budget 2 --method learnloss", "'learnloss' is no method"),
    "no losses": ("IMAGES --budget 2 --method topk_loss", "losses: method 'topk_loss' needs them"),
    "unused": ("IMAGES --budget 2 --method random --losses t.csv", "random looks at none; give"),
    "some losses": (
        "IMAGES --budget 2 --losses one.csv",
        "one.csv: need finite numbers, 0 or",
    ),
    "no classes": ("IMAGES/dots --budget 2 --method stratified", "stratified looks at classes"),
    "output": ("IMAGES --budget 2 --output names/x", "names/x cannot be made"),
    "no array": ("names.npy --budget 2", "names.npy is not a folder of images, nor"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case: str, images: Path) -> None:
    command, sentence = BAD[case]
    for name in ("names", "names.npy"):
        Path(name).write_text("x0\nx1\nx2\nx3\n")
    Path("t.csv").write_text("a,b\n1,2\n")
    Path("one.csv").write_text(f"file,loss\n{ODD}/00.png,1\n")
    words = command.replace("IMAGES", str(images)).split(" ")
    with pytest.raises(SystemExit, match=sentence.replace("IMAGES", str(images))) as error:
        main(["select", *words])
    assert "\n" not in str(error.value)
    assert not Path("selected/selected.csv").exists()


@pytest.fixture
def project(images: Path) -> Path:
    """A project's folder with a profile that is the active one."""
    other = (Path(__file__).parents[2] / "profiles" / "caltech101-look.yaml").read_bytes()
    for name in ("profiles/caltech101-look.yaml", "params.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(other)
    Path("data").mkdir()
    return images


def test_a_new_profile_is_active_and_has_all_it_needs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project.rename(project.with_name('odd: "name" # 1'))
    main(["profile", "new", "mine", "--images", str(root)])
    assert "Profile mine has all it needs." in capsys.readouterr().out
    assert Path("params.yaml").read_bytes() == Path("profiles/mine.yaml").read_bytes()
    settings = read(Path("params.yaml"))
    assert settings.dataset.root == str(root)
    assert settings.captions.source == "attributes"  # of images of 40 px
    assert [*settings.tables] == ["table1"]
    with pytest.raises(SystemExit, match=r"mine\.yaml is there"):
        main(["profile", "new", "mine", "--images", str(root)])
    main(["profile", "caltech101-look"])
    assert read(Path("params.yaml")).profile == "caltech101-look"
    pool = folder.load("train", image_size=64, root=root)
    lines = [f"{name},a caption" for name in pool.ids]
    Path("own.csv").write_text("\n".join(["id,caption", *lines]))
    main(["profile", "new", "mine", "--images", str(root), "--captions", "own.csv", "--force"])
    assert read(Path("params.yaml")).captions.source == str(Path("own.csv").resolve())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("../x --images IMAGES", "profile is '../x'"),
        ("mine --images IMAGES/dots", "should hold a folder for each of at least two classes"),
        ("mine --images IMAGES --captions absent.csv", "absent.csv is no .csv or .jsonl file"),
    ],
)
def test_a_profile_that_cannot_be(words: str, sentence: str, project: Path) -> None:
    with pytest.raises(SystemExit, match=sentence):
        main(["profile", "new", *words.replace("IMAGES", str(project)).split()])
    assert [path.name for path in Path("profiles").iterdir()] == ["caltech101-look.yaml"]


@pytest.mark.parametrize("classes", [2, 7, 60])
@pytest.mark.parametrize("each", [2, 4, 40, 900])
def test_ratios_give_an_image_a_class_and_three_kept_sets_fit(
    each: int, classes: int, tmp_path: Path
) -> None:
    Image.new("RGB", (120, 100)).save(tmp_path / "a.png")
    size = each * classes
    pool = ImageSet(
        FileImages([tmp_path / "a.png"] * size, 64),
        torch.arange(size) % classes,
        tuple(map(str, range(size))),
        tuple(map(str, range(classes))),
    )
    like = Path(__file__).parents[2] / "profiles" / "caltech101-look.yaml"
    settings = checked(profile_of(pool, read_yaml(like)), "it")
    budgets = {budget_of(run.ratio, size) for run in runs_of(settings)}
    assert min(budgets) >= (classes if each > 3 else 1)
    assert 3 * max(budgets) <= size
    assert settings.training.batch_size <= size
    assert settings.captions.source == "tags"  # their shorter side has 100 px
