"""Steps of generators of text: maximum likelihood, and policy gradients for rewards by D.

The discriminator's step is `disc_step` of a `Game` whose generator is `from_writer`; RelGAN's both
steps are those of a `Game` with `from_gumbel`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxgan import collectives, ema
from jaxgan import state as states
from jaxgan.losses import text as losses
from jaxgan.state import GANState, StepFn
from jaxgan.steps.accumulate import accumulated
from jaxgan.steps.game import DiscFn
from jaxgan.steps.writers import Writer
from jaxgan.types import Array, Batch, Key, Metrics, PyTree

ROLLOUT = "rollout"  # its place in `state.extra`


def mle_step(
    writer: Writer,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> StepFn:
    """Makes the batch's sentences likelier.

    Args:
      writer: the generator.
      tx: its Optax transformation.
      accumulate: micro-batches whose gradients make the update's; see `accumulate`.
      axis_name: the mapped axis, if any.

    Returns:
      A step with the metrics "gen/loss" (nats a token, over all tokens of the global batch) and
      "gen/gradient" (its norm). The discriminator is left as it is.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        # Of the whole batch and all devices: every token weighs the same.
        tokens = collectives.mean(_mask(batch).sum(), axis_name) / accumulate

        def find(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
            def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
                variables = {"params": params, **state.gen.stats}
                log_probs, stats = writer.log_probs(key, variables, batch)
                loss = -(log_probs * _mask(batch)).sum() / tokens
                return loss, (stats, {"gen/loss": loss})

            return jax.grad(loss_fn, has_aux=True)(state.gen.params), ()

        (grads, (stats, metrics)), _ = accumulated(find, accumulate)(key, batch)
        return _moved(state, tx, grads, stats, metrics, axis_name)

    return step


def policy_gradient_step(
    writer: Writer,
    disc: DiscFn,
    tx: optax.GradientTransformation,
    *,
    rollouts: int = 16,
    rate: float = 0.8,
    reward: Callable[[Array], Array] = jax.nn.sigmoid,
    advantage: losses.Advantage = losses.plain_advantage,
    discount: float = 1.0,
    together: int = 1,
    axis_name: str | None = None,
) -> StepFn:
    """Moves the generator towards sentences that the discriminator finds real.

    Rewards are no gradients through D, but numbers for each token (`losses.reinforce`):

    - SeqGAN ("SeqGAN: Sequence Generative Adversarial Nets with Policy Gradient" by Yu et al.,
      https://arxiv.org/abs/1609.05473): of a token, D's probability of sentences that begin with
      all up to it, the mean over roll-outs by a slowly moving copy of the generator; the defaults.
    - MaliGAN (Che et al., https://arxiv.org/abs/1702.07983): `reward=losses.likelihood_ratio`,
      `advantage=losses.normalized_advantage`, `rollouts=0`.
    - ScratchGAN (de Masson d'Autume et al., https://arxiv.org/abs/1905.09922): D says of every
      token, `reward=lambda logits: 2 * sigmoid(logits) - 1`, `rollouts=0`, a discount, and here a
      leave-one-out baseline.

    Args:
      writer: the generator.
      disc: the discriminator, `reader(..., train=False)`; logits [B], or [B, T] of every token.
      tx: the generator's Optax transformation.
      rollouts: for each token; 0 gives all tokens of a sentence the reward of the whole.
      rate: share of the copy that stays, each step.
      reward: of logits, elementwise.
      advantage: `(rewards [B, T], mask [B, T]) -> [B, T]`, see `losses.ADVANTAGES`; of the batch
        over all devices.
      discount: of the reward of a later token, where D says of every token.
      together: roll-outs computed side by side; more take more memory, and on an accelerator less
        time.
      axis_name: the mapped axis, if any.

    Returns:
      A step with the metrics "gen/loss" (whose value means little), "gen/reward" (mean over tokens)
      and "gen/gradient". With roll-outs it needs a state with a copy of the generator's variables
      as `extra["rollout"]`, see `init_rollout`. The discriminator is left as it is. Of the batch it
      needs the shapes, and what sentences are about.
    """

    def step(key: Key, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        write_key, reward_key, net_key = jax.random.split(key, 3)
        made = {**batch, **writer.write(write_key, state.gen.variables, batch)}
        rewards = judge(reward_key, state, made)
        mask = _mask(made)
        weights = _over_all(advantage, rewards, mask, axis_name)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            variables = {"params": params, **state.gen.stats}
            log_probs, stats = writer.log_probs(net_key, variables, made)
            loss = losses.reinforce(log_probs, weights).mean()
            return loss, (stats, {"gen/loss": loss})

        grads, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(state.gen.params)
        tokens = collectives.mean(mask.sum(), axis_name)
        metrics = {**metrics, "gen/reward": (rewards * mask).sum() / tokens}
        state, metrics = _moved(state, tx, grads, stats, metrics, axis_name)
        if rollouts:
            copy = ema.update(state.extra[ROLLOUT], state.gen.variables, rate)
            state = state.replace(extra={**state.extra, ROLLOUT: copy})
        return state, metrics

    def judge(key: Key, state: GANState, made: Batch) -> Array:
        """[B, T] rewards of the tokens."""
        disc_key, rollout_key = jax.random.split(key)

        def rewarded(key: Key, batch: Batch) -> Array:
            out, _ = disc(key, state.disc.variables, batch)
            return reward(out["logits"].astype(jnp.float32))

        num, length = made["text"].shape
        whole = rewarded(disc_key, made)
        if whole.ndim == 2:
            return losses.returns(whole * _mask(made), discount=discount)
        if not rollouts or length == 1:
            return jnp.broadcast_to(whole[:, None], (num, length))

        def one(key: Key) -> Array:
            write_key, disc_key = jax.random.split(key)
            completed = writer.complete(write_key, state.extra[ROLLOUT], made)
            return rewarded(disc_key, completed).reshape(length - 1, num)

        keys = jax.random.split(rollout_key, rollouts)
        early = jax.lax.map(one, keys, batch_size=together if together > 1 else None).mean(0)
        return jnp.concatenate([early, whole[None]]).T

    return step


def init_rollout(variables: PyTree) -> PyTree:
    """Makes the copy of the generator that rolls out, to put into `state.extra`.

    Args:
      variables: the generator's, as roll-outs begin: after pre-training.

    Returns:
      A copy.
    """
    return jax.tree.map(jnp.copy, variables)


def _mask(batch: Batch) -> Array:
    """[B, T] 1 of tokens and 0 of padding."""
    return losses.token_mask(batch["length"], batch["text"].shape[1])


def _over_all(
    advantage: losses.Advantage, rewards: Array, mask: Array, axis_name: str | None
) -> Array:
    """[B, T] this device's rows of the advantages over all devices' sentences."""
    if axis_name is None:
        return advantage(rewards, mask)
    every = advantage(collectives.gather(rewards, axis_name), collectives.gather(mask, axis_name))
    first = rewards.shape[0] * jax.lax.axis_index(axis_name)
    return jax.lax.dynamic_slice_in_dim(every, first, rewards.shape[0])


def _moved(
    state: GANState,
    tx: optax.GradientTransformation,
    grads: PyTree,
    stats: PyTree,
    metrics: Metrics,
    axis_name: str | None,
) -> tuple[GANState, Metrics]:
    """The generator after its update, and how large the gradient was."""
    grads, metrics = collectives.mean((grads, metrics), axis_name)
    metrics = {**metrics, "gen/gradient": optax.tree.norm(grads)}
    return state.replace(gen=states.apply_gradients(state.gen, tx, grads, stats)), metrics
