"""One image file to RGB pixels of the wanted size, whatever its mode, size or orientation."""

import math
import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vecaf_lib.errors import BadInput

# What may be in a file: formats of pixels only. Pillow would hand PostScript to an interpreter.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif"),
)
_ORIENTATION = 0x0112  # EXIF tag: how to turn the stored pixels upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    path: Path | str, image_size: int, *, crop: float = 1.0, resize: bool = True
) -> UInt8[Tensor, "3 h w"]:
    """Decode one file to the centre square of ``image_size`` px.

    The shorter side becomes floor(image_size / crop) px by bicubic interpolation and the centre is
    cut out: the evaluation transform of timm, to within 2 levels, because Pillow rounds after each
    of its two passes and takes first the one that is cheaper for the part wanted.

    Args:
        path: a file that Pillow reads. Of an animation, the first frame is taken.
        image_size: height and width of the result, in pixels.
        crop: share of the shorter side that is kept, in (0, 1].
        resize: False cuts the centre out of the image as it is.

    Raises:
        BadInput: the file is missing, is no image, is damaged, has pixels of unknown range, or is
            smaller than ``image_size`` and must not be resized; the sentence is the reason alone.
    """
    image = read_rgb(path)
    image = _resized_centre(image, image_size, crop) if resize else _centre(image, image_size)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (h, w, 3) to (3, h, w)


def read_rgb(path: Path | str) -> Image.Image:
    """Read one file as an upright 8-bit RGB image, transparent parts on white.

    Raises:
        BadInput: the file is missing, no image, damaged, or of unknown range; the reason alone.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            file.load()
            return _to_rgb(_upright(file))
    except FileNotFoundError as error:
        raise BadInput("is missing") from error
    except Image.UnidentifiedImageError as error:
        raise BadInput("is no image, or its beginning is damaged") from error
    except Image.DecompressionBombError as error:
        raise BadInput("has more pixels than Pillow takes for safe") from error
    except BadInput:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error) as err:
        raise BadInput(str(err).rstrip(".") or type(err).__name__) from err


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF, in one of many ways, does no harm to the pixels
        orientation = 1
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel; convert() would clip at 255
        return _scaled_to_8_bits(image).convert("RGB")
    if image.mode == "F":
        raise BadInput("has floating-point pixels, whose range is not known; save it with 8 bits")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image.convert("RGB")


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise BadInput(f"has pixels from {low} to {high}, more than 16 bits; save it with 8 bits")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def _resized_centre(image: Image.Image, image_size: int, crop: float) -> Image.Image:
    shorter = math.floor(image_size / crop)
    short = min(image.size)
    # the size of the whole image after resizing, and the square to be cut out of it
    width, height = (int(shorter * side / short) for side in image.size)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    across, down = image.width / width, image.height / height
    square = (left * across, top * down, (left + image_size) * across, (top + image_size) * down)
    # only the square is computed: a long strip would else become a huge image
    box = (square[0], square[1], min(square[2], image.width), min(square[3], image.height))
    size = (image_size, image_size)
    return image.resize(size, Image.Resampling.BICUBIC, box=box)


def _centre(image: Image.Image, image_size: int) -> Image.Image:
    if min(image.size) < image_size:
        raise BadInput(
            f"has {image.width}x{image.height} px, fewer than the {image_size} px that are cut out"
        )
    left = round((image.width - image_size) / 2)
    top = round((image.height - image_size) / 2)
    return image.crop((left, top, left + image_size, top + image_size))
