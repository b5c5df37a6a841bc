"""Ways for the players to move that look ahead of the plain gradient step.

The others compose from what is there: n critic steps are `repeat` or `over_shares`, gradient
accumulation `over_shares` with `optax.MultiSteps`, optimistic gradients are transformations of
Optax (`optax.optimistic_adam_v2`, `optax.optimistic_gradient_descent`), two time scales two rates.
"""

import jax
import optax
from flax import linen as nn

from jaxgan import latents
from jaxgan import state as states
from jaxgan.losses import AdversarialLoss
from jaxgan.state import GANState, Player, StepFn
from jaxgan.steps import adversarial
from jaxgan.types import Array, Augment, Batch, Key, Metrics, Penalty, PyTree


def extragradient(step: StepFn) -> StepFn:
    """Moves both players along the gradients found one step ahead, from where they are now.

    See "A Variational Inequality Perspective on Generative Adversarial Networks" by Gidel et al.
    (https://arxiv.org/abs/1802.10551), algorithms 2 (SGD) and 4 (ExtraAdam: the moments see both
    gradients), with w both players' parameters and F their gradients:

      w' = w_t - eta F(w_t);    w_{t+1} = w_t - eta F(w')

    Args:
      step: moves both players at once (`simultaneous_step`); any Optax transformation.

    Returns:
      A step at twice the cost. Statistics and metrics are those of the second half.
    """

    def stepped(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        first_key, second_key = jax.random.split(key)
        ahead, _ = step(first_key, state, batch)
        after, metrics = step(second_key, ahead, batch)
        return after.replace(
            gen=_moved(state.gen, ahead.gen, after.gen),
            disc=_moved(state.disc, ahead.disc, after.disc),
        ), metrics

    return stepped


def unrolled_gen_step(
    gen: nn.Module,
    disc: nn.Module,
    tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    loss: AdversarialLoss,
    *,
    unroll: int,
    latent_dim: int,
    prior: adversarial.Prior = latents.normal,
    penalty: Penalty | None = None,
    augment: Augment | None = None,
    conditional: bool = False,
    axis_name: str | None = None,
) -> StepFn:
    """Updates the generator against the discriminator as it will be k updates from now.

    See "Unrolled Generative Adversarial Networks" by Metz et al.
    (https://arxiv.org/abs/1611.02163), equations 7 to 10. The gradient flows through the k updates,
    all on this batch and these fakes; the discriminator itself stays where it is.

    Args:
      gen: the generator.
      disc: the discriminator.
      tx: the generator's Optax transformation.
      disc_tx: the discriminator's, with its state as it is now. It is differentiated: Adam needs
        `eps_root` above 0, or a parameter that never had a gradient makes the generator's NaN.
      loss: the pair of losses.
      unroll: k, the updates looked ahead; 0 for `gen_step`.
      latent_dim: size of one latent.
      prior: `(key, num, dim) -> [num, dim]`, where latents come from.
      penalty: the discriminator's, in the updates looked ahead.
      augment: `(key, images) -> images`, the discriminator's.
      conditional: whether the players see `batch["label"]`.
      axis_name: the mapped axis, if any.

    Returns:
      A step with the metric "gen/loss".
    """
    game = adversarial.Game(
        gen, disc, loss, latent_dim, prior, penalty, augment, conditional, axis_name
    )

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        z_key, *keys = jax.random.split(key, unroll + 2)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            fake, stats = game.generate(z_key, params, state.gen.stats, batch)
            opponent = state.disc
            for ahead_key in keys[1:]:
                opponent, _ = game.update_disc(ahead_key, opponent, disc_tx, batch, fake)
            value = game.gen_loss(keys[0], opponent, batch, fake)
            return value, (stats, {"gen/loss": value})

        player, metrics = states.update(state.gen, tx, loss_fn, axis_name=axis_name)
        return state.replace(gen=player), metrics

    return step


def _moved(now: Player, ahead: Player, after: Player) -> Player:
    """The last player, its parameters moved from `now` by what `ahead` was moved by."""
    params = jax.tree.map(lambda w, a, b: w + (b - a), now.params, ahead.params, after.params)
    return after.replace(params=params)
