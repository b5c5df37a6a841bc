"""Changes to a game that leave its steps as they are: other losses, penalties and inputs of D.

Each takes a part of a game (a loss, a penalty) or makes one (an augmentation), so that all of them
go into every step. Numbers may be traced: inside `steps.scheduled` they may follow a schedule.
"""

import jax
import jax.numpy as jnp

from jaxgan import penalties
from jaxgan.losses import AdversarialLoss
from jaxgan.steps import combine
from jaxgan.types import Array, Augment, Critic, Key, Penalty


def top_k(loss: AdversarialLoss, share: float | Array) -> AdversarialLoss:
    """Lets the generator learn from its best fakes only, by the discriminator's logits.

    See "Top-k Training of GANs: Improving GAN Performance by Throwing Away Bad Samples" by Sinha
    et al. (https://arxiv.org/abs/2002.06224), which lowers the share from 1 to .5 or .75 by .99
    each epoch (`schedules.geometric`).

    Args:
      loss: the pair of losses.
      share: of the fakes that count, in (0, 1]; k = ceil(share * B).

    Returns:
      The pair, the generator's loss scaled so that its mean over B is the mean over the k.
    """

    def gen(real_logits: Array, fake_logits: Array) -> Array:
        num = fake_logits.shape[0]
        k = jnp.ceil(share * num)
        score = jax.lax.stop_gradient(fake_logits).reshape(num, -1).mean(1)
        rank = jnp.argsort(jnp.argsort(-score))  # [B], 0 for the best
        weight = (rank < k) * num / k
        return loss.gen(real_logits, fake_logits) * weight.reshape(
            (-1,) + (1,) * (fake_logits.ndim - 1)
        )

    return AdversarialLoss(loss.disc, gen)


def label_smoothing(loss: AdversarialLoss, share: float | Array) -> AdversarialLoss:
    """Smooths the discriminator's labels on both sides: real is `1 - share`, fake is `share`.

      (1 - share) L_D(D(x), D(G(z))) + share L_D(D(G(z)), D(x))

    For the cross-entropy losses this is the cross-entropy with those labels; for every loss, the
    expectation over labels that are swapped with that probability.

    Args:
      loss: the pair of losses.
      share: in [0, 0.5).

    Returns:
      The pair, the generator's loss as it was.
    """

    def disc(real_logits: Array, fake_logits: Array) -> Array:
        straight = loss.disc(real_logits, fake_logits)
        return (1.0 - share) * straight + share * loss.disc(fake_logits, real_logits)

    return AdversarialLoss(disc, loss.gen)


def one_sided_smoothing(loss: AdversarialLoss, *, target: float | Array = 0.9) -> AdversarialLoss:
    """Smooths the label of real examples alone, under the cross-entropy of the discriminator.

    See "Improved Techniques for Training GANs" by Salimans et al.
    (https://arxiv.org/abs/1606.03498), section 3.4:

      target softplus(-D(x)) + (1 - target) softplus(D(x)) + softplus(D(G(z)))

    Args:
      loss: whose generator's loss is kept.
      target: the label of real examples, in (0.5, 1].

    Returns:
      The pair.
    """

    def disc(real_logits: Array, fake_logits: Array) -> Array:
        real = target * jax.nn.softplus(-real_logits) + (1.0 - target) * jax.nn.softplus(
            real_logits
        )
        return real + jax.nn.softplus(fake_logits)

    return AdversarialLoss(disc, loss.gen)


def instance_noise(std: float | Array) -> Augment:
    """Adds noise to what the discriminator sees, real and fake alike, in both players' steps.

    See "Amortised MAP Inference for Image Super-resolution" by Sonderby et al.
    (https://arxiv.org/abs/1610.04490), section 3.3.

    Args:
      std: standard deviation, in units of the examples; usually lowered to 0.

    Returns:
      An augmentation, for `augment=`.
    """

    def augment(key: Key, x: Array) -> Array:
        return x + (std * jax.random.normal(key, x.shape)).astype(x.dtype)

    return augment


def lazy(penalty: Penalty, interval: int, step: Array) -> Penalty:
    """Computes a penalty at multiples of an interval only, and that many times as strong.

    See "Analyzing and Improving the Image Quality of StyleGAN" by Karras et al.
    (https://arxiv.org/abs/1912.04958), appendix B. Relativistic losses with R1 and R2 fail on
    mixtures and StackedMNIST under this ("The GAN is dead; long live the GAN!", appendix).

    Args:
      penalty: `(key, critic, real, fake) -> [B]`.
      interval: steps, at least 1.
      step: [] steps taken, as `steps.scheduled` hands it over; one for all seeds in `ensemble`, so
        that the work is saved there too.

    Returns:
      The penalty, 0 in between. On CPU it saves no time inside a program, see `combine.when`;
      there `run.driver` lets steps with and without it take turns.
    """

    def rarely(key: Key, critic: Critic, real: Array, fake: Array) -> Array:
        def due() -> Array:
            return interval * penalty(key, critic, real, fake)

        skipped = jax.eval_shape(due)
        return combine.when(
            step % interval == 0, due, lambda: jnp.zeros(skipped.shape, skipped.dtype)
        )

    return rarely


def named_penalty(
    name: str, weight: float | Array, *, interval: int = 1, step: Array | None = None
) -> Penalty | None:
    """Makes the penalty that an experiment's flags name.

    Args:
      name: a key of `penalties.PENALTIES`, or "none".
      weight: its coefficient, which may follow a schedule.
      interval: steps between penalties, see `lazy`.
      step: [] steps taken, where the interval is more than 1.

    Returns:
      The penalty `(key, critic, real, fake) -> [B]`; None for "none".
    """
    if name == "none":
        return None
    penalty = penalties.weighted(penalties.PENALTIES[name], weight)
    return penalty if step is None or interval == 1 else lazy(penalty, interval, step)
