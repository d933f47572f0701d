"""English names of the classes of ImageNet, with their articles."""

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from vecaf_lib.errors import BadInput

# Of ImageNet-1K: names that are plural or uncountable, and take no article.
_BARE = (
    "binoculars, broccoli, carbonara, cauliflower, chain mail, chocolate sauce, confectionery, "
    "corn, dough, eggnog, espresso, face powder, guacamole, hair spray, hay, ice cream, lotion, "
    "mashed potato, parallel bars, perfume, rapeseed, red wine, sunglasses, sunscreen, "
    "swimming trunks, thatch, toilet tissue, velvet, wool"
)
BARE = frozenset(_BARE.split(", "))
AN_DESPITE_SPELLING = ("hour", "honor", "heir")
A_DESPITE_SPELLING = ("eu", "ewe", "one-", "u-", "uku", "uni", "use", "usu", "ute", "uto")


def class_nouns(network: nn.Module, name: str) -> list[str]:
    """WordNet's first name of each class that the ImageNet classifier ``network`` tells apart.

    Raises:
        BadInput: the number of classes is none of ImageNet's.
    """
    subset = infer_imagenet_subset(network)
    if subset is None:
        raise BadInput(
            f"captions.options.model: {name} tells {getattr(network, 'num_classes', 0)} classes "
            "apart, which are none of ImageNet's; choose a model with an ImageNet classifier."
        )
    return [text.split(",")[0] for text in ImageNetInfo(subset).label_descriptions()]


def with_article(noun: str) -> str:
    """The noun with "a" or "an" as it is spoken, or with neither where it takes none."""
    if noun in BARE:
        return noun
    lower = noun.lower()
    vowel = lower[0] in "aeiou" and not lower.startswith(A_DESPITE_SPELLING)
    return f"{'an' if vowel or lower.startswith(AN_DESPITE_SPELLING) else 'a'} {noun}"
