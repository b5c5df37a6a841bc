"""The two players' steps.

Every builder takes modules with the signatures

    gen(z [B, Z], label [B] | None, *, train: bool) -> images [B, H, W, C]
    disc(x [B, H, W, C], label [B] | None, *, train: bool) -> logits [B] or [B, h, w]

and reads `batch["image"]`, and `batch["label"]` where the step is conditional. Under `pmap` or
`shard_map`, give the mapped axis as `axis_name`: latents are then each device's share of the global
draw, and losses see the logits of the global batch, so that N devices train as one does.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgan import ema, latents
from jaxgan import state as states
from jaxgan.losses import AdversarialLoss
from jaxgan.state import GANState, Player, StepFn
from jaxgan.types import Array, Augment, Batch, Critic, Key, Metrics, Penalty, PyTree

Prior = Callable[[Key, int, int], Array]  # key, num, dim -> [num, dim]


def disc_step(
    gen: nn.Module,
    disc: nn.Module,
    tx: optax.GradientTransformation,
    loss: AdversarialLoss,
    *,
    latent_dim: int,
    prior: Prior = latents.normal,
    penalty: Penalty | None = None,
    augment: Augment | None = None,
    conditional: bool = False,
    axis_name: str | None = None,
) -> StepFn:
    """Updates the discriminator once, on the batch and on fresh fakes.

    Args:
      gen: the generator.
      disc: the discriminator.
      tx: the discriminator's Optax transformation.
      loss: the pair of losses.
      latent_dim: size of one latent.
      prior: `(key, num, dim) -> [num, dim]`, where latents come from.
      penalty: `(key, critic, real, fake) -> [B]`, weighted, added to the loss; its gradients are
        taken with respect to the images before augmentation.
      augment: `(key, images) -> images`, applied to real and fake alike before the discriminator.
      conditional: whether the players see `batch["label"]`.
      axis_name: the mapped axis, if any.

    Returns:
      A step with the metrics "disc/loss", "disc/real", "disc/fake" (mean logits), "disc/accuracy"
      (share of logits on the right side of the middle between those two means), with a penalty
      "disc/penalty", and with an augmentation "disc/sign" (mean sign of the real logits, for
      `augment.ada.adapt`). The generator is left as it is, its statistics too.
    """
    game = Game(gen, disc, loss, latent_dim, prior, penalty, augment, conditional, axis_name)

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        z_key, loss_key = jax.random.split(key)
        fake, _ = game.generate(z_key, state.gen.params, state.gen.stats, batch)
        player, metrics = game.update_disc(loss_key, state.disc, tx, batch, fake)
        return state.replace(disc=player), metrics

    return step


def gen_step(
    gen: nn.Module,
    disc: nn.Module,
    tx: optax.GradientTransformation,
    loss: AdversarialLoss,
    *,
    latent_dim: int,
    prior: Prior = latents.normal,
    augment: Augment | None = None,
    conditional: bool = False,
    axis_name: str | None = None,
) -> StepFn:
    """Updates the generator once, on fresh fakes.

    Args:
      gen: the generator.
      disc: the discriminator.
      tx: the generator's Optax transformation.
      loss: the pair of losses.
      latent_dim: size of one latent.
      prior: `(key, num, dim) -> [num, dim]`, where latents come from.
      augment: `(key, images) -> images`, the discriminator's.
      conditional: whether the players see `batch["label"]`.
      axis_name: the mapped axis, if any.

    Returns:
      A step with the metrics "gen/loss", "gen/gradient" (norm over all parameters) and
      "gen/diversity" (see `diversity`). The discriminator is left as it is, its statistics too.
    """
    game = Game(gen, disc, loss, latent_dim, prior, None, augment, conditional, axis_name)

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        z_key, loss_key = jax.random.split(key)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            fake, stats = game.generate(z_key, params, state.gen.stats, batch)
            value = game.gen_loss(loss_key, state.disc, batch, fake)
            spread = diversity(fake, batch, axis_name=axis_name)
            return value, (stats, {"gen/loss": value, "gen/diversity": spread})

        grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(state.gen.params)
        grads, metrics = states.mean_over((grads, metrics), axis_name)
        player = states.apply_gradients(state.gen, tx, grads, stats)
        return state.replace(gen=player), {**metrics, "gen/gradient": optax.tree.norm(grads)}

    return step


def simultaneous_step(
    gen: nn.Module,
    disc: nn.Module,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    loss: AdversarialLoss,
    *,
    latent_dim: int,
    prior: Prior = latents.normal,
    penalty: Penalty | None = None,
    augment: Augment | None = None,
    conditional: bool = False,
    axis_name: str | None = None,
) -> StepFn:
    """Updates both players at once, each against the old other, from one forward pass of G.

    Args:
      gen: the generator.
      disc: the discriminator.
      gen_tx: the generator's Optax transformation.
      disc_tx: the discriminator's.
      loss: the pair of losses.
      latent_dim: size of one latent.
      prior: `(key, num, dim) -> [num, dim]`, where latents come from.
      penalty: as in `disc_step`.
      augment: as in `disc_step`; both players see the same augmented fakes.
      conditional: whether the players see `batch["label"]`.
      axis_name: the mapped axis, if any.

    Returns:
      A step with the metrics of `disc_step` and `gen_step`.
    """
    game = Game(gen, disc, loss, latent_dim, prior, penalty, augment, conditional, axis_name)
    return _shared_fakes(game, gen_tx, disc_tx, alternate=False)


def alternating_step(
    gen: nn.Module,
    disc: nn.Module,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    loss: AdversarialLoss,
    *,
    latent_dim: int,
    prior: Prior = latents.normal,
    penalty: Penalty | None = None,
    augment: Augment | None = None,
    conditional: bool = False,
    axis_name: str | None = None,
) -> StepFn:
    """Updates the discriminator, then the generator against the new one, on the same fakes.

    `chain(disc_step(...), gen_step(...))` alternates with fresh latents for each player; this
    costs one forward pass of the generator less.

    Args:
      gen: the generator.
      disc: the discriminator.
      gen_tx: the generator's Optax transformation.
      disc_tx: the discriminator's.
      loss: the pair of losses.
      latent_dim: size of one latent.
      prior: `(key, num, dim) -> [num, dim]`, where latents come from.
      penalty: as in `disc_step`.
      augment: as in `disc_step`.
      conditional: whether the players see `batch["label"]`.
      axis_name: the mapped axis, if any.

    Returns:
      A step with the metrics of `disc_step` and `gen_step`.
    """
    game = Game(gen, disc, loss, latent_dim, prior, penalty, augment, conditional, axis_name)
    return _shared_fakes(game, gen_tx, disc_tx, alternate=True)


def ema_step(decay: float | Callable[[Array], Array], *, warm_up: bool = False) -> StepFn:
    """Moves `state.gen_ema` towards the generator's variables, statistics included.

    Args:
      decay: weight of the old average, in [0, 1), or a schedule of it, `step [] -> decay []`; see
        `ema.decay_from_half_life` and `steps.schedules.half_life`.
      warm_up: lowers the decay early in training (`ema.warmed_up`).

    Returns:
      A step without metrics.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        del key, batch
        now = decay(state.step) if callable(decay) else decay
        if warm_up:
            now = ema.warmed_up(now, state.step)  # pyright: ignore[reportArgumentType]
        return state.replace(gen_ema=ema.update(state.gen_ema, state.gen.variables, now)), {}

    return step


def diversity(fake: Array, batch: Batch, *, axis_name: str | None = None) -> Array:
    """How much fakes differ from each other, in terms of how much real examples do.

    Args:
      fake: [B, ...].
      batch: with real examples "image" [B, ...].
      axis_name: the mapped axis, if any; fakes of all devices count as one batch.

    Returns:
      [] mean over pixels of the standard deviation over the batch, as a share of that of the real
      examples: 0 where all fakes are one, about 1 where they are as varied.
    """

    def spread(x: Array) -> Array:
        x = x.astype(jnp.float32)
        mean = states.mean_over(x.mean(0, keepdims=True), axis_name)
        return jnp.sqrt(states.mean_over(jnp.square(x - mean).mean(0), axis_name)).mean()

    return spread(fake) / jnp.maximum(spread(batch["image"]), 1e-12)


@dataclasses.dataclass(frozen=True)
class Game:
    """What the steps share: how fakes, logits and the two losses are computed.

    A step of one's own starts from here, as `updates.unrolled_gen_step` does; the attributes are
    the arguments of `disc_step`.
    """

    gen: nn.Module
    disc: nn.Module
    loss: AdversarialLoss
    latent_dim: int
    prior: Prior
    penalty: Penalty | None
    augment: Augment | None
    conditional: bool
    axis_name: str | None

    def generate(
        self, key: Key, params: PyTree, stats: PyTree, batch: Batch
    ) -> tuple[Array, PyTree]:
        """Returns one fake for each example of the batch, and the generator's new statistics."""
        z_key, net_key = jax.random.split(key)
        z = self._share_of_latents(z_key, batch["image"].shape[0])
        return self.gen.apply(
            {"params": params, **stats},
            z,
            self._label(batch),
            train=True,
            mutable=list(stats),
            rngs=self._own(net_key),
        )

    def update_disc(
        self,
        key: Key,
        player: Player,
        tx: optax.GradientTransformation,
        batch: Batch,
        fake: Array,
    ) -> tuple[Player, Metrics]:
        """Returns the discriminator after one update, and its metrics."""
        real, label = batch["image"], self._label(batch)
        penalty_key, real_key, fake_key = jax.random.split(key, 3)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            real_logits, stats = self._logits(real_key, params, player.stats, real, label)
            fake_logits, stats = self._logits(fake_key, params, stats, fake, label)
            loss = self.loss.disc(self._gather(real_logits), self._gather(fake_logits)).mean()
            metrics = {
                "disc/loss": loss,
                "disc/real": real_logits.mean(),
                "disc/fake": fake_logits.mean(),
                "disc/accuracy": self._accuracy(real_logits, fake_logits),
            }
            if self.augment is not None:
                metrics["disc/sign"] = jnp.sign(real_logits).mean()
            if self.penalty is not None:
                critic = self._critic(penalty_key, params, player.stats, label)
                penalty = self.penalty(self._own(penalty_key), critic, real, fake).mean()
                loss = loss + penalty
                metrics["disc/penalty"] = penalty
            return loss, (stats, metrics)

        return states.update(player, tx, loss_fn, axis_name=self.axis_name)

    def gen_loss(self, key: Key, disc: Player, batch: Batch, fake: Array) -> Array:
        """[] the generator's loss; the discriminator's new statistics are dropped."""
        real, label = batch["image"], self._label(batch)
        _, real_key, fake_key = jax.random.split(key, 3)
        real_logits, stats = self._logits(real_key, disc.params, disc.stats, real, label)
        fake_logits, _ = self._logits(fake_key, disc.params, stats, fake, label)
        return self.loss.gen(self._gather(real_logits), self._gather(fake_logits)).mean()

    def _logits(
        self, key: Key, params: PyTree, stats: PyTree, x: Array, label: Array | None
    ) -> tuple[Array, PyTree]:
        """Float32 logits of (augmented) images, and the discriminator's new statistics."""
        augment_key, net_key = jax.random.split(self._own(key))
        if self.augment is not None:
            x = self.augment(augment_key, x)
        logits, stats = self.disc.apply(
            {"params": params, **stats}, x, label, train=True, mutable=list(stats), rngs=net_key
        )
        return logits.astype("float32"), stats

    def _critic(self, key: Key, params: PyTree, stats: PyTree, label: Array | None) -> Critic:
        """The discriminator as a function of images alone, for penalties."""
        return lambda x: self._logits(key, params, stats, x, label)[0]

    def _accuracy(self, real_logits: Array, fake_logits: Array) -> Array:
        """[] share of logits on the right side of the middle between the two means.

        Not of 0, which under relativistic losses is as good as any other number.
        """
        middle = 0.5 * (real_logits.mean() + fake_logits.mean())
        middle = states.mean_over(middle, self.axis_name)
        return 0.5 * ((real_logits > middle).mean() + (fake_logits <= middle).mean())

    def _label(self, batch: Batch) -> Array | None:
        return batch["label"] if self.conditional else None

    def _own(self, key: Key) -> Key:
        """This device's key, where every device draws for itself."""
        if self.axis_name is None:
            return key
        return jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))

    def _share_of_latents(self, key: Key, num: int) -> Array:
        """[num, latent_dim]: this device's rows of the latents that one device would draw."""
        if self.axis_name is None:
            return self.prior(key, num, self.latent_dim)
        z = self.prior(key, num * jax.lax.axis_size(self.axis_name), self.latent_dim)
        first = num * jax.lax.axis_index(self.axis_name)
        return jax.lax.dynamic_slice_in_dim(z, first, num)

    def _gather(self, logits: Array) -> Array:
        """Logits of the global batch: a loss may compare examples, as the relativistic mean does.

        Every device then computes the global loss, and the transpose of the gathering sums what
        the N devices send back, so that the mean of the gradients over devices is the true one.
        """
        if self.axis_name is None:
            return logits
        return jax.lax.all_gather(logits, self.axis_name, tiled=True)


def _shared_fakes(
    game: Game,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    alternate: bool,
) -> StepFn:
    """Both updates from one forward pass of the generator."""

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        z_key, loss_key = jax.random.split(key)
        fake, pull_back, gen_stats = jax.vjp(
            lambda params: game.generate(z_key, params, state.gen.stats, batch),
            state.gen.params,
            has_aux=True,
        )
        disc, metrics = game.update_disc(loss_key, state.disc, disc_tx, batch, fake)
        opponent = disc if alternate else state.disc
        gen_loss, fake_grads = jax.value_and_grad(
            lambda x: game.gen_loss(loss_key, opponent, batch, x)
        )(fake)
        (grads,) = pull_back(fake_grads)
        spread = diversity(fake, batch, axis_name=game.axis_name)
        seen = {"gen/loss": gen_loss, "gen/diversity": spread}
        grads, seen = states.mean_over((grads, seen), game.axis_name)
        seen["gen/gradient"] = optax.tree.norm(grads)
        gen = states.apply_gradients(state.gen, gen_tx, grads, gen_stats)
        return state.replace(gen=gen, disc=disc), {**metrics, **seen}

    return step
