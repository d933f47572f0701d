"""Maps from text to image space against scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge

from vecaf_lib.cea import fit_bridge, rescale
from vecaf_lib.errors import BadInput


def pairs(d_text, d, n=50, seed=0):
    """Text and image embeddings that have something to do with each other, means not 0."""
    draw = torch.Generator().manual_seed(seed)
    text = torch.randn(n, d_text, generator=draw, dtype=torch.float64) + 1
    mix = torch.randn(d_text, d, generator=draw, dtype=torch.float64)
    noise = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return text, text @ mix + 0.3 * noise - 2


def fit(kind, text, image, seed=0, **options):
    return fit_bridge(kind, text, image, generator=torch.Generator().manual_seed(seed), **options)


WIDTHS = pytest.mark.parametrize(("d_text", "d"), [(4, 4), (3, 7), (7, 3)])


@pytest.mark.parametrize(("d_text", "d"), [(3, 4), (4, 3)])
def test_identity_refuses_other_widths_and_never_truncates(d_text, d):
    with pytest.raises(BadInput, match=f"text has {d_text} and images have {d}; use ridge"):
        fit("identity", *pairs(d_text, d))


@WIDTHS
@pytest.mark.parametrize("ridge", [1e-6, 0.1, 10.0])
def test_ridge_is_scikit_learn_s(d_text, d, ridge):
    text, image = pairs(d_text, d)
    centred = (text - text.mean(0)).numpy()
    alpha = ridge * np.mean(np.sum(centred**2, axis=0))
    model = Ridge(alpha=alpha).fit(text.numpy(), image.numpy())
    fresh, _ = pairs(d_text, d, seed=1)
    mapped = fit("ridge", text, image, ridge=ridge)(fresh)
    np.testing.assert_allclose(mapped.numpy(), model.predict(fresh.numpy()), rtol=1e-8)


def linear_part(bridge, width):
    """The matrix of an affine map."""
    basis = torch.eye(width, dtype=torch.float64)
    return bridge(basis) - bridge(torch.zeros(1, width, dtype=torch.float64))


@WIDTHS
def test_procrustes_is_orthogonal_but_for_one_scale(d_text, d):
    R = linear_part(fit("procrustes", *pairs(d_text, d)), d_text)
    gram = R @ R.T if d_text <= d else R.T @ R
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(len(gram), dtype=gram.dtype))


def test_procrustes_is_scipy_s():
    text, image = pairs(4, 4)
    T, E = ((x - x.mean(0)).numpy() for x in (text, image))
    R, singular_sum = orthogonal_procrustes(T, E)
    expected = T @ R * singular_sum / np.sum(T**2) + image.mean(0).numpy()
    np.testing.assert_allclose(fit("procrustes", text, image)(text).numpy(), expected)


@WIDTHS
def test_random_projects_to_the_width_seeded_and_about_as_long(d_text, d):
    text, image = pairs(d_text, d)
    one, two, other = (fit("random", text, image, seed=seed)(text) for seed in (0, 0, 1))
    assert one.shape == image.shape
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", ["ridge", "procrustes"])
def test_pairs_that_are_alike_map_to_the_mean_image(kind):
    _, image = pairs(3, 5)
    mapped = fit(kind, torch.ones(50, 3).double(), image)(torch.ones(2, 3).double())
    torch.testing.assert_close(mapped, image.mean(0).expand(2, 5))


def test_rescale_gives_each_text_the_norm_of_its_image_and_keeps_its_direction():
    text, image = pairs(4, 4)
    scaled = rescale(text, image)
    torch.testing.assert_close(scaled.norm(dim=1), image.norm(dim=1))
    cosines = torch.nn.functional.cosine_similarity(scaled, text)
    torch.testing.assert_close(cosines, torch.ones(50).double())
