"""Sampling from a generator's variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgan import latents, sample
from jaxgan.nets import stylegan2
from jaxgan.types import UserError
from tests.helpers import tiny

KEY = jax.random.key(0)


class Echo(nn.Module):
    """Images that show their latent and label."""

    @nn.compact
    def __call__(self, z, label=None, *, train):
        assert not train
        shown = z if label is None else z + 100.0 * label[:, None]
        return shown.reshape(-1, 1, 2, 1)


@pytest.mark.parametrize("num", [1, 3, 4, 9, 10])
@pytest.mark.parametrize("conditional", [False, True])
def test_batches_give_every_image_once_and_in_order(num, conditional):
    z = jnp.arange(2.0 * num).reshape(num, 2)
    label = jnp.arange(num) % 3 if conditional else None
    made = sample.generate(Echo(), {}, z, label, batch_size=4)
    expected = np.asarray(z) + (100.0 * np.asarray(label)[:, None] if conditional else 0.0)
    np.testing.assert_array_equal(made.reshape(num, 2), expected)
    assert isinstance(made, np.ndarray) and made.dtype == np.float32


def test_test_time_statistics_are_used():
    gen = tiny.DenseGen()
    z = jax.random.normal(KEY, (6, tiny.LATENT_DIM))
    variables = gen.init(KEY, z, train=False)
    together = sample.generate(gen, variables, z)
    np.testing.assert_allclose(together[:1], sample.generate(gen, variables, z[:1]), atol=1e-6)


def test_truncation_limits_and_0_does_not():
    draw = sample.Sampler(Echo(), 8).draw
    assert np.abs(draw(KEY, 100, truncation=0.5)).max() <= 0.5
    assert np.abs(draw(KEY, 100)).max() > 2
    np.testing.assert_array_equal(draw(KEY, 4), draw(KEY, 4))
    with pytest.raises(UserError, match="truncation -1 is negative"):
        draw(KEY, 4, truncation=-1)
    with pytest.raises(UserError, match="needs normal latents; these are uniform"):
        sample.Sampler(Echo(), 8, prior=latents.uniform).draw(KEY, 4, truncation=1)


def test_psi_draws_w_to_its_mean_and_needs_a_generator_that_has_w():
    gen = stylegan2.Generator(image_size=8, widths=(4, 4), features=4, mapping_layers=1)
    variables = gen.init(KEY, jnp.zeros((1, 4)), train=False)
    draw = sample.Sampler(gen, 4)
    images = {psi: draw.truncated(psi)(variables, KEY, 3)["image"] for psi in (0.0, 0.5, 1.0)}
    assert np.ptp(images[0.0], axis=0).max() < 1e-6  # all are the mean's
    np.testing.assert_array_equal(images[1.0], draw(variables, KEY, 3)["image"])
    assert 0 < images[0.5].std(0).mean() < images[1.0].std(0).mean()
    with pytest.raises(UserError, match=r"--psi=0.5: .* has no latents w"):
        sample.Sampler(Echo(), 8).truncated(0.5)


def test_interpolations_are_rows_that_bend_and_differ():
    z = np.asarray(sample.Sampler(Echo(), 64).interpolations(KEY, 3, 5)).reshape(3, 5, 64)
    assert len(np.unique(z[:, [0, -1]].reshape(6, 64), axis=0)) == 6
    jumps = np.linalg.norm(np.diff(z, axis=1), axis=-1)
    assert (jumps < 0.5 * np.linalg.norm(z[:, 0] - z[:, -1], axis=-1)[:, None]).all()
    assert np.linalg.norm(z, axis=-1).min() > 5.5  # on the line it would pass near 5


def test_samples_come_from_the_prior_of_training_with_the_labels_of_the_data():
    sampler = sample.Sampler(Echo(), 2, prior=latents.uniform, label_counts=(1, 0, 3))
    entries = sampler({}, KEY, 8)
    np.testing.assert_array_equal(np.bincount(entries["label"]), [2, 0, 6])
    z = np.asarray(latents.uniform(KEY, 8, 2)) + 100.0 * entries["label"][:, None]
    np.testing.assert_allclose(entries["image"].reshape(8, 2), z, atol=1e-5)
    np.testing.assert_array_equal(sampler.labels(4, even=True), [0, 1, 2, 0])
    plain = sample.Sampler(Echo(), 2, entry="point", transform=lambda x: 2 * x)({}, KEY, 4)
    assert set(plain) == {"point"} and np.abs(plain["point"]).max() > 2


def test_labels_are_as_frequent_as_asked_for_and_mixed_throughout():
    label = sample.spread_labels([60, 30, 10], 1000)
    np.testing.assert_array_equal(np.bincount(label), [600, 300, 100])
    for part in label.reshape(20, 50):
        assert np.abs(np.bincount(part, minlength=3) - [30, 15, 5]).max() <= 1
    assert len(sample.spread_labels([1, 1, 1], 7)) == 7
    np.testing.assert_array_equal(sample.spread_labels([5] * 4, 6), [0, 1, 2, 3, 0, 1])
    with pytest.raises(UserError, match="none of the 2 labels occurs"):
        sample.spread_labels([0, 0], 3)
