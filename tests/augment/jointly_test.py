"""Crops and flips of the two images of a pair alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.augment import jointly
from jaxgan.types import UserError


def _batch(num=64, height=6, width=5):
    """Images whose pixels say where they are, and others of the same places."""
    row, column = np.mgrid[:height, :width]
    image = np.broadcast_to(np.stack([row, column], -1), (num, height, width, 2))
    return {"image": jnp.asarray(image, jnp.float32), "source": jnp.asarray(image[..., :1] * 10.0)}


def test_both_images_lose_the_same_pixels():
    cut = jointly.crop_and_mirror(jax.random.key(0), _batch(), crop=3)
    assert cut["image"].shape == (64, 3, 3, 2) and cut["source"].shape == (64, 3, 3, 1)
    np.testing.assert_array_equal(cut["source"][..., 0], 10 * cut["image"][..., 0])


def test_every_place_and_both_directions_occur():
    cut = np.asarray(jointly.crop_and_mirror(jax.random.key(0), _batch(512), crop=3)["image"])
    flipped = cut[:, 0, 0, 1] > cut[:, 0, 2, 1]
    left = np.minimum(cut[:, 0, 0, 1], cut[:, 0, 2, 1])
    found = {
        (int(a), int(b), bool(c)) for a, b, c in zip(cut[:, 0, 0, 0], left, flipped, strict=True)
    }
    assert found == {(a, b, c) for a in range(4) for b in range(3) for c in (False, True)}
    assert 0.4 < flipped.mean() < 0.6


def test_the_whole_is_only_mirrored():
    batch = _batch(8)
    cut = jointly.crop_and_mirror(jax.random.key(1), batch)
    for ours, theirs in zip(cut["image"], batch["image"], strict=True):
        assert any(np.array_equal(ours, x) for x in (theirs, theirs[:, ::-1]))


def test_a_part_larger_than_the_images_is_refused():
    with pytest.raises(UserError, match=r"--crop=6 is larger than the images of 6 x 5; use 5"):
        jointly.crop_and_mirror(jax.random.key(0), _batch(1), crop=6)
