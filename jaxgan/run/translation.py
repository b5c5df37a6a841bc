"""Experiments whose generator makes an image of an image: by examples, adversarially, or both."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan import collectives, losses, steps
from jaxgan import state as states
from jaxgan.run import adversarial, cli
from jaxgan.run.adversarial import AdversarialConfig
from jaxgan.run.experiment import Experiment
from jaxgan.state import GANState, StepFn
from jaxgan.steps import adaptors
from jaxgan.steps.game import Game, Term
from jaxgan.types import Batch, Key, Metrics, UserError

Prepare = Callable[[Key, Batch], Batch]  # the batch as it is read -> with the entry "source"


@dataclasses.dataclass(frozen=True)
class TranslationConfig(AdversarialConfig):
    """The flags of training a generator of images from images."""

    adv_weight: float = cli.field(
        0.0,
        "Weight of the adversarial loss beside the content's; 0 trains without a discriminator.",
        minimum=0,
    )
    pretrain_steps: int = cli.field(
        0, "Steps at the start that G trains on the content alone, without D.", minimum=0
    )

    def __post_init__(self):
        """Checks every field, and that what is asked for takes part."""
        super().__post_init__()
        if self.pretrain_steps and not self.adv_weight:
            raise UserError(
                f"--pretrain_steps={self.pretrain_steps} come before adversarial ones, of which "
                "there are none with --adv_weight=0; give a weight such as 0.01"
            )


def translation_experiment(
    config: TranslationConfig,
    gen: nn.Module,
    disc: nn.Module,
    *,
    shape: Sequence[int],
    source_shape: Sequence[int],
    content: Mapping[str, Term],
    disc_content: Mapping[str, Term] | None = None,
    sees_source: bool = False,
    prepare: Prepare | None = None,
    wrap: Callable[[StepFn], StepFn] = lambda step: step,
    **rest: Any,
) -> Experiment:
    """Makes the experiment of a generator that makes the entry "image" of the entry "source".

    Args:
      config: the flags of its training.
      gen: `gen(source, *, train)`.
      disc: `disc(image, source where it sees it, *, train)`.
      shape: of one image.
      source_shape: of one source, as the generator sees it.
      content: terms of G's loss by name that compare what it made with the truth; see `Game`.
      disc_content: further terms for the adversarial part, which look at D's activations.
      sees_source: whether D sees beside an image what it was made from.
      prepare: makes the entries that are trained on from those of the data, such as the source.
      wrap: makes of the step on what the data hold the one that is trained with.
      **rest: further fields of `Experiment`.

    Returns:
      The experiment: of G alone where `adv_weight` is 0, or for the first `pretrain_steps`.
    """
    gen_tx, disc_tx = adversarial.optimizers(config)
    entries = ("image", "source") if sees_source else ("image",)
    axis = config.axis_name
    game = Game(
        gen=adaptors.from_entry(gen, "source", "image", axis_name=axis),
        disc=adaptors.judged(disc, *entries, axis_name=axis),
        loss=losses.weighted(losses.ADVERSARIAL[config.loss], config.adv_weight),
        gen_terms={**content, **(disc_content or {})},
        axis_name=axis,
    )

    def init(key: Key) -> GANState:
        gen_key, disc_key = jax.random.split(key)
        image, source = (jnp.zeros((1, *size)) for size in (shape, source_shape))
        seen = (image, source) if sees_source else (image,)
        return states.init_state(
            states.init_player(gen.init(gen_key, source, train=False), gen_tx),
            states.init_player(disc.init(disc_key, *seen, train=False), disc_tx),
        )

    def whole(step: StepFn) -> StepFn:
        return wrap(prepared(step, prepare, axis_name=axis) if prepare else step)

    alone = dataclasses.replace(game, gen_terms=content)
    supervised = steps.train_step(
        whole(steps.supervised_step(alone, gen_tx, accumulate=config.accumulate)),
        adversarial.average_step(config),
    )
    if not config.adv_weight:
        return Experiment(init=init, step=supervised, **rest)
    return Experiment(
        init=init,
        step=adversarial.train_step(config, game, gen_tx, disc_tx, wrap=whole),
        pretraining=((config.pretrain_steps, supervised),),
        **rest,
    )


def prepared(step: StepFn, prepare: Prepare, *, axis_name: str | None = None) -> StepFn:
    """Gives a step what is made of its batch at random, anew at every step.

    Args:
      step: the step.
      prepare: `(key, batch) -> batch`.
      axis_name: the mapped axis, if any; each device then draws for itself.

    Returns:
      A step.
    """

    def drawn(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        prepare_key, step_key = jax.random.split(key)
        own_key = collectives.own_key(prepare_key, axis_name)
        return step(step_key, state, prepare(own_key, batch))

    return drawn
