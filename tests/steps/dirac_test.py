"""The DiracGAN: every way of moving converges, cycles or diverges as theory predicts.

See "Which Training Methods for GANs do actually Converge?" by Mescheder et al.
(https://arxiv.org/abs/1801.04406): real data are the point 0, the generator is a point theta, the
discriminator is D(x) = psi x. Under the Wasserstein loss the game is bilinear, so that one step is
a matrix, written out here by hand; h is the rate of both players.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxgan import penalties, state, steps
from jaxgan.losses import ADVERSARIAL

H = 0.1
START = (1.0, 0.5)  # theta, psi
BATCH = {"image": np.zeros((8, 1), np.float32)}


class Point(nn.Module):
    @nn.compact
    def __call__(self, z, label=None, *, train):
        theta = self.param("theta", nn.initializers.constant(START[0]), ())
        return jnp.full((z.shape[0], 1), theta)


class Slope(nn.Module):
    @nn.compact
    def __call__(self, x, label=None, *, train):
        return self.param("psi", nn.initializers.constant(START[1]), ()) * x[:, 0]


GEN, DISC, SGD = Point(), Slope(), optax.sgd(H)


def _path(step, *, num=400, tx=SGD):
    """[num + 1, 2]: theta and psi before and after each step."""
    key = jax.random.key(0)
    start = state.init_state(
        state.init_player(GEN.init(key, jnp.zeros((1, 1)), train=False), tx),
        state.init_player(DISC.init(key, jnp.zeros((1, 1)), train=False), tx),
    )
    step = steps.train_step(step)

    def body(now, _):
        now, _ = step(key, now, BATCH)
        return now, jnp.stack([now.gen.params["theta"], now.disc.params["psi"]])

    _, path = jax.jit(lambda start: jax.lax.scan(body, start, length=num))(start)
    return np.concatenate([[START], np.asarray(path, np.float64)])


def _game(loss="wasserstein", **options):
    return steps.Game(
        gen=steps.from_latents(GEN, 1),
        disc=steps.judged(DISC, "image"),
        loss=ADVERSARIAL[loss] if isinstance(loss, str) else loss,
        **options,
    )


def _simultaneous(loss="wasserstein", tx=SGD, **options):
    return steps.simultaneous_step(_game(loss, **options), tx, tx)


def _powers(matrix, num=400):
    """The path of START under a matrix."""
    path = [np.array(START)]
    for _ in range(num):
        path.append(matrix @ path[-1])
    return np.stack(path)


def _r1(gamma):
    return penalties.weighted(penalties.r1, gamma)


# One step [theta, psi] -> [theta, psi]: psi falls along theta, theta rises along psi.
PLAIN = np.array([[1.0, H], [-H, 1.0]])
DISC_FIRST = np.array([[1.0, H], [0.0, 1.0]]) @ np.array([[1.0, 0.0], [-H, 1.0]])
TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])


def _step_by_matrix():
    """name -> (step, matrix, what the spectrum says)."""
    disc, gen = steps.disc_step(_game(), SGD), steps.gen_step(_game(), SGD)
    gamma, eta = 0.5, 3
    unrolled = steps.unrolled_gen_step(_game(), SGD, SGD, unroll=eta)
    lazily = steps.scheduled(lambda step: _simultaneous(penalty=steps.lazy(_r1(gamma), 1, step)))
    damped = np.array([[1.0, H], [-H, 1.0 - H * gamma]])
    # G's gradient of -(psi - k h theta) theta is -(psi - 2 k h theta).
    looking_ahead = np.array([[1.0 - 2 * eta * H**2, H], [0.0, 1.0]])
    return {
        "simultaneous": (_simultaneous(), PLAIN, "diverges"),
        "alternating": (steps.chain(disc, gen), DISC_FIRST, "cycles"),
        "alternating, shared fakes": (
            steps.alternating_step(_game(), SGD, SGD),
            DISC_FIRST,
            "cycles",
        ),
        "four critic steps": (
            steps.chain(steps.repeat(disc, 4), gen),
            np.array([[1.0, H], [0.0, 1.0]]) @ np.array([[1.0, 0.0], [-4 * H, 1.0]]),
            "cycles",
        ),
        "four critic steps on shares": (
            steps.chain(steps.microbatches(disc, 4), gen),
            np.array([[1.0, H], [0.0, 1.0]]) @ np.array([[1.0, 0.0], [-4 * H, 1.0]]),
            "cycles",
        ),
        "extragradient": (
            steps.extragradient_step(_game(), SGD, SGD),
            np.eye(2) + H * TURN @ (np.eye(2) + H * TURN),
            "converges",
        ),
        "r1": (_simultaneous(penalty=_r1(gamma)), damped, "converges"),
        "lazy r1 of interval 1": (lazily, damped, "converges"),
        "unrolled": (
            steps.chain(unrolled, disc),
            np.array([[1.0, 0.0], [-H, 1.0]]) @ looking_ahead,
            "converges",
        ),
    }


@pytest.mark.parametrize("name", _step_by_matrix())
def test_a_step_is_its_matrix_and_goes_where_its_spectrum_says(name):
    step, matrix, fate = _step_by_matrix()[name]
    path, radius = _path(step), np.abs(np.linalg.eigvals(matrix)).max()
    np.testing.assert_allclose(path, _powers(matrix), rtol=2e-3, atol=2e-3 * radius**400)
    size = np.linalg.norm(path, axis=1)
    if fate == "diverges":
        assert radius > 1 and size[-1] > 5 * size[0]
    elif fate == "cycles":
        assert radius == pytest.approx(1.0) and 0.5 < size[-50:].max() / size[0] < 2
    else:
        assert radius < 1 and size[-1] < 0.2 * size[0]


def test_extragradient_shrinks_by_its_closed_form():
    size = np.linalg.norm(_path(steps.extragradient_step(_game(), SGD, SGD)), axis=1)
    np.testing.assert_allclose(size[1:] / size[:-1], np.sqrt(1 - H**2 + H**4), rtol=1e-5)


def test_simultaneous_descent_grows_by_its_closed_form_under_the_minimax_loss():
    # |w|^2 grows by 1 + h^2 sigmoid(psi theta)^2 each step (lemma 2.4 of the paper).
    path = _path(_simultaneous("minimax"))
    slope = 1 / (1 + np.exp(-path.prod(axis=1)))[:-1]
    size = np.square(path).sum(axis=1)
    np.testing.assert_allclose(size[1:] / size[:-1], 1 + (H * slope) ** 2, rtol=1e-5)
    assert size[-1] > 2 * size[0]


def test_optimistic_descent_follows_its_recursion_and_converges():
    tx = optax.optimistic_gradient_descent(H)
    path = _path(_simultaneous(tx=tx), tx=tx)
    # w_{t+1} = w_t + 2 h T w_t - h T w_{t-1}; the first step is a plain one.
    expected = [np.array(START), np.array(START) + H * TURN @ START]
    while len(expected) < len(path):
        before, now = expected[-2:]
        expected.append(now + H * TURN @ (2 * now - before))
    np.testing.assert_allclose(path, expected, rtol=2e-3, atol=1e-4)
    size = np.linalg.norm(path, axis=1)
    assert size[-1] < 0.2 * size[0]


def test_optimistic_adam_stays_where_adam_runs_away():
    # With Adam's momentum the plain game spirals out; the optimistic one settles near the solution.
    plain = optax.adam(0.02, b1=0.5)
    ours = optax.optimistic_adam_v2(0.02, b1=0.5)
    sizes = [
        np.linalg.norm(_path(_simultaneous(tx=tx), tx=tx, num=3000)[-500:], axis=1).max()
        for tx in (plain, ours)
    ]
    assert sizes[0] > 1.0 and sizes[1] < 0.5 * sizes[0]


def test_the_penalty_of_wgan_gp_does_not_converge():
    # It pulls psi to 1 or -1, never to 0 (lemma 2.6): theta is never left in peace.
    penalty = penalties.weighted(penalties.PENALTIES["wgan_gp"], 1.0)
    path = _path(_simultaneous(penalty=penalty), num=3000)
    assert np.linalg.norm(path[-500:], axis=1).max() > 0.3
    damped = _path(_simultaneous(penalty=_r1(1.0)), num=3000)
    assert np.linalg.norm(damped[-500:], axis=1).max() < 1e-3


def test_instance_noise_makes_the_cross_entropy_game_converge():
    # Mescheder et al., lemma 3.1: in expectation, with the noise the eigenvalues have negative
    # real parts. Symmetric noise of fixed size stands for the expectation.
    noise = jnp.array([[1.0], [-1.0]] * 4)
    with_noise = _simultaneous("nonsaturating", augment=lambda key, x: x + noise)
    without = _simultaneous("nonsaturating")
    sizes = [np.linalg.norm(_path(s, num=2000), axis=1)[-500:] for s in (with_noise, without)]
    assert sizes[0].max() < 1e-2 and sizes[1].min() > 0.3


def test_label_smoothing_does_not_make_it_converge():
    # Smoothed labels scale the field that turns; nothing damps it.
    loss = steps.label_smoothing(ADVERSARIAL["nonsaturating"], 0.1)
    assert np.linalg.norm(_path(_simultaneous(loss), num=2000)[-500:], axis=1).min() > 0.3


def test_lazy_r1_is_its_two_matrices_in_turn_and_converges_as_r1_does():
    def lazily(interval):
        return steps.scheduled(
            lambda step: _simultaneous(penalty=steps.lazy(_r1(0.5), interval, step))
        )

    one, eight = _path(lazily(1)), _path(lazily(8))
    for path in (one, eight):  # the factor keeps the mean strength
        assert np.linalg.norm(path[-1]) < 1e-3
    plain = np.array([[1.0, H], [-H, 1.0]])
    damped = np.array([[1.0, H], [-H, 1.0 - 8 * H * 0.5]])
    expected = np.array(START)
    for number in range(16):
        expected = (plain if number % 8 else damped) @ expected
    np.testing.assert_allclose(eight[16], expected, rtol=1e-4)
