"""Embeddings of real CIFAR-10 for the benchmarks, made once and kept below data/generated.

EfficientNet-Lite0, pretrained on ImageNet, at 32 px, reduced to 384 principal components (the width
of DeiT-S, which the paper uses and no package carries).
"""

from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)
from vecaf_lib.data.load import load
from vecaf_lib.evaluation import embed_pool as look
from vecaf_lib.models.vision import PVM, load_backbone
from vecaf_lib.seeding import generator

PLACE = Path("data/generated/benchmarks/cifar10.npz")
WIDTH = 384


def embeddings() -> dict[str, np.ndarray]:
    """``train`` (n x 384), ``train_labels``, ``test`` (10,000 x 384), ``test_labels``.

    Raises:
        BadInput: CIFAR-10 is not at hand; the sentence says where to put it.
    """
    if not PLACE.exists():
        pvm = PVM(
            load_backbone("tf_efficientnet_lite0", weights="package"), 10, generator=generator(0)
        )
        found, labels = {}, {}
        for split in ("train", "test"):
            data = load("cifar10", split, image_size=32, data=Path("data"), memory_gib=0.0)
            found[split] = look(pvm, data.images)[0].numpy()
            labels[f"{split}_labels"] = data.labels.numpy()
        pca = PCA(WIDTH, random_state=0).fit(found["train"])
        reduced = {split: pca.transform(e).astype(np.float32) for split, e in found.items()}
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        np.savez(PLACE, **reduced, **labels)
    return dict(np.load(PLACE))


if __name__ == "__main__":
    print({name: values.shape for name, values in embeddings().items()})
