"""Discriminators of sentences: padding, one-hots, NumPy, conditions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.nets import cells, text_disc
from jaxgan.types import UserError

V, T, B = 7, 6, 4
FILTERS = ((1, 3), (2, 4), (5, 2))
NETS = {
    "convolutional": functools.partial(text_disc.Convolutional, V, FILTERS, embedding=4),
    "representations": functools.partial(text_disc.MultiRepresentation, V, 2, 4, FILTERS, hidden=5),
    "recurrent": functools.partial(text_disc.Recurrent, V, cells.GRU(4), 3),
    "every": functools.partial(text_disc.Recurrent, V, cells.LSTM(4), 3, at_every_token=True),
}
SHAPES = {"convolutional": (B,), "representations": (B, 2), "recurrent": (B,), "every": (B, T)}
RANDOM = np.random.default_rng(0)
LENGTH = np.array([6, 4, 1, 2], np.int32)
TEXT = np.where(np.arange(T) < LENGTH[:, None], RANDOM.integers(1, V, (B, T)), 0).astype(np.int32)
LABEL = np.array([0, 1, 2, 0], np.int32)
SOURCE, SOURCE_LENGTH = TEXT[::-1].copy(), LENGTH[::-1].copy()


@functools.cache
def built(name, conditional=False):
    options = {"num_classes": 3, "encoder": cells.GRU(3)} if conditional else {}
    module = NETS[name](**options)
    about = (LABEL, SOURCE, SOURCE_LENGTH) if conditional else ()
    variables = jax.jit(functools.partial(module.init, train=False))(
        jax.random.key(0), TEXT, LENGTH, *about
    )
    variables = jax.tree.map(lambda x: 3.0 * x, variables)
    return jax.jit(functools.partial(module.apply, variables, train=False)), variables


@pytest.mark.parametrize("name", NETS)
def test_what_stands_behind_a_sentence_changes_nothing(name):
    disc, _ = built(name)
    logits = disc(TEXT, LENGTH)
    assert logits.shape == SHAPES[name] and logits.dtype == jnp.float32
    assert len(np.unique(np.asarray(logits).reshape(B, -1).sum(1))) == B
    rubbish = np.where(np.arange(T) < LENGTH[:, None], TEXT, 5)
    np.testing.assert_array_equal(logits, disc(rubbish, LENGTH))
    longer = np.pad(TEXT, ((0, 0), (0, 3)), constant_values=3)
    got = disc(longer, LENGTH)
    np.testing.assert_allclose(got[:, :T] if name == "every" else got, logits, rtol=1e-5)
    if name == "every":
        assert np.all((np.asarray(logits) == 0) == (np.arange(T) >= LENGTH[:, None]))


@pytest.mark.parametrize("name", NETS)
def test_one_hots_are_read_as_tokens_are_and_have_gradients(name):
    disc, _ = built(name)
    one_hots = jax.nn.one_hot(TEXT, V)
    np.testing.assert_allclose(disc(one_hots, LENGTH), disc(TEXT, LENGTH), rtol=1e-4, atol=1e-5)
    grads = jax.grad(lambda x: disc(x, LENGTH).sum())(one_hots)
    is_on = np.arange(T) < LENGTH[:, None]
    assert np.all(np.asarray(grads)[~is_on] == 0) and np.any(np.asarray(grads)[is_on] != 0)


@pytest.mark.parametrize("name", NETS)
def test_the_label_and_the_source_count(name):
    disc, variables = built(name, conditional=True)
    logits = disc(TEXT, LENGTH, LABEL, SOURCE, SOURCE_LENGTH)
    assert logits.shape == SHAPES[name]
    behind = np.where(np.arange(T) < SOURCE_LENGTH[:, None], SOURCE, 4)
    np.testing.assert_array_equal(logits, disc(TEXT, LENGTH, LABEL, behind, SOURCE_LENGTH))
    for other in (
        disc(TEXT, LENGTH, (LABEL + 1) % 3, SOURCE, SOURCE_LENGTH),
        disc(TEXT, LENGTH, LABEL, SOURCE[::-1], SOURCE_LENGTH[::-1]),
    ):
        assert np.abs(np.asarray(logits) - other).max() > 1e-4
    module = NETS[name](num_classes=3, encoder=cells.GRU(3))
    with pytest.raises(UserError, match="needs labels"):
        module.apply(variables, TEXT, LENGTH, train=False)
    with pytest.raises(UserError, match="needs the lines before"):
        module.apply(variables, TEXT, LENGTH, LABEL, train=False)


def test_convolutions_compute_what_numpy_does():
    disc, variables = built("convolutional")
    params = jax.tree.map(np.asarray, variables["params"])
    got = np.asarray(disc(TEXT, LENGTH))
    for row in range(B):
        x = np.where(np.arange(T)[:, None] < LENGTH[row], params["tokens"][TEXT[row]], 0.0)
        best = []
        for span, _ in FILTERS:
            places = max(LENGTH[row] - span + 1, 1)
            answers = [x[p : p + span].ravel() @ params[f"filter_{span}"] for p in range(places)]
            best.append(np.maximum(np.array(answers) + params[f"filter_{span}_bias"], 0).max(0))
        h = np.concatenate(best)
        new = np.maximum(h @ params["highway"]["kernel"] + params["highway"]["bias"], 0)
        gate = h @ params["highway_gate"]["kernel"] + params["highway_gate"]["bias"]
        share = 1 / (1 + np.exp(-gate))
        h = share * new + (1 - share) * h
        want = h @ params["out"]["kernel"] + params["out"]["bias"]
        np.testing.assert_allclose(got[row], want[0], rtol=1e-4)


def test_the_published_sizes_are_the_defaults():
    module = text_disc.Convolutional(5000)
    shapes = jax.eval_shape(
        functools.partial(module.init, train=False),
        jax.random.key(0),
        np.zeros((1, 20), np.int32),
        np.full(1, 20, np.int32),
    )["params"]
    assert shapes["highway"]["kernel"].shape == (1720, 1720)
    assert shapes["filter_20"].shape == (20 * 64, 160)
    assert shapes["tokens"].shape == (5000, 64)


@pytest.mark.parametrize("name", NETS)
def test_it_drops_out_in_training_alone(name):
    disc, variables = built(name)
    train = functools.partial(NETS[name]().apply, variables, TEXT, LENGTH, train=True)
    one, two = (train(rngs={"dropout": jax.random.key(seed)}) for seed in (0, 1))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(disc(TEXT, LENGTH), disc(TEXT, LENGTH))


def test_representations_that_do_not_divide_are_one_line():
    module = text_disc.MultiRepresentation(V, 3, 4, FILTERS)
    with pytest.raises(UserError, match="3 representations do not divide an embedding of 4"):
        module.init(jax.random.key(0), TEXT, LENGTH, train=False)
