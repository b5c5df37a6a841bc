"""Steps that keep what they adapt in `state.extra`: ADA's probability, LeCam's anchors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgan.augment import ada
from jaxgan.losses import lecam
from jaxgan.state import GANState, StepFn
from jaxgan.steps.game import Round, Term
from jaxgan.types import Array, Augment, Batch, Key, Metrics

ADA, LECAM = "ada", "lecam"  # their places in `state.extra`


def with_ada(
    make: Callable[[Augment], StepFn],
    *,
    num_images: int,
    names: str = "blit,geometry,color",
    target: float = 0.6,
    ramp: float = 500_000,
) -> StepFn:
    """Augments what D sees with a probability that follows how much D overfits.

    See "Training Generative Adversarial Networks with Limited Data" by Karras et al.
    (https://arxiv.org/abs/2006.06676), section 3, and `augment.ada`. D's logits must have a sign
    that means something: relativistic losses, which see differences alone, give them none.

    Args:
      make: builds the step from the augmentation: `lambda augment: steps.disc_step(
        dataclasses.replace(game, augment=augment), tx)`; its metrics hold "disc/sign". Called
        inside the compiled program.
      num_images: real images a step, over all devices.
      names: of the stages, see `ada.pipeline`.
      target: the mean sign of real logits to keep.
      ramp: images in which the probability goes from 0 to 1.

    Returns:
      A step for a state with `ada.init_controller()` as `extra["ada"]`. Metrics gain
      "disc/augment", the probability that the next step augments with.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        controller = state.extra[ADA]
        state, metrics = make(ada.pipeline(names, p=controller["p"]))(key, state, batch)
        controller = ada.adapt(
            controller, metrics["disc/sign"], num_images=num_images, target=target, ramp=ramp
        )
        state = state.replace(extra={**state.extra, ADA: controller})
        return state, {**metrics, "disc/augment": controller["p"]}

    return step


def with_lecam(make: Callable[[Term], StepFn], *, weight: float, decay: float = 0.99) -> StepFn:
    """Holds D's logits near the moving average of the other kind's.

    See "Regularizing Generative Adversarial Networks under Limited Data" by Tseng et al.
    (https://arxiv.org/abs/2104.03310), and `losses.lecam`. It looks at the logits that the loss
    has, augmented where that sees augmented images: D runs no further time.

    Args:
      make: builds the step from the term: `lambda term: steps.disc_step(dataclasses.replace(game,
        disc_terms={"lecam": term}), tx)`. Called inside the compiled program.
      weight: of the term; the paper's is 0.3 on CIFAR, less on larger images.
      decay: of the moving averages, in [0, 1).

    Returns:
      A step for a state with `lecam.init_anchors()` as `extra["lecam"]`.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        anchors = state.extra[LECAM]

        def term(seen: Round) -> Array:
            pairs = zip(
                *(jax.tree.leaves(out["logits"]) for out in (seen.real_out, seen.fake_out)),
                strict=True,
            )
            values = [lecam.penalty(real, fake, anchors).mean() for real, fake in pairs]
            return weight * jnp.stack(values).sum()

        state, metrics = make(term)(key, state, batch)
        anchors = lecam.update_anchors(
            anchors, metrics["disc/real"], metrics["disc/fake"], decay=decay
        )
        return state.replace(extra={**state.extra, LECAM: anchors}), metrics

    return step
