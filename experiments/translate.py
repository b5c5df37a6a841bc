r"""Translates images from one look to another, without pairs: CycleGAN, CUT, FastCUT.

    python -m experiments.translate --data_dir_a=PHOTOS --data_dir_b=PAINTINGS --crop=128 \
        --method=cut --workdir=runs/paintings

learns from two folders of images, of any number and size, what makes the one look like the other.
--method=cyclegan learns both directions, which must undo each other; --method=cut learns one, whose
patches must say which patch they come from: cheaper, and freer to change shapes; fastcut is cheaper
still. --crop takes parts of photos as they are, --image_size scales whole images. Where each folder
holds one picture, parts of it are all there is to learn (SinCUT); --scales=1,0.7,0.5 takes them at
several sizes.

Without folders it learns to make thick digits, black on a colour, of the handwritten ones that come
with scikit-learn, and the other way round; --dataset=mnist takes those of MNIST. What is to be kept
is known there: --classifier_weights=FILE, of experiments.classifier, adds the share of translations
that still are the digit they were.

Scores need no pairs: the distance to the look asked for, by an autoencoder's features and by its
textures, how well edges are kept, and what is lost there and back. With --hidden_pairs both folders
have the same names, training sees no two images of one name, and scores tell how often a
translation is nearest to its own target.
`experiments.apply --direction=ab` or `ba` translates photos of any size. With pairs to learn from,
`experiments.restore --task=pairs` is better; to paint one photo like one painting without training,
so is neural style transfer (Gatys et al., https://arxiv.org/abs/1508.06576).
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments import _looks, _translated
from jaxgan import losses, steps
from jaxgan import state as states
from jaxgan.data.spec import Spec
from jaxgan.metrics import weights
from jaxgan.nets import patch, resample, translators
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.adversarial import AdversarialConfig
from jaxgan.run.experiment import Experiment
from jaxgan.state import GANState, StepFn
from jaxgan.steps.game import Game, Round, Term
from jaxgan.translate import Translator
from jaxgan.types import Array, Key, UserError

METHODS = ("cyclegan", "cut", "fastcut")
LEAST = 16  # pixels a side, of what the nets and the scores can see


@cli.config(
    batch_size=1,
    num_steps=20_000,
    num_samples=8,
    loss="least_squares",
    penalty="none",
    update="alternating",
    lr_decay="linear",
    lr_final=0.0,
    beta2=0.999,
    ema_half_life=0.0,
)
class Config(AdversarialConfig):
    """The flags of this experiment; the flagfiles in experiments/flags set those of a recipe."""

    method: str = cli.field("cyclegan", "How it learns without pairs.", choices=METHODS)
    dataset: str = cli.field(
        "",
        "Digits, in two looks, in place of folders; those of MNIST need --data_dir. Empty for "
        "digits where no folder is named.",
        choices=("", "digits", "mnist"),
    )
    data_dir: str = cli.field(
        "", "Folder that holds trainA and trainB, perhaps testA and testB.", changeable=True
    )
    data_dir_a: str = cli.field("", "Or: folder of images of the first look.", changeable=True)
    data_dir_b: str = cli.field("", "And of the second.", changeable=True)
    hidden_pairs: bool = cli.field(
        False, "Both folders have the same names; used for scores alone."
    )
    holdout: float = cli.field(0.1, "Share of each look kept out of training.", above=0, below=1)
    image_size: int = cli.field(
        0, "Side that whole images are scaled to; 0 for 64, and for digits as they are.", minimum=0
    )
    crop: int = cli.field(
        0, "Side of the parts of images that are trained on, unscaled; 0 for whole ones.", minimum=0
    )
    scales: str = cli.field(
        "1",
        "Of --crop: sizes of the pictures that parts are taken from, as shares of their own: 1,0.5 "
        "shows each also at half its size.",
    )
    mirror: bool = cli.field(True, "Mirrors images at random; never digits.", changeable=True)
    width: int = cli.field(64, "Feature maps of G's first convolution.", minimum=1)
    blocks: int = cli.field(6, "Residual blocks of G; 9 for 256 pixels.", minimum=1)
    up: str = cli.field(
        "bilinear",
        "How G doubles maps: by transposed convolutions, as published, or after enlargement.",
        choices=resample.UPS,
    )
    residual: bool = cli.field(
        False,
        "Adds what G makes to the image, so that it begins by copying: for looks that are near "
        "each other. CycleGAN's way back holds it there unless --cycle_weight is low, such as 1.",
    )
    disc_widths: str = cli.field("64,128,256", "Feature maps of D, from the image on.")
    cycle_weight: float = cli.field(10.0, "Of CycleGAN: weight of the way back.", minimum=0)
    identity_weight: float = cli.field(
        0.5,
        "Weight of leaving images of the look asked for as they are: of CycleGAN as a share of the "
        "cycle's; of CUT any but 0 contrasts them as well, as published.",
        minimum=0,
    )
    pool_size: int = cli.field(
        50, "Of CycleGAN: past translations that D is shown; 0 for new ones alone.", minimum=0
    )
    contrast_weight: float = cli.field(
        1.0, "Of CUT: weight of the contrast of patches; 10 in FastCUT.", minimum=0
    )
    patches: int = cli.field(256, "Of CUT: patches of each feature map.", minimum=2)
    eval_images: int = cli.field(
        500, "Held-out images of each look that are scored, at most.", minimum=1, changeable=True
    )
    classifier_weights: str = cli.field(
        "", "Of digits, file of the classifier that says whether they are kept.", changeable=True
    )
    remat: bool = cli.field(
        False, "Computes blocks anew in the backward pass: less memory, more time.", changeable=True
    )

    def __post_init__(self):
        """Checks every field, and fills in FastCUT's."""
        if self.method == "fastcut":
            object.__setattr__(self, "contrast_weight", 10.0)
            object.__setattr__(self, "identity_weight", 0.0)
        folders = self.data_dir or self.data_dir_a or self.data_dir_b
        if not (folders or self.crop or self.hidden_pairs or self.dataset):
            object.__setattr__(self, "dataset", "digits")
        super().__post_init__()
        cli.integers(self, "disc_widths")
        cli.floats(self, "scales")
        if self.scales != "1" and not self.crop:
            raise UserError(f"--scales={self.scales} needs --crop: whole images are of one size")
        for name in ("crop", "image_size"):
            if 0 < getattr(self, name) < LEAST:
                raise UserError(
                    f"--{name}={getattr(self, name)} is too small; use {LEAST} or more, or 0"
                )
        self._check_digits()
        if self.penalty != "none" and self.method == "cyclegan":
            raise UserError(f"--penalty={self.penalty} is for --method=cut; use none")
        if self.uses_pool and self.parallel == "pmap":
            raise UserError("--pool_size needs --parallel=jit: under pmap each device has its own")
        if self.uses_pool and self.accumulate > 1:
            raise UserError(f"--accumulate={self.accumulate} needs --pool_size=0")

    def _check_digits(self) -> None:
        folders = self.data_dir_a or self.data_dir_b or self.hidden_pairs or self.crop
        if self.dataset and folders:
            raise UserError(
                f"--dataset={self.dataset} makes both looks of digits; leave --data_dir_a, "
                "--data_dir_b, --hidden_pairs and --crop away"
            )
        if self.classifier_weights and not self.dataset:
            raise UserError(
                f"--classifier_weights={self.classifier_weights} is for digits, --dataset=mnist"
            )

    @property
    def uses_pool(self) -> bool:
        """Whether D sees past translations."""
        return self.method == "cyclegan" and self.pool_size > 0


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config and its data."""
    shape = spec.shapes["a"]
    gen, terms = (_cyclegan if config.method == "cyclegan" else _cut)(config)
    both = config.method == "cyclegan"
    disc = translators.BothJudges(_judge(config), _judge(config)) if both else _judge(config)
    judged = ("a", "b") if both else ("b",)
    game = Game(
        gen=steps.from_entries(gen, "a", "b", axis_name=config.axis_name),
        disc=steps.judged(disc, *judged, axis_name=config.axis_name),
        loss=losses.ADVERSARIAL[config.loss],
        gen_terms=terms,
        example="none" if both or config.penalty == "none" else "b",
        axis_name=config.axis_name,
    )
    gen_tx, disc_tx = adversarial.optimizers(config)

    def init(key: Key) -> GANState:
        gen_key, disc_key = jax.random.split(key)
        image = jnp.zeros((1, *shape))
        pool = {}
        if config.uses_pool:
            pool[steps.POOL] = steps.init_pool({name: shape for name in judged}, config.pool_size)
        return states.init_state(
            states.init_player(gen.init(gen_key, image, image, train=False), gen_tx),
            states.init_player(disc.init(disc_key, *[image] * len(judged), train=False), disc_tx),
            **pool,
        )

    def wrap(step: StepFn) -> StepFn:
        for name in ("a", "b") if config.mirror and not config.dataset else ():
            step = steps.mirrored(step, example=name, axis_name=config.axis_name)
        return step

    if config.uses_pool:
        step = wrap(steps.pooled_step(game, gen_tx, disc_tx))
        step = steps.train_step(step, adversarial.average_step(config))
    else:
        step = adversarial.train_step(config, game, gen_tx, disc_tx, wrap=wrap)
    looks = functools.lru_cache(maxsize=1)(lambda: _looks.load(config))
    ways = ("ab", "ba") if both else ("ab",)
    back = _generator(config) if both else None
    directions = {
        way: Translator(translators.Directed(_generator(config), back, way), least=8)
        for way in ways
    }
    return Experiment(
        init=init,
        step=step,
        sample=_translated.Translated(directions, looks),
        show=_translated.show,
        score=_translated.score(config, directions, looks),
        translator=directions["ab"],
        directions=directions,
    )


def _generator(config: Config) -> nn.Module:
    return translators.Generator(
        width=config.width,
        blocks=config.blocks,
        up=config.up,
        residual=config.residual,
        axis_name=config.axis_name,
        dtype=jnp.dtype(config.compute_dtype),
        remat=config.remat,
    )


def _judge(config: Config) -> nn.Module:
    widths = cli.integers(config, "disc_widths")
    return patch.Discriminator(
        widths=widths,
        strides=(2,) * (len(widths) - 1) + (1,),
        norm="instance",
        dtype=jnp.dtype(config.compute_dtype),
        remat=config.remat,
    )


def _cyclegan(config: Config) -> tuple[nn.Module, Mapping[str, Term]]:
    """CycleGAN's player, and the terms of its loss."""
    identity = config.identity_weight * config.cycle_weight

    def kept(prefix: str, weight: float) -> Term:
        def term(seen: Round) -> Array:
            each = [
                losses.RECONSTRUCTION["l1"](seen.fake[f"{prefix}_{name}"], seen.batch[name])
                for name in ("a", "b")
            ]
            return weight * (each[0] + each[1])

        return term

    terms = {"cycle": kept("cycle", config.cycle_weight)}
    if identity:
        terms["identity"] = kept("identity", identity)
    gen = translators.BothWays(_generator(config), _generator(config), identity=identity > 0)
    return gen, terms


def _cut(config: Config) -> tuple[nn.Module, Mapping[str, Term]]:
    """CUT's player, and the terms of its loss."""
    names = {"contrast": "patches"}
    if config.identity_weight:
        names["identity"] = "identity"
    weight = config.contrast_weight / len(names)

    def contrasted(entry: str) -> Term:
        def term(seen: Round) -> Array:
            each = [losses.patch_nce(q, p) for q, p in zip(*seen.fake[entry], strict=True)]
            return weight * jnp.stack(each).mean(0)

        return term

    project = translators.PatchProjection(num=config.patches)
    gen = translators.Contrasted(_generator(config), project, identity=len(names) > 1)
    return gen, {name: contrasted(entry) for name, entry in names.items()}


def run(config: Config) -> GANState | None:
    """Trains; returns the final state, or None after a dry run."""
    if config.classifier_weights:
        weights.load(config.classifier_weights)  # what cannot be read is said before training
    return driver.train(config, build=build, source=_looks.training)


if __name__ == "__main__":
    cli.main(Config, run)
