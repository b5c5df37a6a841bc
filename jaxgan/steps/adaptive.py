"""Steps that keep what they adapt in `state.extra`: ADA's probability, LeCam's anchors."""

from collections.abc import Callable

from jaxgan import penalties
from jaxgan.augment import ada
from jaxgan.state import GANState, StepFn
from jaxgan.types import Array, Augment, Batch, Critic, Key, Metrics, Penalty

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
      make: builds the step from the augmentation: `lambda augment: steps.alternating_step(...,
        augment=augment)`; its metrics hold "disc/sign". Called inside the compiled program.
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


def with_lecam(make: Callable[[Penalty], StepFn], *, weight: float, decay: float = 0.99) -> StepFn:
    """Holds D's logits near the moving average of the other kind's.

    See "Regularizing Generative Adversarial Networks under Limited Data" by Tseng et al.
    (https://arxiv.org/abs/2104.03310), and `penalties.lecam`.

    Args:
      make: builds the step from the penalty: `lambda penalty: steps.alternating_step(...,
        penalty=penalty)`. Called inside the compiled program.
      weight: of the penalty; the paper's is 0.3 on CIFAR, less on larger images.
      decay: of the moving averages, in [0, 1).

    Returns:
      A step for a state with `penalties.init_anchors()` as `extra["lecam"]`.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        anchors = state.extra[LECAM]

        def penalty(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
            del key
            return weight * penalties.lecam(critic(real), critic(fake), anchors)

        state, metrics = make(penalty)(key, state, batch)
        anchors = penalties.update_anchors(
            anchors, metrics["disc/real"], metrics["disc/fake"], decay=decay
        )
        return state.replace(extra={**state.extra, LECAM: anchors}), metrics

    return step
