"""Frozen and finetuned encoders: images (timm), captions (transformers), and the bridge between."""

from vecaf_lib.encoders._torchvision import make_torchvision_importable

make_torchvision_importable()
