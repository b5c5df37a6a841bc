"""Steps of text: likelihood, policy gradients, RelGAN's game; resumed, and on eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import losses, parallel, sentences, state, steps
from jaxgan.losses import ADVERSARIAL
from jaxgan.nets import cells, rnn, text_disc
from tests.helpers import tiny

V, T, B = 6, 4, 16
KEY = jax.random.key(2)
TX = optax.sgd(0.5, momentum=0.5)
GEN = rnn.Generator(V, cells.LSTM(4), 3)
DISC = text_disc.Convolutional(V, ((1, 3), (2, 4)), embedding=3, dropout=0.0)
EVERY = text_disc.Recurrent(V, cells.GRU(4), 3, at_every_token=True, dropout=0.0)


def batch(seed=0, num=B):
    """Sentences of rising tokens, of lengths 2 to 4."""
    random = np.random.default_rng(seed)
    length = random.integers(2, T + 1, num).astype(np.int32)
    text = np.sort(random.integers(3, V, (num, T)), 1)
    place = np.arange(T)
    text = np.where(place < length[:, None] - 1, text, np.where(place < length[:, None], 2, 0))
    return {"text": text.astype(np.int32), "length": length}


@functools.cache
def _start(disc=DISC, gen=GEN):
    one = batch(num=1)

    @jax.jit
    def init(key):
        gen_key, disc_key = jax.random.split(key)
        variables = (
            gen.init(gen_key, one["text"], train=False),
            disc.init(disc_key, one["text"], one["length"], train=False),
        )
        # Large enough that what is wrong is seen.
        variables = jax.tree.map(lambda x: 3.0 * x, variables)
        players = [state.init_player(each, TX) for each in variables]
        return state.init_state(*players, rollout=steps.init_rollout(variables[0]))

    return tiny.host(init(jax.random.key(0)))


def mle(axis_name=None, **options):
    return steps.mle_step(
        steps.writer(GEN, axis_name=axis_name), TX, axis_name=axis_name, **options
    )


def policy(axis_name=None, disc=DISC, **options):
    options = {"rollouts": 2, **options}
    return steps.policy_gradient_step(
        steps.writer(GEN, stages=1, axis_name=axis_name),
        steps.reader(disc, train=False, axis_name=axis_name),
        TX,
        axis_name=axis_name,
        **options,
    )


def judge(axis_name=None, disc=DISC):
    game = steps.Game(
        gen=steps.from_writer(steps.writer(GEN, axis_name=axis_name)),
        disc=steps.reader(disc, axis_name=axis_name),
        loss=ADVERSARIAL["nonsaturating"],
        example="text",
        axis_name=axis_name,
    )
    return steps.disc_step(game, TX)


def relgan(axis_name=None, is_hard=False):
    beta = losses.exponential_schedule(10.0, steps=3)

    def at(step):
        game = steps.Game(
            gen=steps.from_gumbel(
                GEN, inverse_temperature=beta(step), is_hard=is_hard, axis_name=axis_name
            ),
            disc=steps.reader(DISC, axis_name=axis_name),
            loss=ADVERSARIAL["relativistic"],
            example="text",
            axis_name=axis_name,
        )
        return steps.chain(steps.disc_step(game, TX), steps.gen_step(game, TX))

    return steps.map_batch(steps.one_hot(V), steps.scheduled(at))


def seqgan(axis_name=None):
    return steps.chain(policy(axis_name), judge(axis_name))


def scratchgan(axis_name=None):
    return policy(
        axis_name,
        EVERY,
        rollouts=0,
        reward=lambda logits: 2.0 * jax.nn.sigmoid(logits) - 1.0,
        advantage=losses.leave_one_out_advantage,
        discount=0.9,
    )


def maligan(axis_name=None):
    return policy(
        axis_name,
        rollouts=0,
        reward=losses.likelihood_ratio,
        advantage=losses.normalized_advantage,
    )


STEPS = {
    "mle": mle,
    "seqgan": seqgan,
    "maligan": maligan,
    "scratchgan": scratchgan,
    "relgan": relgan,
}


def begun(name):
    return _start(EVERY if name == "scratchgan" else DISC)


def train(step, start, num=2):
    """The state and metrics after some steps on a batch each."""
    for _ in range(num):
        start, metrics = step(KEY, start, batch(int(start.step)))
    return tiny.host(start), tiny.host(metrics)


def whole(step, run=jax.jit):
    return run(steps.train_step(step, steps.ema_step(0.9)))


@functools.cache
def compiled(name):
    return whole(STEPS[name]())


@functools.cache
def trained(name):
    return train(compiled(name), begun(name))


@pytest.mark.parametrize("name", STEPS)
def test_it_trains_and_says_how(name):
    after, metrics = trained(name)
    start = begun(name)
    assert metrics["gen/finite"] and metrics["gen/gradient"] > 0
    assert tiny.largest_difference(start.gen.params, after.gen.params) > 1e-4
    moved = tiny.largest_difference(start.disc.params, after.disc.params) > 1e-5
    assert moved == (name in ("seqgan", "relgan"))
    assert ("gen/reward" in metrics) == (name in ("seqgan", "maligan", "scratchgan"))


@pytest.mark.parametrize("name", STEPS)
def test_a_resumed_run_is_the_same_run(name):
    half, _ = train(compiled(name), begun(name), num=1)
    both, _ = train(compiled(name), half, num=1)
    jax.tree.map(np.testing.assert_array_equal, both, trained(name)[0])
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(both))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mle", "jit"),
        ("mle", "pmap"),
        ("seqgan", "pmap"),
        ("scratchgan", "pmap"),
        # Each compiles a long program.
        *(pytest.param(name, "pmap", marks=pytest.mark.slow) for name in ("maligan", "relgan")),
        *(pytest.param(name, "jit", marks=pytest.mark.slow) for name in STEPS if name != "mle"),
    ],
)
def test_eight_devices_train_as_one_does(name, kind):
    mesh = parallel.make_mesh()
    if kind == "jit":
        step = whole(STEPS[name](), lambda step: parallel.jit_step(step, mesh))
    else:
        step = STEPS[name](axis_name=parallel.AXIS)
        step = whole(step, lambda step: parallel.pmap_step(step, mesh=mesh))
    after, metrics = train(step, jax.tree.map(jnp.asarray, begun(name)))
    want, told = trained(name)
    assert tiny.largest_difference(after, want) < 2e-5
    for key in set(told) - {"disc/accuracy"}:
        np.testing.assert_allclose(metrics[key], told[key], rtol=1e-3, atol=1e-5, err_msg=key)


def test_maximum_likelihood_weighs_every_token_alike_in_micro_batches_too():
    start, one = _start(), batch()
    logits = GEN.apply(start.gen.variables, one["text"], train=False)
    nll = losses.token_cross_entropy(logits, one["text"], one["length"])
    want = nll.sum() / one["length"].sum()
    one, told = train(compiled("mle"), start, num=1)
    parts, ours = train(whole(mle(accumulate=2)), start, num=1)
    np.testing.assert_allclose([told["gen/loss"], ours["gen/loss"]], want, rtol=1e-5)
    assert tiny.largest_difference(one, parts) < 1e-6


def test_maximum_likelihood_ignores_padding():
    one = batch()
    wide = {**one, "text": np.pad(one["text"], ((0, 0), (0, 3)), constant_values=4)}
    a, b = (tiny.host(compiled("mle")(KEY, _start(), each)[0]) for each in (one, wide))
    assert tiny.largest_difference(a, b) < 1e-6


def test_maximum_likelihood_learns_sentences():
    now, first = _start(), None
    for number in range(60):
        now, metrics = compiled("mle")(KEY, now, batch(number))
        first = first or float(metrics["gen/loss"])
    assert metrics["gen/loss"] < 0.75 * first
    made = sentences.generate(KEY, GEN, now.gen.variables, 100, T)
    inner = [row[: num - 1] for row, num in zip(made.text, made.length, strict=True)]
    rising = [np.all(np.diff(row) >= 0) for row in inner]
    assert np.mean(rising) > 0.75


def reward_of(token):
    """A discriminator that likes a token: its logit for each one there."""

    def disc(key, variables, entries):
        is_on = losses.token_mask(entries["length"], entries["text"].shape[1]) > 0
        return {"logits": 2.0 * ((entries["text"] == token) & is_on).sum(1) - 3.0}, {}

    return disc


@pytest.mark.parametrize("rollouts", [0, 2])
def test_a_policy_learns_what_is_rewarded(rollouts):
    writer = steps.writer(GEN, stages=1)
    step = steps.policy_gradient_step(
        writer, reward_of(4), TX, rollouts=rollouts, advantage=losses.leave_one_out_advantage
    )
    step, now, seen = jax.jit(steps.train_step(step)), _start(), []
    for number in range(40):
        now, metrics = step(KEY, now, batch(number))
        seen.append(float(metrics["gen/reward"]))
    assert np.mean(seen[-5:]) > np.mean(seen[:5]) + 0.2


def test_rewards_of_roll_outs_are_the_mean_over_sentences_that_begin_alike():
    """With a roll-out network that is sure of itself, every completion is known."""
    sure = jax.tree.map(lambda x: 1e4 * x, _start().gen.variables)
    writer = steps.writer(GEN)
    told = {}

    def advantage(rewards, mask):
        told["rewards"] = rewards
        return rewards * mask

    step = steps.policy_gradient_step(
        writer, reward_of(4), TX, rollouts=3, advantage=advantage, reward=lambda x: x
    )
    now = _start()
    now = now.replace(extra={"rollout": sure})

    def run(key, now, one):
        step(key, now, one)
        write_key, _, _ = jax.random.split(key, 3)
        made = writer.write(write_key, now.gen.variables, one)
        ends = [
            sentences.generate(key, GEN, sure, B, T, prompt=made["text"][:, :t])._asdict()
            for t in range(1, T)
        ]
        want = [reward_of(4)(None, None, each)[0]["logits"] for each in (*ends, made)]
        return told.pop("rewards"), jnp.stack(want, 1)

    np.testing.assert_allclose(*jax.jit(run)(KEY, now, batch()), rtol=1e-5)


def test_the_copy_that_rolls_out_moves_slowly():
    start, (after, _) = _start(), train(compiled("seqgan"), _start(), num=1)
    want = jax.tree.map(
        lambda old, new: 0.8 * old + 0.2 * new, start.gen.variables, after.gen.variables
    )
    assert tiny.largest_difference(after.extra["rollout"], want) < 1e-6
    without, _ = train(compiled("maligan"), _start(), num=1)
    assert tiny.largest_difference(without.extra["rollout"], start.extra["rollout"]) == 0


@pytest.mark.slow  # compiles two programs
def test_roll_outs_side_by_side_or_one_after_the_other_are_the_same():
    one, two = (train(jax.jit(policy(together=n)), _start(), num=1)[0] for n in (1, 2))
    assert tiny.largest_difference(one, two) < 1e-6


@pytest.mark.parametrize("is_hard", [False, True])
def test_what_relgan_shows_its_discriminator(is_hard):
    gen = steps.from_gumbel(GEN, inverse_temperature=3.0, is_hard=is_hard)
    made, stats = jax.jit(gen)(KEY, _start().gen.variables, batch())
    text, length = np.asarray(made["text"]), np.asarray(made["length"])
    assert text.shape == (B, T, V) and stats == {}
    np.testing.assert_allclose(text.sum(-1), 1.0, rtol=1e-5)
    tokens = text.argmax(-1)
    np.testing.assert_array_equal(sentences.lengths(jnp.asarray(tokens), end=2), length)
    behind = np.arange(T) >= length[:, None]
    assert behind.any() and np.all(text[behind] == np.eye(V)[0])
    assert np.all(np.isin(text, [0, 1])) == is_hard


@pytest.mark.parametrize("is_hard", [False, True])
def test_relaxed_tokens_have_gradients_to_every_parameter(is_hard):
    gen = steps.from_gumbel(GEN, inverse_temperature=2.0, is_hard=is_hard)

    def loss(params):
        text = gen(KEY, {"params": params}, batch())[0]["text"]
        return (text * jnp.arange(V)[None, None]).sum()

    grads = jax.jit(jax.grad(loss))(_start().gen.params)
    assert all(np.any(leaf != 0) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))


def test_what_sentences_are_about_reaches_both_players():
    gen = rnn.Generator(V, cells.GRU(4), 3, num_classes=3, encoder=cells.GRU(3))
    disc = text_disc.Recurrent(V, cells.GRU(4), 3, num_classes=3, encoder=cells.GRU(3))
    entries = ("label", "source", "source_length")
    about = {
        "label": np.arange(B, dtype=np.int32) % 3,
        "source": batch(1)["text"],
        "source_length": batch(1)["length"],
    }
    one = {**batch(), **about}
    writer = steps.writer(gen, *entries)
    game = steps.Game(
        gen=steps.from_gumbel(gen, *entries, inverse_temperature=2.0),
        disc=steps.reader(disc, *entries),
        loss=ADVERSARIAL["relativistic"],
        example="text",
    )
    step = steps.chain(
        steps.mle_step(writer, TX),
        steps.policy_gradient_step(
            writer, steps.reader(disc, *entries, train=False), TX, rollouts=1
        ),
        steps.map_batch(steps.one_hot(V), steps.simultaneous_step(game, TX, TX)),
    )
    init = functools.partial(gen.init, train=False), functools.partial(disc.init, train=False)
    gen_variables = jax.jit(init[0])(KEY, one["text"], *about.values())
    disc_variables = jax.jit(init[1])(KEY, one["text"], one["length"], *about.values())
    now = state.init_state(
        state.init_player(gen_variables, TX),
        state.init_player(disc_variables, TX),
        rollout=steps.init_rollout(gen_variables),
    )
    after, _ = jax.jit(steps.train_step(step))(KEY, now, one)
    for player, was in ((after.gen, now.gen), (after.disc, now.disc)):
        for name in ("labels", "reader"):
            assert tiny.largest_difference(player.params[name], was.params[name]) > 0, name


@pytest.mark.parametrize("name", STEPS)
def test_every_key_is_used_once(name):
    start = begun(name)
    with jax.debug_key_reuse(True):
        jax.jit(STEPS[name]()).trace(KEY, start, batch())
