"""What is played, as data: a `Game` holds the players, their losses and terms, and the penalty.

A player is any function

    gen(key, variables, batch)  -> (entries made, new statistics)
    disc(key, variables, batch) -> (outputs with "logits", new statistics)

where `variables` are {"params": ..., **statistics}. `adaptors` make such functions of Flax modules;
networks of Flax NNX, Haiku or Equinox are called from a function of one's own. What G makes takes
the place of the batch's entries of those names; what it does not make, D sees as it is (labels, the
source of a translation). Logits are one array, or a pytree where D judges several things: the loss
is then the sum of their means.

Over several devices (`pmap`, with its axis as `axis_name`), the key handed to `gen` and to `disc`
is the same on all: `collectives.own_key` makes it the device's own, for dropout and noise;
`collectives.share` draws the device's rows of the global latents, as `from_latents` does. The
adversarial loss sees the logits of the global batch; a term sees this device's share, and its mean
is averaged over devices with the gradients.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import collectives
from jaxgan.losses import AdversarialLoss
from jaxgan.state import Player
from jaxgan.types import Array, Augment, Batch, Critic, Key, Metrics, Outputs, Penalty, PyTree

GenFn = Callable[[Key, PyTree, Batch], tuple[Batch, PyTree]]
DiscFn = Callable[[Key, PyTree, Batch], tuple[Outputs, PyTree]]

# Metrics of the steps' own, which a term cannot be named after.
RESERVED = {
    "gen": ("loss", "gradient", "diversity", "class_diversity", "finite"),
    "disc": ("loss", "real", "fake", "accuracy", "sign", "penalty", "augment", "finite"),
}
_CRITIC = 0x63726974  # parts the critic's key from the penalty's; larger than any device's number


class Round(NamedTuple):
    """What a term may look at.

    Attributes:
      batch: the real entries.
      fake: the same, those that G made in their place.
      real_out: what D says of `batch`: {"logits": ..., and its other heads}.
      fake_out: what D says of `fake`.
    """

    batch: Batch
    fake: Batch
    real_out: Outputs
    fake_out: Outputs


Term = Callable[[Round], Array]  # unreduced, its weight inside


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """What two players play.

    Attributes:
      gen: `(key, variables, batch) -> (entries made, new statistics)`.
      disc: `(key, variables, batch) -> (outputs, new statistics)`; the outputs hold "logits".
      loss: the pair of adversarial losses.
      gen_terms: further terms of G's loss by name, `Round -> unreduced`, weights inside. Each is a
        metric, "gen/NAME".
      disc_terms: those of D's loss, "disc/NAME".
      penalty: `(key, critic, real, fake) -> [B]`, weighted, added to D's loss; its gradients are
        taken with respect to the entry `example` before augmentation.
      augment: `(key, x) -> x`, applied to the entry `example`, real and fake alike, before D.
      example: the entry that penalty, augmentation and diversity are about.
      classes: the entry of the labels that G makes its examples for, where the diversity within
        each is to be measured; empty where not.
      axis_name: the mapped axis, if any.
    """

    gen: GenFn
    disc: DiscFn
    loss: AdversarialLoss
    gen_terms: Mapping[str, Term] = dataclasses.field(default_factory=dict)
    disc_terms: Mapping[str, Term] = dataclasses.field(default_factory=dict)
    penalty: Penalty | None = None
    augment: Augment | None = None
    example: str = "image"
    classes: str = ""
    axis_name: str | None = None

    def __post_init__(self):
        """Checks the names of the terms."""
        for player, terms in (("gen", self.gen_terms), ("disc", self.disc_terms)):
            for name in terms:
                if name in RESERVED[player]:
                    raise ValueError(
                        f'a term of {player} cannot be named "{name}": the metric '
                        f'"{player}/{name}" is taken; choose another name'
                    )

    def disc_loss(
        self, key: Key, params: PyTree, player: Player, batch: Batch, made: Batch
    ) -> tuple[Array, tuple[PyTree, Metrics]]:
        """The discriminator's loss.

        Args:
          key: the same on every device.
          params: the discriminator's parameters, to differentiate in.
          player: the discriminator, for its statistics.
          batch: the real entries.
          made: the entries that the generator made.

        Returns:
          The loss [], and D's new statistics with its metrics.
        """
        penalty_key, real_key, fake_key = jax.random.split(key, 3)
        seen, stats = self._round((real_key, fake_key), params, player.stats, batch, made)
        real_logits, fake_logits = seen.real_out["logits"], seen.fake_out["logits"]
        loss = self._adversarial(self.loss.disc, real_logits, fake_logits)
        terms = {f"disc/{name}": term(seen).mean() for name, term in self.disc_terms.items()}
        if self.penalty is not None:
            critic_key = jax.random.fold_in(penalty_key, _CRITIC)
            critic = self._critic(critic_key, params, player.stats, batch)
            own_key = collectives.own_key(penalty_key, self.axis_name)
            examples = batch[self.example], seen.fake[self.example]
            terms["disc/penalty"] = self.penalty(own_key, critic, *examples).mean()
        metrics = {
            "disc/loss": loss,
            "disc/real": _mean(jnp.mean, real_logits),
            "disc/fake": _mean(jnp.mean, fake_logits),
            "disc/accuracy": _mean(self._accuracy, real_logits, fake_logits),
            **terms,
        }
        if self.augment is not None:
            metrics["disc/sign"] = _mean(lambda logits: jnp.sign(logits).mean(), real_logits)
        return sum(terms.values(), start=loss), (stats, metrics)

    def gen_loss(self, key: Key, disc: Player, batch: Batch, made: Batch) -> tuple[Array, Metrics]:
        """The generator's loss against a discriminator, whose new statistics are dropped.

        Args:
          key: the same on every device; the one of `disc_loss` for the same augmented fakes.
          disc: the discriminator.
          batch: the real entries.
          made: the entries that the generator made.

        Returns:
          The loss [], and G's metrics.
        """
        _, real_key, fake_key = jax.random.split(key, 3)
        seen, _ = self._round((real_key, fake_key), disc.params, disc.stats, batch, made)
        loss = self._adversarial(self.loss.gen, seen.real_out["logits"], seen.fake_out["logits"])
        terms = {f"gen/{name}": term(seen).mean() for name, term in self.gen_terms.items()}
        return sum(terms.values(), start=loss), {"gen/loss": loss, **terms}

    def spread(self, batch: Batch, made: Batch) -> Metrics:
        """How varied the examples are that G made.

        Args:
          batch: the real entries.
          made: the entries that the generator made.

        Returns:
          "gen/diversity", and with `classes` "gen/class_diversity"; nothing where G makes something
          else than the game's example.
        """
        if self.example not in made or self.example not in batch:
            return {}
        fake, real = made[self.example], batch[self.example]
        metrics = {"gen/diversity": diversity(fake, real, axis_name=self.axis_name)}
        if self.classes:
            metrics["gen/class_diversity"] = class_diversity(
                fake, real, batch[self.classes], axis_name=self.axis_name
            )
        return metrics

    def _round(
        self, keys: tuple[Key, Key], params: PyTree, stats: PyTree, batch: Batch, made: Batch
    ) -> tuple[Round, PyTree]:
        """What D says of real and of fake entries, and the statistics handed on between them."""
        fake = {**batch, **made}
        real_out, stats = self._outputs(keys[0], params, stats, batch)
        fake_out, stats = self._outputs(keys[1], params, stats, fake)
        return Round(batch, fake, real_out, fake_out), stats

    def _outputs(
        self, key: Key, params: PyTree, stats: PyTree, batch: Batch
    ) -> tuple[Outputs, PyTree]:
        """D's outputs on (augmented) entries, logits in float32, and its new statistics."""
        augment_key, net_key = jax.random.split(key)
        if self.augment is not None:
            own_key = collectives.own_key(augment_key, self.axis_name)
            batch = {**batch, self.example: self.augment(own_key, batch[self.example])}
        out, stats = self.disc(net_key, {"params": params, **stats}, batch)
        logits = jax.tree.map(lambda x: x.astype("float32"), out["logits"])
        return {**out, "logits": logits}, stats

    def _critic(self, key: Key, params: PyTree, stats: PyTree, batch: Batch) -> Critic:
        """D as a function of the example alone, the batch's other entries as they are."""

        def critic(x: Array) -> Array:
            # A clone: whatever a penalty shows it, the critic augments and drops out alike.
            entries = {**batch, self.example: x}
            out, _ = self._outputs(jax.random.clone(key), params, stats, entries)
            leaves = jax.tree.leaves(out["logits"])
            if len(leaves) == 1:
                return leaves[0]
            return jnp.stack([x.reshape(x.shape[0], -1).sum(1) for x in leaves]).sum(0)

        return critic

    def _adversarial(
        self, loss: Callable[[Array, Array], Array], real_logits: PyTree, fake_logits: PyTree
    ) -> Array:
        """[] the sum over all logits of the mean loss, on the global batch."""

        def one(real: Array, fake: Array) -> Array:
            real, fake = (collectives.gather(x, self.axis_name) for x in (real, fake))
            return loss(real, fake).mean()

        means = jax.tree.leaves(jax.tree.map(one, real_logits, fake_logits))
        return jnp.stack(means).sum()

    def _accuracy(self, real_logits: Array, fake_logits: Array) -> Array:
        """[] share of logits on the right side of the middle between the two means.

        Not of 0, which under relativistic losses is as good as any other number.
        """
        middle = 0.5 * (real_logits.mean() + fake_logits.mean())
        middle = collectives.mean(middle, self.axis_name)
        return 0.5 * ((real_logits > middle).mean() + (fake_logits <= middle).mean())


def diversity(fake: Array, real: Array, *, axis_name: str | None = None) -> Array:
    """How much fakes differ from each other, in terms of how much real examples do.

    Args:
      fake: [B, ...].
      real: [B, ...].
      axis_name: the mapped axis, if any; fakes of all devices count as one batch.

    Returns:
      [] mean over pixels of the standard deviation over the batch, as a share of that of the real
      examples: 0 where all fakes are one, about 1 where they are as varied.
    """

    def spread(x: Array) -> Array:
        x = x.astype(jnp.float32)
        mean = collectives.mean(x.mean(0, keepdims=True), axis_name)
        return jnp.sqrt(collectives.mean(jnp.square(x - mean).mean(0), axis_name)).mean()

    return spread(fake) / jnp.maximum(spread(real), 1e-12)


def class_diversity(
    fake: Array, real: Array, label: Array, *, axis_name: str | None = None
) -> Array:
    """How much fakes of one class differ from each other, in terms of how much real examples do.

    A generator that makes one image a class has a `diversity` as high as classes differ, but none
    of this. Of one that sees no labels it says nothing.

    Args:
      fake: [B, ...], made for the labels.
      real: [B, ...], of the labels.
      label: [B] integers.
      axis_name: the mapped axis, if any; fakes of all devices count as one batch.

    Returns:
      [] mean over pixels of the standard deviation within classes, pooled over them, as a share of
      that of the real examples; 1 where no two of the batch have one label.
    """
    label = collectives.gather(label, axis_name)
    same = (label[:, None] == label[None, :]).astype(jnp.float32)
    share = same / same.sum(1, keepdims=True)  # [B, B], the mean of each one's class
    freedom = label.shape[0] - jnp.trace(share)  # examples less classes

    def spread(x: Array) -> Array:
        x = collectives.gather(x, axis_name).astype(jnp.float32)
        x = x.reshape(x.shape[0], -1)
        squares = jnp.square(x - share @ x).sum(0)
        return jnp.sqrt(squares / jnp.maximum(freedom, 1.0)).mean()

    ratio = spread(fake) / jnp.maximum(spread(real), 1e-12)
    return jnp.where(freedom > 0.5, ratio, 1.0)


def _mean(function: Callable[..., Array], *trees: PyTree) -> Array:
    """[] the mean over the leaves of a number of each."""
    return jnp.stack(jax.tree.leaves(jax.tree.map(function, *trees))).mean()
