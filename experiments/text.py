r"""Text: recurrent generators, by maximum likelihood and by adversarial training.

    python -m experiments.text --workdir=runs/sums
    python -m experiments.text --dataset=lines --data_dir=FILE.txt --method=seqgan \
        --pretrain_steps=4000 --num_steps=5000 --workdir=runs/lines

learns to write sentences: sums by itself (`--dataset=grammar`, whose correctness is checked), or
the lines of a file, a running text in characters, captions, news of several classes, answers to the
line before. --method=mle is a language model. The others begin with it for --pretrain_steps, and go
on with a discriminator:

    seqgan      its probability of "real", of every word by roll-outs, is the reward of G's choices
    maligan     rewards are likelihood ratios, normalised over the batch; no roll-outs
    scratchgan  D judges every word; rewards add up, beside those of the other sentences
    relgan      words are relaxed (Gumbel-softmax), so that gradients pass through D

Adversarial training buys quality and costs variety, as a lower temperature does: compare with the
language model's own curve before you believe in a gain ("Language GANs Falling Short", Caccia et
al., https://arxiv.org/abs/1811.02549): `experiments.sample --out=samples.txt --temperature=0.8`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import _written
from jaxgan import losses, steps
from jaxgan import state as states
from jaxgan.data import text as texts
from jaxgan.data import vocabulary
from jaxgan.data.spec import Spec
from jaxgan.losses import text as text_losses
from jaxgan.nets import cells, relational, rnn, text_disc
from jaxgan.run import adversarial, cli, driver
from jaxgan.run.adversarial import AdversarialConfig
from jaxgan.run.experiment import Experiment
from jaxgan.state import GANState, StepFn
from jaxgan.steps import text as text_steps
from jaxgan.steps import writers
from jaxgan.steps.game import Game
from jaxgan.types import Batch, Key, Metrics, UserError

METHODS = ("mle", "seqgan", "maligan", "scratchgan", "relgan")
CELLS = ("lstm", "gru", "relational")


@cli.config(
    batch_size=64,
    num_steps=4000,
    num_samples=20,
    loss="nonsaturating",
    penalty="none",
    gen_lr=1e-2,
    disc_lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    ema_half_life=0.0,
)
class Config(AdversarialConfig):
    """The flags of this experiment; the flagfiles in experiments/flags set those of a recipe."""

    dataset: str = cli.field(
        "grammar",
        "The text: sums (grammar), lines of a file, a running text (characters), Texygen's "
        "captions or news (coco, emnlp_news), a table of texts and classes (csv), dialogues, or "
        "what SeqGAN's teacher writes (oracle).",
        choices=(*texts.KINDS, _written.ORACLE),
    )
    data_dir: str = cli.field("", "The file or folder.", changeable=True)
    max_length: int = cli.field(
        0, "Most words of a sentence, its end counted; 0 for those of the longest.", minimum=0
    )
    too_long: str = cli.field("cut", "What becomes of longer ones.", choices=texts.TOO_LONG)
    lower: bool = cli.field(False, "Makes all of it lower case.")
    vocabulary_size: int = cli.field(0, "Most different words; 0 for all.", minimum=0)
    min_count: int = cli.field(1, "How often a word must occur to be known.", minimum=1)
    holdout: float = cli.field(
        0.1, "Share kept out of training, where the text has no test part.", above=0, below=1
    )
    text_column: str = cli.field("", "Of --dataset=csv; empty for the usual names.")
    label_column: str = cli.field("", "Of --dataset=csv; empty for the usual names.")
    separator: str = cli.field("", "Between the turns of a dialogue; empty: each sentence is one.")
    method: str = cli.field("mle", "How G learns.", choices=METHODS)
    pretrain_steps: int = cli.field(
        0, "Steps at the start by maximum likelihood, of the adversarial methods.", minimum=0
    )
    pretrain_disc: int = cli.field(
        0, "Steps after them that train D alone, before G goes on.", minimum=0
    )
    gen_adversarial_lr: float = cli.field(
        5e-4, "G's learning rate after pre-training; 0 for the same.", minimum=0, changeable=True
    )
    disc_repeats: int = cli.field(1, "Updates of D to one of G.", minimum=1)
    cell: str = cli.field("lstm", "G's memory.", choices=CELLS)
    hidden: int = cli.field(32, "Numbers in it.", minimum=1)
    embedding: int = cli.field(32, "Numbers of a word.", minimum=1)
    dropout: float = cli.field(0.0, "Of G: share dropped in training.", minimum=0, below=1)
    rollouts: int = cli.field(16, "Of seqgan: completions of every beginning.", minimum=1)
    rollout_rate: float = cli.field(
        0.8, "Of seqgan: share that stays of the network that completes.", minimum=0, below=1
    )
    sharpness: float = cli.field(
        100.0, "Of relgan: inverse temperature at the end, reached exponentially.", minimum=1
    )
    representations: int = cli.field(
        64,
        "Of relgan: embeddings of a word that D judges each for itself, a divisor of 64. Of the "
        "published 64 a step takes eight times as long as of 8.",
        minimum=1,
    )
    eval_sentences: int = cli.field(
        1000, "Sentences of a score, and held-out ones at most.", minimum=2, changeable=True
    )

    def __post_init__(self):
        """Checks every field, and that what is asked for takes part."""
        super().__post_init__()
        if self.method == "mle":
            for name in ("pretrain_steps", "pretrain_disc"):
                if getattr(self, name):
                    raise UserError(
                        f"--{name}={getattr(self, name)} comes before adversarial steps, which "
                        "--method=mle has none of; give another method"
                    )
        width = text_disc.MultiRepresentation.embedding
        if width % self.representations:
            raise UserError(
                f"--representations={self.representations} does not divide {width}, the width of "
                "an embedding"
            )
        if self.penalty != "none":
            raise UserError(
                f"--penalty={self.penalty} needs images that can be moved; use --penalty=none"
            )
        if self.accumulate > 1 and self.method in ("seqgan", "maligan", "scratchgan"):
            raise UserError(f"--accumulate={self.accumulate} is for --method=mle and relgan")


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config and its data."""
    (length,), size = spec.shapes["text"], _tokens(config, spec)
    gen, disc = _players(config, spec, size)
    about = tuple(name for name in ("label", "source", "source_length") if name in spec.shapes)
    axis, n = config.axis_name, config.accumulate
    adam, disc_tx = adversarial.optimizers(config)
    rate = (config.gen_adversarial_lr or config.gen_lr) / config.gen_lr
    gen_tx, slow_tx = (optax.chain(adam, optax.scale(share)) for share in (1.0, rate))
    writer = writers.writer(gen, *about, axis_name=axis)

    def zeros(num: int) -> dict[str, Any]:
        return {name: jnp.ones((num, *shape), jnp.int32) for name, shape in spec.shapes.items()}

    def init(key: Key) -> GANState:
        gen_key, disc_key = jax.random.split(key)
        batch = zeros(1)
        seen = {name: batch[name] for name in about}
        variables = gen.init(gen_key, batch["text"], **seen, train=False)
        judge = disc.init(disc_key, batch["text"], batch["length"], **seen, train=False)
        extra = {}
        if config.method == "seqgan":
            extra[text_steps.ROLLOUT] = text_steps.init_rollout(variables)
        return states.init_state(
            states.init_player(variables, gen_tx), states.init_player(judge, disc_tx), **extra
        )

    def whole(step: StepFn) -> StepFn:
        return steps.train_step(step, adversarial.average_step(config))

    mle = text_steps.mle_step(writer, gen_tx, accumulate=n, axis_name=axis)
    sampler = _written.Sampler(
        gen,
        length,
        label_counts=spec.label_counts if "label" in about else (),
        sources=functools.partial(_sources, config) if "source" in about else None,
    )
    shown: dict[str, Any] = {
        "sample": sampler,
        "show": functools.partial(_written.lines, spec=spec),
        "score": _written.score(config, gen, sampler, spec),
    }
    if config.method == "mle":
        return Experiment(init=init, step=whole(mle), **shown)
    game = Game(
        gen=writers.from_writer(writer),
        disc=writers.reader(disc, *about, axis_name=axis),
        loss=losses.ADVERSARIAL[config.loss],
        example="text",
        axis_name=axis,
    )
    if config.method == "relgan":
        disc_only, both = _relaxed(config, game, gen, about, size, slow_tx, disc_tx)
    else:
        disc_only = steps.disc_step(game, disc_tx)
        judge = writers.reader(disc, *about, train=False, axis_name=axis)
        policy = text_steps.policy_gradient_step(
            writer, judge, slow_tx, axis_name=axis, **_rewards(config)
        )
        both = steps.chain(policy, steps.repeat(disc_only, config.disc_repeats))
    if config.method == "seqgan":
        mle, disc_only = _followed(mle), _followed(disc_only)
    start, pretraining = config.pretrain_steps, []
    if start:
        pretraining.append((start, whole(mle)))
    if config.pretrain_disc:  # with --init_from, what G's copy in the roll-outs begins with
        pretraining.append((start + config.pretrain_disc, whole(disc_only)))
    return Experiment(init=init, step=whole(both), pretraining=tuple(pretraining), **shown)


def _tokens(config: Config, spec: Spec) -> int:
    """How many different words there are."""
    if spec.vocabulary:
        return len(spec.vocabulary)
    teacher, _ = _written.oracle(config.data_dir)
    return teacher.vocabulary  # pyright: ignore[reportAttributeAccessIssue]


def _players(config: Config, spec: Spec, size: int) -> tuple[nn.Module, nn.Module]:
    """The networks of a method."""
    answers = "source" in spec.shapes
    classes = spec.num_classes if "label" in spec.shapes else 0
    width, heads = config.hidden, 2 - config.hidden % 2
    made: dict[str, Any] = {
        "lstm": cells.LSTM(width),
        "gru": cells.GRU(width),
        "relational": relational.Memory(heads=heads, head_size=width // heads),
    }
    gen = rnn.Generator(
        vocabulary=size,
        cell=made[config.cell],
        embedding=config.embedding,
        num_classes=classes,
        encoder=cells.LSTM(config.hidden) if answers else None,
        end=vocabulary.END if spec.vocabulary else None,
        dropout=config.dropout,
    )
    shared: dict[str, Any] = {
        "num_classes": classes,
        "encoder": cells.LSTM(config.hidden) if answers else None,
    }
    if config.method == "relgan":
        shared["representations"] = config.representations
        return gen, text_disc.MultiRepresentation(size, **shared)
    if config.method == "scratchgan":
        return gen, text_disc.Recurrent(size, at_every_token=True, **shared)
    (length,) = spec.shapes["text"]
    filters = tuple(each for each in text_disc.SEQGAN_FILTERS if each[0] <= length)
    return gen, text_disc.Convolutional(size, filters=filters, **shared)


def _rewards(config: Config) -> dict[str, Any]:
    """What the methods of policy gradients differ in."""
    if config.method == "seqgan":
        return {"rollouts": config.rollouts, "rate": config.rollout_rate}
    if config.method == "maligan":
        return {
            "rollouts": 0,
            "reward": text_losses.likelihood_ratio,
            "advantage": text_losses.normalized_advantage,
        }
    return {
        "rollouts": 0,
        "reward": lambda logits: 2 * jax.nn.sigmoid(logits) - 1,
        "advantage": text_losses.leave_one_out_advantage,
        "discount": 0.23,
    }


def _relaxed(
    config: Config, game: Game, gen: nn.Module, about: tuple[str, ...], size: int, gen_tx, disc_tx
) -> tuple[StepFn, StepFn]:
    """RelGAN's steps: of D alone, and of both."""
    span = max(1, config.num_steps - config.pretrain_steps - config.pretrain_disc)
    beta = text_losses.exponential_schedule(config.sharpness, steps=span)
    start = config.pretrain_steps + config.pretrain_disc

    def scheduled(make) -> StepFn:
        def at(step) -> StepFn:
            now = writers.from_gumbel(
                gen,
                *about,
                inverse_temperature=beta(jnp.maximum(step - start, 0)),
                axis_name=config.axis_name,
            )
            return make(dataclasses.replace(game, gen=now))

        return steps.map_batch(writers.one_hot(size), steps.scheduled(at))

    disc_only = scheduled(lambda game: steps.disc_step(game, disc_tx))
    both = scheduled(
        lambda game: steps.chain(
            steps.gen_step(game, gen_tx, accumulate=config.accumulate),
            steps.repeat(steps.disc_step(game, disc_tx), config.disc_repeats),
        )
    )
    return disc_only, both


def _followed(step: StepFn) -> StepFn:
    """Has the network of the roll-outs be the generator's copy, until G goes on adversarially."""

    def followed(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        state, metrics = step(key, state, batch)
        copy = text_steps.init_rollout(state.gen.variables)
        return state.replace(extra={**state.extra, text_steps.ROLLOUT: copy}), metrics

    return followed


def _sources(config: Config) -> dict[str, np.ndarray]:
    """Held-out lines to be answered."""
    test = _written.load(config, "test")
    return {name: test.arrays[name] for name in ("source", "source_length")}


def source(config: Config) -> Any:
    """Opens the training text."""
    return _written.load(config, "train")


def run(config: Config) -> GANState | None:
    """Trains; returns the final state, or None after a dry run."""
    return driver.train(config, build=build, source=source)


if __name__ == "__main__":
    cli.main(Config, run)
