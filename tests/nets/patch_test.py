"""PatchGAN and the U-Net discriminator: against published code, what a logit sees, R1."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import penalties, state, steps
from jaxgan.losses import ADVERSARIAL
from jaxgan.nets import patch, unet
from jaxgan.types import UserError
from tests.nets import editing_references, published, references

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(KEY, (2, 16, 16, 3), minval=-1.0)
SMALL = {"widths": (4, 6), "strides": (2, 1)}
BOTH = [functools.partial(patch.Discriminator, **SMALL, norm="instance")]
BOTH += [functools.partial(patch.UNetDiscriminator, widths=(4, 6))]
NAMES = ["patch", "unet"]


def _patch(player, name):
    """The published name of a parameter of PatchGAN, and how its axes are turned there."""
    del player
    layer, kind = name.split(".")
    suffix = "bias" if kind == "bias" else "weight"
    if layer == "judge":
        at = 11
    else:
        norm, number = layer.split("_")
        at = max(0, 3 * int(number) - 1) + (norm == "norm")
    return f"model.{at}.{suffix}", "conv" if kind == "kernel" else ""


def _pixels(player, name):
    """The same for the U-Net discriminator."""
    del player
    layer, kind = name.split(".")
    at = re.sub(r"(down|up|last)_(\d)", _number, layer)
    at = {"first": "conv0", "judge_pixels": "conv9"}.get(at, at)
    return f"{at}.{'bias' if kind == 'bias' else 'weight'}", "conv" if kind == "kernel" else ""


def _number(found):
    start, step = {"down": (1, 1), "up": (6, -1), "last": (7, 1)}[found[1]]
    return f"conv{start + step * int(found[2])}"


def _net(case):
    """A discriminator, the names of its parameters, and the side of its images."""
    if case == "pixels":
        widths = [editing_references.PIXELS_WIDTH * 2**i for i in range(4)]
        return patch.UNetDiscriminator(widths), _pixels, editing_references.PIXELS_SIDE
    widths = [editing_references.PATCH_WIDTH * 2**i for i in range(4)]
    norm = case.removeprefix("patch ")
    options = {"norm": "none", "spectral": True} if norm == "spectral" else {"norm": norm}
    return patch.Discriminator(widths, **options), _patch, editing_references.PATCH_SIDE


def _disc(case):
    """With the published weights: (parameters, images) -> logits, both, and names."""
    net, names, side = _net(case)
    image = jnp.asarray(editing_references.image(side))
    shapes = jax.eval_shape(lambda: net.init(KEY, image, train=True))
    own, stats = {}, {}  # what the published one lacks, the logit of the whole
    if case == "pixels":
        own = {"judge": jax.tree.map(lambda x: jnp.ones(x.shape), shapes["params"].pop("judge"))}
    params = published.weights(case.split()[0], shapes["params"], names, references.weight)
    if "batch_stats" in shapes:
        stats["batch_stats"] = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes["batch_stats"])
    if "spectral" in shapes:
        stats["spectral"] = published.spectral_vectors(shapes["spectral"], {**params, **own})

    def logits(params, image):
        variables = {**stats, "params": {**params, **own}}
        train = "batch_stats" in stats  # spectral norms are exact as they are
        out, _ = net.apply(variables, image, train=train, mutable=[*stats])
        return out["logits"][1] if case == "pixels" else out

    return logits, params, image, names


CASES = [f"patch {norm}" for norm in editing_references.PATCH_NORMS]
FILES = {**dict.fromkeys(CASES, "pix2pix"), "pixels": "kair"}


@pytest.mark.parametrize("case", FILES)
def test_logits_are_those_published(case):
    logits, params, image, _ = _disc(case)
    made = editing_references.some(jax.jit(logits)(params, image))
    expected = published.expected(FILES[case], case)["logits"]
    np.testing.assert_allclose(made, expected, rtol=published.RTOL, atol=1e-5)


@pytest.mark.slow  # to compile second derivatives takes 5 s
@pytest.mark.parametrize("case", FILES)
def test_gradients_and_r1_are_those_published(case):
    logits, params, image, names = _disc(case)

    def loss(params):
        r1 = penalties.zero_centered(functools.partial(logits, params), image)
        adversarial = jax.nn.softplus(-logits(params, image)).mean()
        return adversarial + editing_references.GAMMA / 2 * r1.mean(), r1

    grads, r1 = jax.jit(jax.grad(loss, has_aux=True))(params)
    expected = published.expected(FILES[case], case)
    np.testing.assert_allclose(r1, expected["r1"], rtol=published.RTOL)
    published.assert_same_gradients(case, grads, names, expected["grads"])


def test_parameters_are_as_many_as_published():
    image = jnp.zeros((1, 32, 32, 3))
    assert _count(patch.Discriminator(), image, image) == 2_768_705
    assert published.expected("pix2pix", "parameters")["patch"] == 2_768_705
    whole = 512 + 1  # the logit of the whole, which the published one lacks
    expected = published.expected("kair", "parameters")["pixels"] + whole
    assert _count(patch.UNetDiscriminator(), image) == expected


def _count(net, *inputs):
    shapes = jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    "strides, kernel, side",
    [((2, 2, 2, 1), 4, 70), ((2, 1), 4, 16), ((2, 2, 2, 2, 2, 1), 4, 286), ((1, 1), 1, 1)],
)
def test_receptive_fields_are_those_of_the_paper(strides, kernel, side):
    assert patch.receptive_field(strides, kernel=kernel) == side


@pytest.mark.parametrize("strides, kernel", [((2, 2, 2, 1), 4), ((2, 1), 4), ((1, 2), 3)])
def test_a_logit_sees_its_receptive_field_and_no_more(strides, kernel):
    net = patch.Discriminator((2,) * len(strides), strides, kernel, norm="none")
    image = jax.random.normal(KEY, (1, 160, 160, 1))
    variables = published.random_variables(net, image)

    @jax.jit
    def slope(image):
        def middle(image):
            logits = net.apply(variables, image, train=False)
            return logits[0, logits.shape[1] // 2, logits.shape[2] // 2]

        return jax.grad(middle)(image)

    rows, columns = np.nonzero(np.asarray(slope(image))[0, :, :, 0])
    side = patch.receptive_field(strides, kernel=kernel)
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == side
    assert rows.min() > 0 and rows.max() < 159  # all of it lies inside


@pytest.mark.parametrize("size, logits", [((256, 256), (30, 30)), ((24, 101), (1, 10))])
def test_logits_are_as_many_as_patches(size, logits):
    out = jax.eval_shape(
        lambda: patch.Discriminator().init_with_output(KEY, jnp.zeros((2, *size, 3)), train=True)
    )[0]
    assert out.shape == (2, *logits) and out.dtype == jnp.float32


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 5), (1, 1)])
def test_unet_judges_any_size_as_a_whole_and_by_the_pixel(size):
    net = patch.UNetDiscriminator(widths=(4, 6, 8))
    image = jnp.zeros((2, *size, 3))
    out, _ = jax.eval_shape(lambda: net.init_with_output(KEY, image, train=True))
    whole, pixels = out["logits"]
    assert whole.shape == (2,) and pixels.shape == (2, *size)
    assert whole.dtype == pixels.dtype == jnp.float32


def test_logit_of_the_whole_is_a_linear_layer_on_the_mean_of_the_middle():
    net = patch.UNetDiscriminator(widths=(4, 6), spectral=False, with_features=True)
    variables = published.random_variables(net, IMAGE)
    out = jax.jit(functools.partial(net.apply, train=False))(variables, IMAGE)
    judge, middle = variables["params"]["judge"], out["features"][1]
    assert middle.shape == (2, 8, 8, 6)
    expected = middle.mean((1, 2)) @ judge["kernel"][:, 0] + judge["bias"][0]
    np.testing.assert_allclose(out["logits"][0], expected, rtol=1e-5)


def test_features_come_beside_the_same_logits():
    net = patch.Discriminator(**SMALL)
    variables = published.random_variables(net, IMAGE)
    nets = (net, net.clone(with_features=True))
    plain, out = (jax.jit(functools.partial(n.apply, train=False))(variables, IMAGE) for n in nets)
    np.testing.assert_allclose(plain, out["logits"], rtol=1e-6)
    assert [x.shape for x in out["features"]] == [(2, 8, 8, 4), (2, 7, 7, 6)]


@pytest.mark.parametrize("make", BOTH, ids=NAMES)
def test_what_the_image_was_made_from_counts(make):
    disc = steps.judged(make(), "image", "source")
    source = IMAGE[:, ::-1, :, :1]
    variables = published.random_variables(make(), IMAGE, source)

    @jax.jit
    def judged(source):
        out, stats = disc(KEY, variables, {"image": IMAGE, "source": source})
        assert stats.keys() == variables.keys() - {"params"}
        return jax.tree.leaves(out["logits"])

    for first, second in zip(judged(source), judged(-source), strict=True):
        assert not np.allclose(first, second)


@pytest.mark.parametrize("make", BOTH, ids=NAMES)
def test_bfloat16_leaves_parameters_and_logits_float32(make):
    net = make(dtype=jnp.bfloat16, spectral=True)
    out, variables = jax.eval_shape(lambda: net.init_with_output(KEY, IMAGE, train=True))
    assert {x.dtype for x in jax.tree.leaves((out, variables))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("make", BOTH, ids=NAMES)
def test_bfloat16_logits_are_near_those_of_float32(make):
    variables = published.random_variables(make(), IMAGE)

    def logits(dtype):
        apply = functools.partial(make(dtype=dtype).apply, train=False)
        return jax.tree.leaves(jax.jit(apply)(variables, IMAGE))

    for half, single in zip(logits(jnp.bfloat16), logits(jnp.float32), strict=True):
        np.testing.assert_allclose(half, single, atol=0.1)


@pytest.mark.slow  # to compile second derivatives takes 5 s
@pytest.mark.parametrize("make", BOTH, ids=NAMES)
def test_r1_has_finite_gradients(make):
    net = make(spectral=True)
    variables = published.random_variables(net, IMAGE)

    def loss(params):
        def critic(image):
            out = net.apply({**variables, "params": params}, image, train=False)
            return sum(x.reshape(2, -1).sum(1) for x in jax.tree.leaves(out))

        return penalties.zero_centered(critic, IMAGE).sum()

    r1, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert r1 > 0 and all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("make", BOTH, ids=NAMES)
def test_rematerialised_layers_give_the_same_numbers(make):
    results = []
    for remat in (False, True):
        net = make(remat=remat, spectral=False)
        variables = published.random_variables(net, IMAGE)

        def loss(variables, net=net):
            out = net.apply(variables, IMAGE, train=True)
            return sum(jnp.square(x).sum() for x in jax.tree.leaves(out))

        results.append(jax.jit(jax.value_and_grad(loss))(variables))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), *results)


@pytest.mark.slow  # compiles the iterations of two spectral norms twice
@pytest.mark.parametrize("make", BOTH, ids=NAMES)
def test_rematerialised_layers_keep_spectral_statistics(make):
    results = []
    for remat in (False, True):
        net = make(remat=remat, spectral=True)
        variables = published.random_variables(net, IMAGE)
        apply = functools.partial(net.apply, train=True, mutable=["spectral"])
        results.append(jax.jit(apply)(variables, IMAGE))
    assert results[0][1].keys() == {"spectral"}
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), *results)


@pytest.mark.parametrize(
    "net, sizes, said",
    [
        (patch.Discriminator(), [(23, 40)], "needs 24 pixels a side"),
        (patch.Discriminator(strides=(2, 1)), [(64, 64)], "4 widths and 2 strides"),
        (patch.Discriminator(norm="instant"), [(64, 64)], 'did you mean "instance"'),
        (patch.UNetDiscriminator(), [(16, 16), (8, 8)], "8 x 8 is not beside an image of 16 x 16"),
    ],
)
def test_mistakes_are_one_line(net, sizes, said):
    inputs = [jnp.zeros((1, *size, 3)) for size in sizes]
    with pytest.raises(UserError, match=said):
        jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))


@pytest.mark.slow  # traces the second derivatives of a whole step
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("make", BOTH, ids=NAMES)
def test_players_of_a_game_with_a_penalty_and_matched_features(make, accumulate):
    def matched(seen):
        pairs = zip(seen.real_out["features"], seen.fake_out["features"], strict=True)
        return sum(jnp.abs(real - fake).mean((1, 2, 3)) for real, fake in pairs)

    gen, disc, tx = unet.Generator(widths=(4, 4)), make(with_features=True), optax.sgd(0.1)
    game = steps.Game(
        gen=steps.from_entry(gen, "source", "image"),
        disc=steps.judged(disc, "image", "source"),
        loss=ADVERSARIAL["hinge"],
        penalty=penalties.weighted(penalties.r1, 0.1),
        gen_terms={"features": matched},
    )

    def init():
        players = (gen.init(KEY, IMAGE, train=True), disc.init(KEY, IMAGE, IMAGE, train=True))
        return state.init_state(*(state.init_player(player, tx) for player in players))

    before = jax.eval_shape(init)
    step = steps.alternating_step(game, tx, tx, accumulate=accumulate)
    batch = {"source": IMAGE, "image": IMAGE}
    after, metrics = jax.eval_shape(step, KEY, before, batch)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (before, after)]
    assert shapes[0] == shapes[1]
    assert {"gen/features", "disc/penalty"} <= metrics.keys()
