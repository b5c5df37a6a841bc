"""Sentences drawn, completed and perturbed: distributions, prompts, prefixes, ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses, sentences
from jaxgan.nets import cells, relational, rnn
from jaxgan.types import UserError

V, T, N = 7, 6, 5
CELLS = {"lstm": cells.LSTM(4), "relational": relational.Memory(slots=2, heads=1, head_size=4)}
KEY = jax.random.key(1)


@functools.cache
def built(cell="lstm", end=2):
    module = rnn.Generator(V, CELLS[cell], 5, end=end)
    variables = module.init(jax.random.key(0), np.zeros((1, T), np.int32), train=False)
    return module, jax.tree.map(lambda x: 5.0 * x, variables)


_generate = jax.jit(
    sentences.generate, static_argnums=(1, 3, 4), static_argnames=("top_k", "without")
)


def generate(key, cell="lstm", end=2, num=N, **options):
    return _generate(key, *built(cell, end), num, T, **options)


def read(text, cell="lstm", end=2):
    module, variables = built(cell, end)
    return np.asarray(jax.jit(functools.partial(module.apply, train=False))(variables, text))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("end", [2, None])
def test_log_probabilities_are_those_of_reading(cell, end):
    made = generate(KEY, cell, end, num=40)
    want = losses.token_log_probs(read(made.text, cell, end), made.text)
    mask = np.asarray(losses.token_mask(made.length, T))
    np.testing.assert_allclose(made.log_prob, want * mask, atol=1e-4)


def test_after_an_end_there_is_padding_alone():
    made = generate(KEY, num=200)
    text, length = np.asarray(made.text), np.asarray(made.length)
    assert 1 < len(set(length)) and length.min() >= 1  # some end early, and not all alike
    for row, num in zip(text, length, strict=True):
        assert np.all(row[:num] != 0) and np.all(row[num:] == 0)
        assert 2 not in row[: num - 1] and (num == T or row[num - 1] == 2)


def test_without_an_end_every_token_is_one():
    made = generate(KEY, end=None, num=200)
    assert np.all(made.length == T) and {0, 2} <= set(np.ravel(made.text))


def test_at_temperature_zero_and_with_one_candidate_it_takes_the_likeliest():
    cold = generate(KEY, num=3, temperature=0.0)
    best = read(cold.text).argmax(-1)
    mask = np.asarray(losses.token_mask(cold.length, T)) > 0
    np.testing.assert_array_equal(np.asarray(cold.text)[mask], best[mask])
    np.testing.assert_array_equal(cold.text, generate(KEY, num=3, top_k=1).text)


def test_top_k_draws_from_the_k_likeliest_with_their_shares():
    made = generate(KEY, num=200, top_k=2)
    logits = read(made.text)
    rank = (logits > np.take_along_axis(logits, np.asarray(made.text)[..., None], -1)).sum(-1)
    mask = np.asarray(losses.token_mask(made.length, T)) > 0
    assert set(rank[mask]) == {0, 1}
    kept = np.where(logits >= np.sort(logits)[..., -2:-1], logits, -np.inf)
    want = losses.token_log_probs(kept, made.text)
    np.testing.assert_allclose(np.asarray(made.log_prob)[mask], want[mask], atol=1e-4)


def test_what_is_left_out_is_never_drawn_and_the_rest_keeps_its_shares():
    plain, made = generate(KEY, num=200), generate(KEY, num=200, without=(1, 4))
    assert {1, 4} <= set(np.ravel(plain.text)) and not {1, 4} & set(np.ravel(made.text))
    kept = np.array(read(made.text))
    kept[..., [1, 4]] = -np.inf
    mask = np.asarray(losses.token_mask(made.length, T)) > 0
    want = losses.token_log_probs(kept, made.text)
    np.testing.assert_allclose(np.asarray(made.log_prob)[mask], want[mask], atol=1e-4)


def test_a_high_temperature_makes_tokens_equally_likely():
    made = generate(KEY, end=None, num=2000, temperature=1e4)
    share = np.bincount(np.ravel(made.text), minlength=V) / made.text.size
    np.testing.assert_allclose(share, 1 / V, atol=0.02)


@pytest.mark.parametrize("prompt", [[3, 4, 1], [[3, 4], [5, 6], [1, 1], [4, 2], [6, 5]]])
def test_sentences_keep_their_prompt(prompt):
    prompt = np.array(prompt)
    made = generate(KEY, prompt=prompt)
    want = np.broadcast_to(prompt, (N, prompt.shape[-1]))
    np.testing.assert_array_equal(made.text[:, : prompt.shape[-1]], want)
    log_probs = losses.token_log_probs(read(made.text), made.text)
    mask = np.asarray(losses.token_mask(made.length, T))
    np.testing.assert_allclose(made.log_prob, log_probs * mask, atol=1e-4)
    free = generate(KEY)
    if prompt.ndim == 2:
        assert made.text[3, 2] == 0  # a prompt that ends is over
    assert not np.array_equal(made.text, free.text)


def test_a_prompt_longer_than_sentences_is_one_line():
    with pytest.raises(UserError, match="a prompt of 7 tokens is longer than the 6"):
        sentences.generate(KEY, *built(), N, T, prompt=np.ones(7, int))


def completed(stages, cell="lstm", end=2):
    text = generate(KEY, cell, end).text
    return np.asarray(text), np.asarray(
        sentences.complete(KEY, *built(cell, end), text, stages=stages)
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("end", [2, None])
def test_completions_keep_their_beginnings_and_differ_after(cell, end):
    text, whole = completed(2, cell, end)
    assert whole.shape == (T - 1, N, T)
    for t in range(1, T):
        np.testing.assert_array_equal(whole[t - 1, :, :t], text[:, :t])
    assert np.any(whole[:, :, -1] != text[:, -1])
    if end is None:
        return
    for t, b in zip(*np.nonzero((text[:, : T - 1] == 2).T), strict=True):
        np.testing.assert_array_equal(whole[t:, b], np.tile(text[b], (T - 1 - t, 1)))
    assert (text[:, : T - 1] == 2).any()


def test_the_number_of_stages_changes_nothing():
    want = completed(1)[1]
    for stages in (2, 4, 99):
        np.testing.assert_array_equal(completed(stages)[1], want)


def test_completions_are_drawn_as_sentences_are():
    """From the last token but one: the next token's distribution, by numbers that spread evenly."""
    module, variables = built()
    text = jnp.tile(jnp.array([[3, 4, 5, 1, 6, 3]]), (400, 1))
    uniforms = jnp.zeros((400, T - 1, T)).at[:, -1, -1].set((jnp.arange(400) + 0.5) / 400)
    last = sentences.completed(uniforms, module, variables, text)[-1, :, -1]
    share = np.bincount(last, minlength=V) / 400
    np.testing.assert_allclose(share, jax.nn.softmax(read(text[:1])[0, -1]), atol=5e-3)


@pytest.mark.parametrize("cell", CELLS)
def test_perturbed_sentences_are_the_largest_of_logits_and_noise(cell):
    module, variables = built(cell)
    noise = jax.random.gumbel(KEY, (N, T, V))
    made = jax.jit(lambda v: sentences.perturb(noise, module, v, train=False))(variables)
    mask = np.asarray(losses.token_mask(made.length, T)) > 0
    best = np.argmax(made.logits + noise, -1)
    np.testing.assert_array_equal(np.asarray(made.text)[mask], best[mask])
    np.testing.assert_allclose(made.logits, read(made.text, cell), rtol=1e-5)


def test_lengths_count_the_end():
    text = np.array([[3, 2, 0, 0], [3, 4, 5, 6], [2, 0, 0, 0]])
    np.testing.assert_array_equal(sentences.lengths(text, end=2), [2, 4, 1])
    np.testing.assert_array_equal(sentences.lengths(text, end=None), [4, 4, 4])
