"""Micro-batches against the whole batch: draws, updates, statistics, devices, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxgan import parallel, penalties, state, steps
from jaxgan.augment import ada, diffaug
from jaxgan.nets import normalization
from jaxgan.steps import accumulate
from jaxgan.types import UserError
from tests.helpers import tiny

KEY = jax.random.key(5, impl="unsafe_rbg")  # compiles in no time
TX = optax.sgd(0.2, momentum=0.5)  # Adam would make full-size steps of rounding noise
UPDATES = {
    **tiny.UPDATES,
    "fresh": lambda game, *txs, accumulate: steps.chain(
        steps.disc_step(game, txs[1], accumulate=accumulate),
        steps.gen_step(game, txs[0], accumulate=accumulate),
    ),
    "extragradient": steps.extragradient_step,
}
PENALTIES = {"none": None, **penalties.PENALTIES}
AUGMENT = diffaug.policy("translation")


class Gen(nn.Module):
    """Latents to images through a layer with dropout, whose mask every example has of its own."""

    @nn.compact
    def __call__(self, z, label=None, *, train):
        z = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(16)(z)))
        return jnp.tanh(nn.Dense(16)(z)).reshape(-1, 4, 4, 1)


DISC = tiny.DenseDisc(batch_norm=False)


def _start(gen=None, disc=DISC, tx=TX, **extra):
    start = tiny.dense_state(gen or Gen(), disc, tx, tx, **extra)
    # Gradients large enough that a wrong one is seen.
    return jax.tree.map(lambda x: 2.0 * x if x.ndim > 1 else x, start)


def _train(step, start, num=3, run=jax.jit):
    """The state and metrics after some steps on a batch each."""
    step, metrics = run(steps.train_step(step, steps.ema_step(0.9))), {}
    for number in range(num):
        start, metrics = step(KEY, start, tiny.batch(number, side=4))
    return start, metrics


@functools.cache
def _trained(update, penalty, n, loss="relativistic"):
    penalty = PENALTIES[penalty] and penalties.weighted(PENALTIES[penalty], 0.3)
    game = tiny.make_game(Gen(), DISC, loss, penalty=penalty, augment=AUGMENT)
    return _train(UPDATES[update](game, TX, TX, accumulate=n), _start())


@pytest.mark.parametrize(
    ("update", "penalty", "n"),
    [
        ("simultaneous", "r1", 2),
        # Each compiles two programs, the longer one of several micro-batches in a row.
        pytest.param("simultaneous", "r1_r2", 2, marks=pytest.mark.slow),
        pytest.param("alternating", "r1_r2", 2, marks=pytest.mark.slow),
        pytest.param("simultaneous", "none", 4, marks=pytest.mark.slow),
        pytest.param("alternating", "wgan_gp", 4, marks=pytest.mark.slow),
        pytest.param("fresh", "r1", 2, marks=pytest.mark.slow),
        pytest.param("extragradient", "r2", 2, marks=pytest.mark.slow),
    ],
)
def test_micro_batches_train_as_the_whole_batch_does(update, penalty, n):
    (whole, told), (parts, ours) = _trained(update, penalty, 1), _trained(update, penalty, n)
    # Latents, dropout, augmentation, and the points of a penalty are the same examples' own.
    assert tiny.largest_difference(whole, parts) < 2e-6
    start = _start()
    assert tiny.largest_difference(start.gen.params, whole.gen.params) > 1e-2  # it did train
    assert tiny.largest_difference(start.disc.params, whole.disc.params) > 1e-2
    assert jax.tree.structure(whole) == jax.tree.structure(parts)
    assert set(told) == set(ours)
    for name in set(told) - {"disc/accuracy"}:  # whose middle is that of a micro-batch
        np.testing.assert_allclose(ours[name], told[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow  # compiles ADA's transforms
def test_what_adapts_goes_on_alike():
    def train(n):
        game = tiny.make_game(Gen(), DISC, "nonsaturating")

        def make(augment):
            changed = steps.Game(**{**vars(game), "augment": augment})
            return steps.alternating_step(changed, TX, TX, accumulate=n)

        step = steps.with_ada(make, num_images=16, names="blit,color,noise", ramp=64)
        return _train(steps.mirrored(step), _start(ada=ada.init_controller(p=0.5)))[0]

    assert tiny.largest_difference(train(1), train(2)) < 2e-6


def test_gradients_of_a_lazy_penalty_come_every_few_steps():
    def train(n):
        def make(step):
            penalty = steps.named_penalty("r1", 0.3, interval=2, step=step)
            game = tiny.make_game(Gen(), DISC, "hinge", penalty=penalty)
            return steps.simultaneous_step(game, TX, TX, accumulate=n)

        return _train(steps.scheduled(make), _start(), num=2)

    (whole, told), (parts, ours) = train(1), train(4)
    assert tiny.largest_difference(whole, parts) < 2e-6
    assert float(told["disc/penalty"]) == float(ours["disc/penalty"]) == 0.0


def test_new_statistics_are_the_means_over_micro_batches_and_move_once():
    gen, disc = tiny.DenseGen(), tiny.DenseDisc(batch_norm=False)
    game = tiny.make_game(gen, disc, "hinge")
    start, batch = _start(gen), tiny.batch(side=4)
    after, _ = jax.jit(steps.gen_step(game, TX, accumulate=2))(KEY, start, batch)

    @jax.jit
    def micro_batch(rows, number):
        gen_key, _ = jax.random.split(accumulate.micro_key(KEY, 2, number))
        return game.gen(gen_key, start.gen.variables, rows)[1]

    found = [
        micro_batch({name: x[number::2] for name, x in batch.items()}, number)
        for number in range(2)
    ]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *found)
    assert tiny.largest_difference(after.gen.stats, mean) < 1e-6
    assert tiny.largest_difference(after.gen.stats, start.gen.stats) > 1e-3


def test_a_spectral_norm_takes_one_iteration_an_update():
    class Disc(nn.Module):
        @nn.compact
        def __call__(self, x, label=None, *, train):
            return normalization.SpectralNorm(nn.Dense(1))(x.reshape(len(x), -1), train=train)[:, 0]

    disc = Disc()
    game = tiny.make_game(Gen(), disc, "hinge")
    one, two = (
        _train(steps.alternating_step(game, TX, TX, accumulate=n), _start(disc=disc))[0]
        for n in (1, 4)
    )
    assert tiny.largest_difference(one, two) < 2e-6


@pytest.mark.parametrize(
    ("update", "kind"),
    [
        ("simultaneous", "jit"),
        ("alternating", "pmap"),
        # Each compiles two programs; both updates and both kinds are above.
        pytest.param("simultaneous", "pmap", marks=pytest.mark.slow),
        pytest.param("alternating", "jit", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_train_as_one_does(update, kind):
    axis_name = parallel.AXIS if kind == "pmap" else None
    penalty = penalties.weighted(penalties.r1_r2, 0.3)

    def train(run, axis_name=None, n=2):
        game = tiny.make_game(
            tiny.DenseGen(batch_norm=False),
            DISC,
            "relativistic",  # pairs examples
            penalty=penalty,
            axis_name=axis_name,
        )
        step = UPDATES[update](game, TX, TX, accumulate=n)
        return _train(step, _start(tiny.DenseGen(batch_norm=False)), run=run)

    mesh = parallel.make_mesh()
    over = {
        "jit": lambda step: parallel.jit_step(step, mesh),
        "pmap": lambda step: parallel.pmap_step(step, mesh=mesh),
    }[kind]
    (one, told), (eight, ours) = train(jax.jit), train(over, axis_name)
    assert tiny.largest_difference(one, eight) < 5e-6
    for name in set(told) - {"disc/accuracy"}:
        np.testing.assert_allclose(ours[name], told[name], rtol=1e-4, atol=1e-6, err_msg=name)


# Unrolled, each seed is a step of its own, as those above.
@pytest.mark.parametrize("unroll", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_several_seeds_accumulate(unroll):
    game = tiny.make_game(Gen(), DISC, "hinge")
    start = jax.jit(steps.init_ensemble, static_argnums=1)(
        jax.random.split(KEY), lambda key: _start().replace(step=jnp.zeros((), jnp.int32))
    )
    after = []
    for n in (1, 2):
        step = steps.train_step(steps.simultaneous_step(game, TX, TX, accumulate=n))
        step = jax.jit(steps.ensemble(step, unroll=unroll))
        after.append(step(jax.random.split(KEY), start, tiny.batch(side=4)))
    assert tiny.largest_difference(*after) < 2e-6


def test_path_lengths_of_micro_batches_move_the_mean_as_all_do():
    def latents(key, variables, batch):
        return jax.random.normal(key, (batch["image"].shape[0], 2, 4))

    def synthesize(key, variables, w):
        return (variables["params"]["scale"] * w.sum((1, 2)))[:, None, None, None]

    players = [state.init_player({"params": {"scale": jnp.float32(2.0)}}, TX) for _ in range(2)]
    start = state.init_state(*players, path=steps.init_path())
    batch = {"image": jnp.zeros((64, 1, 1, 1))}
    (whole, told), (parts, ours) = (
        jax.jit(steps.path_length_step(latents, synthesize, TX, accumulate=n))(KEY, start, batch)
        for n in (1, 4)
    )
    np.testing.assert_allclose(ours["gen/path"], told["gen/path"], rtol=1e-5)
    # Each micro-batch is drawn to the mean that its own lengths have moved by a hundredth.
    np.testing.assert_allclose(parts.gen.params["scale"], whole.gen.params["scale"], rtol=1e-2)


@pytest.mark.parametrize("update", ["simultaneous", "alternating"])
@pytest.mark.slow  # compiles four programs
def test_a_compiled_step_takes_less_memory(update):
    gen, disc = tiny.DenseGen(batch_norm=False, width=512), tiny.DenseDisc(False, width=512)
    game = tiny.make_game(gen, disc, "hinge", penalty=penalties.r1)
    start, batch = _start(gen, disc), tiny.batch(size=512, side=4)

    def size(n):
        step = UPDATES[update](game, TX, TX, accumulate=n)
        return jax.jit(step).lower(KEY, start, batch).compile().memory_analysis().temp_size_in_bytes

    assert size(4) < 0.5 * size(1)


@pytest.mark.parametrize("update", UPDATES)
def test_every_key_is_used_once(update):
    game = tiny.make_game(Gen(), DISC, "hinge", penalty=penalties.interpolated, augment=AUGMENT)
    step, start = UPDATES[update](game, TX, TX, accumulate=2), _start()
    with jax.debug_key_reuse(True):
        jax.jit(step).trace(KEY, start, tiny.batch(side=4))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_micro_batch_draws_its_rows_of_the_whole_draw(impl):
    def draws(key, num):
        first, second, third = jax.random.split(key, 3)
        third = jax.random.fold_in(third, 7)
        return (
            jax.random.normal(first, (num, 3)),
            jax.random.randint(second, (num, 2, 1), 0, jnp.array([[[100]]])),
            jax.random.bernoulli(third, 0.3, (num,)),
        )

    key = jax.random.key(3, impl=impl)
    whole = draws(jax.random.clone(key), 12)
    for number in range(4):
        parts = draws(accumulate.micro_key(jax.random.clone(key), 4, number), 3)
        for part, all_of_them in zip(parts, whole, strict=True):
            np.testing.assert_array_equal(part, all_of_them[number::4])


def test_draws_of_an_examples_own_key_differ_between_micro_batches():
    def draws(number):
        key = accumulate.micro_key(jax.random.clone(KEY), 2, number)
        each = jax.vmap(lambda k: (jax.random.normal(k), jax.random.normal(jax.random.clone(k), 5)))
        single, row = each(jax.random.split(key, 3))
        return np.concatenate([single.ravel(), row.ravel()])

    drawn = np.concatenate([draws(number) for number in range(2)])
    assert len(np.unique(drawn)) == len(drawn)


def test_a_batch_that_does_not_divide_is_one_line():
    game = tiny.make_game(Gen(), DISC, "hinge")
    with pytest.raises(UserError, match=r"of 16 .*into 3 micro-batches; use a multiple of 3"):
        _train(steps.gen_step(game, TX, accumulate=3), _start())
    with pytest.raises(UserError, match="into 0 micro-batches; use 1 or more"):
        _train(steps.disc_step(game, TX, accumulate=0), _start())
