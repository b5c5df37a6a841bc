"""Recurrent generators against NumPy, masks, conditions, and SeqGAN's oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import sentences
from jaxgan.losses import text as losses
from jaxgan.nets import cells, relational, rnn
from jaxgan.types import UserError

V, T, B = 7, 5, 3
CELLS = {
    "lstm": cells.LSTM(4),
    "gru": cells.GRU(4),
    "stacked": cells.Stacked((cells.LSTM(4), cells.GRU(3))),
    "relational": relational.Memory(slots=2, heads=2, head_size=3),
}


def text(seed=0, num=B, length=T):
    return np.random.default_rng(seed).integers(1, V, (num, length)).astype(np.int32)


@functools.cache
def built(cell="lstm", **options):
    """A module and its variables, large enough that everything is seen."""
    module = rnn.Generator(V, CELLS[cell], 6, **options)
    about = [np.zeros(1, np.int32)] if module.num_classes else [None]
    if module.encoder:
        about += [np.ones((1, 2), np.int32), np.ones(1, np.int32)]
    init = jax.jit(functools.partial(module.init, train=False))
    variables = init(jax.random.key(0), text(num=1), *about)
    return module, jax.tree.map(lambda x: 5.0 * x, variables)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_an_lstm_computes_what_numpy_does():
    module, variables = built(end=None)
    params = jax.tree.map(np.asarray, variables["params"])
    cell, tokens = params["recurrent"], text()
    h = c = np.zeros((B, 4))
    before, out = np.zeros(B, int), []
    for t in range(T):
        z = params["tokens"][before] @ cell["input"] + h @ cell["recurrent"] + cell["bias"]
        i, f, o, new = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        out.append(h @ params["out_kernel"] + params["out_bias"])
        before = tokens[:, t]
    got = module.apply(variables, tokens, train=False)
    np.testing.assert_allclose(got, np.stack(out, 1), atol=1e-4)


def test_a_gru_computes_what_numpy_does():
    module, variables = built("gru", end=None)
    params = jax.tree.map(np.asarray, variables["params"])
    cell, tokens = params["recurrent"], text()
    h, before, out = np.zeros((B, 4)), np.zeros(B, int), []
    for t in range(T):
        x = params["tokens"][before] @ cell["input"] + cell["bias"]
        past = h @ cell["recurrent"]
        r, u = np.split(sigmoid(x[:, :8] + past[:, :8]), 2, axis=1)
        h = (1 - u) * np.tanh(x[:, 8:] + r * past[:, 8:]) + u * h
        out.append(h @ params["out_kernel"] + params["out_bias"])
        before = tokens[:, t]
    got = module.apply(variables, tokens, train=False)
    np.testing.assert_allclose(got, np.stack(out, 1), atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_a_token_depends_on_those_before_alone(cell):
    module, variables = built(cell)
    tokens = text()
    apply = jax.jit(functools.partial(module.apply, train=False))
    one = apply(variables, tokens)
    two = apply(variables, np.where(np.arange(T) < 3, tokens, 0))
    np.testing.assert_array_equal(one[:, :4], two[:, :4])
    assert not np.array_equal(one[:, 4], two[:, 4])


@pytest.mark.parametrize("cell", CELLS)
def test_token_by_token_it_says_what_it_says_at_once(cell):
    module, variables = built(cell)
    tokens = text()

    @jax.jit
    def both(variables, tokens):
        def body(state, token):
            carry, before = state
            carry, features = module.apply(variables, carry, before, method="advance")
            logits = module.apply(variables, features, method="head")
            return (carry, token), (carry, logits)

        start = module.apply(variables, B, method="begin"), jnp.zeros(B, jnp.int32)
        _, (carries, logits) = jax.lax.scan(body, start, tokens.T)
        followed = module.apply(variables, tokens, method="follow")
        whole = module.apply(variables, tokens, train=False)
        return (carries, logits.swapaxes(0, 1)), (followed, whole)

    one, two = both(variables, tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, two)


def test_the_class_and_the_line_before_count_up_to_its_length():
    module, variables = built(num_classes=3, encoder=cells.GRU(3))
    tokens, source = text(), text(1, length=4)
    length = np.array([4, 2, 1], np.int32)
    label = np.array([0, 1, 2], np.int32)
    apply = jax.jit(functools.partial(module.apply, train=False))
    one = apply(variables, tokens, label, source, length)
    padded = np.where(np.arange(4) < length[:, None], source, 0)
    np.testing.assert_array_equal(one, apply(variables, tokens, label, padded, length))
    for other in (
        apply(variables, tokens, label[::-1], source, length),
        apply(variables, tokens, label, source[:, ::-1], length),
    ):
        assert np.abs(np.asarray(one) - other).max() > 1e-3


def test_without_its_label_or_source_it_says_so():
    module, variables = built(num_classes=3, encoder=cells.GRU(3))
    with pytest.raises(UserError, match="needs labels"):
        module.apply(variables, text(), train=False)
    with pytest.raises(UserError, match="needs the lines before"):
        module.apply(variables, text(), np.zeros(B, np.int32), train=False)


def test_padding_is_no_token_where_sentences_end():
    module, variables = built()
    features = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    assert np.all(module.apply(variables, features, method="head")[:, 0] < -1e8)
    module, variables = built(end=None)
    assert np.all(module.apply(variables, features, method="head")[:, 0] > -50)


def test_dropout_is_for_training_alone():
    module, variables = built(dropout=0.5)
    apply = jax.jit(module.apply, static_argnames="train")
    plain = apply(variables, text(), train=False)
    dropped = [
        apply(variables, text(), train=True, rngs={"dropout": jax.random.key(n)}) for n in (0, 0, 1)
    ]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert not np.array_equal(dropped[0], dropped[2])
    assert not np.array_equal(dropped[0], plain)


def test_an_encoder_of_an_empty_line_says_zeros():
    cell = cells.LSTM(2)
    params = cell.init(jax.random.key(0), 3)
    last, at_each = cells.encode(cell, params, jnp.ones((2, 4, 3)), jnp.array([0, 3], jnp.int32))
    assert np.all(last[0] == 0) and np.all(at_each[0] == 0)
    np.testing.assert_array_equal(last[1], at_each[1, 2])
    assert np.all(at_each[1, 3] == 0)


def test_the_oracle_has_its_published_likelihoods(real_data):
    path = real_data / "seqgan_oracle" / "target_params.npz"
    if not path.exists():
        pytest.skip("needs seqgan_oracle/target_params.npz")
    with np.load(path) as file:
        module, variables = rnn.oracle(file)
    assert (module.vocabulary, module.embedding, module.cell.features) == (5000, 32, 32)

    @jax.jit
    def nll(key):
        drawn = sentences.generate(key, module, variables, 500, 20)
        uniform = jax.random.randint(key, (500, 20), 0, 5000)
        read = [
            -losses.token_log_probs(module.apply(variables, text, train=False), text).mean()
            for text in (drawn.text, uniform)
        ]
        return -drawn.log_prob.mean(), *read

    written, own, uniform = nll(jax.random.key(3))
    np.testing.assert_allclose(written, own, rtol=1e-5)
    np.testing.assert_allclose(own, 5.75, atol=0.04)  # of 10,000 tokens; 5.744 of 400,000
    np.testing.assert_allclose(uniform, 11.43, atol=0.06)
