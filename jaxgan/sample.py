"""Sampling: entries from a generator's variables; `translate` is that of images from images."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgan import ema, latents, parallel
from jaxgan.steps import adaptors
from jaxgan.translate import Translator as Translator
from jaxgan.translate import translate as translate
from jaxgan.types import Array, Key, Prior, PyTree, UserError


@partial(jax.jit, static_argnums=0)
def apply(gen: nn.Module, variables: PyTree, z: Array, label: Array | None = None) -> Array:
    """Generates examples as at test time, with the running statistics.

    Args:
      gen: the generator.
      variables: its variables, usually a state's `gen_ema`.
      z: [B, Z].
      label: [B] int32, or None where not conditional.

    Returns:
      [B, ...]; images are [B, H, W, C] in [-1, 1].
    """
    return gen.apply(variables, z, label, train=False)  # pyright: ignore[reportReturnType]


def generate(
    gen: nn.Module,
    variables: PyTree,
    z: Any,
    label: Any = None,
    *,
    batch_size: int = 256,
    place: Callable[[Any], Array] | None = None,
) -> np.ndarray:
    """Generates any number of examples, a batch at a time, on all devices of this process.

    Args:
      gen: the generator.
      variables: its variables, usually a state's `gen_ema`.
      z: [N, Z].
      label: [N] int32, or None where not conditional.
      batch_size: examples at a time; fewer need less memory.
      place: puts the rows of latents and labels on devices; by default `parallel.spread()`.

    Returns:
      [N, ...] float32, on the host; images are [N, H, W, C] in [-1, 1].
    """
    num, place = len(z), place or parallel.spread()
    size = min(batch_size, num)
    parts = []
    for start in range(0, num, size):
        # The last batch reaches back, so that all have one shape and compile once.
        first = min(start, num - size)
        labels = None if label is None else place(label[first : first + size])
        generated = np.asarray(apply(gen, variables, place(z[first : first + size]), labels))
        parts.append(generated[start - first : size].astype(np.float32))  # `place` may add rows
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Samples of a Flax generator of latents, with labels where it is conditional.

    Called as `(variables, key, num)` it is an experiment's `sample`; its methods serve those who
    choose latents or labels themselves.

    Attributes:
      gen: the generator, `gen(z, label, *, train)`.
      dim: size of one latent.
      prior: `(key, num, dim) -> [num, dim]`, the distribution of latents in training.
      label_counts: how often the training data have each label, or 1 for each where that is not
        known; empty where not conditional.
      entry: the name of what the generator makes.
      transform: of what it makes, into the units of the data.
      batch_size: examples made at a time; fewer need less memory.
    """

    gen: nn.Module
    dim: int
    prior: Prior = latents.normal
    label_counts: Sequence[int] = ()
    entry: str = "image"
    transform: Callable[[np.ndarray], np.ndarray] = lambda x: x
    batch_size: int = 256

    def __call__(self, variables: PyTree, key: Key, num: int) -> dict[str, np.ndarray]:
        """Draws samples whose labels are as frequent as in the training data.

        Args:
          variables: of the generator, usually a state's `gen_ema`.
          key: consumed.
          num: how many.

        Returns:
          {entry: [num, ...] float32}, and "label" [num] int32 where conditional.
        """
        return self.generate(variables, self.prior(key, num, self.dim), self.labels(num))

    def generate(
        self, variables: PyTree, z: Any, label: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Generates from latents and labels one has chosen.

        Args:
          variables: of the generator.
          z: [N, Z].
          label: [N] int32 where conditional.

        Returns:
          {entry: [N, ...] float32}, and "label" where there are labels.
        """
        generated = generate(self.gen, variables, z, label, batch_size=self.batch_size)
        entries = {self.entry: self.transform(generated)}
        return entries if label is None else {**entries, "label": label}

    def truncated(self, psi: float) -> "Sampler":
        """Draws a style-based generator's latents w towards their mean.

        See "A Style-Based Generator Architecture for Generative Adversarial Networks" by Karras et
        al. (https://arxiv.org/abs/1812.04948), appendix B: w' = mean + psi (w - mean).

        Args:
          psi: 1 leaves w as it is, 0 makes the mean's image.

        Returns:
          A sampler.

        Raises:
          UserError: the generator has no w.
        """
        if not hasattr(self.gen, "truncation"):
            raise UserError(f"--psi={psi}: {type(self.gen).__module__} has no latents w")
        return dataclasses.replace(self, gen=self.gen.clone(truncation=psi))

    def draw(self, key: Key, num: int, *, truncation: float = 0.0) -> Array:
        """Draws latents.

        Args:
          key: consumed.
          num: how many.
          truncation: components stay within this many standard deviations; 0 truncates nothing.

        Returns:
          [num, dim].

        Raises:
          UserError: the truncation is negative, or the prior is not the normal one.
        """
        if truncation < 0:
            raise UserError(
                f"truncation {truncation} is negative; give 0 for none, or about 0.5 to 2"
            )
        if not truncation:
            return self.prior(key, num, self.dim)
        if self.prior is not latents.normal:
            raise UserError(
                f"truncation {truncation} needs normal latents; these are {self.prior.__name__}"
            )
        return latents.truncated(key, num, self.dim, truncation)

    def interpolations(
        self, key: Key, rows: int, columns: int, *, truncation: float = 0.0
    ) -> Array:
        """Draws latents on the way between random pairs, one pair a row.

        Args:
          key: consumed.
          rows: pairs.
          columns: latents on the way from one to the other, both included.
          truncation: of the pairs, as in `draw`.

        Returns:
          [rows * columns, dim], row by row: on great circles where latents are normal, on straight
          lines elsewhere.
        """
        ends = self.draw(key, 2 * rows, truncation=truncation)
        way = latents.slerp if self.prior is latents.normal else latents.lerp
        return way(ends[:rows], ends[rows:], columns).reshape(rows * columns, self.dim)

    def loops(self, key: Key, num: int, steps: int, *, truncation: float = 0.0) -> Array:
        """Draws walks through the latents, each back to where it began.

        Args:
          key: consumed.
          num: walks.
          steps: of each; the one after the last would be the first again.
          truncation: of the latents that a walk is made of, as in `draw`.

        Returns:
          [num, steps, dim]: on circles where latents are normal, so that each step is as probable
          as any sample; elsewhere on straight lines between four, at rest at each.
        """
        if self.prior is latents.normal:
            ends = self.draw(key, 2 * num, truncation=truncation)
            return latents.circle(ends[:num], ends[num:], steps)
        corners = self.draw(key, 4 * num, truncation=truncation)
        return latents.polygon(corners.reshape(num, 4, self.dim), steps)

    def standing(self, key: Key, variables: PyTree, *, num_batches: int) -> PyTree:
        """Estimates the generator's batch statistics anew, for these very variables.

        A moving average of a generator holds averages of statistics that belonged to other weights.
        See `ema.standing_statistics`.

        Args:
          key: consumed.
          variables: of the generator, usually a state's `gen_ema`.
          num_batches: of `batch_size` latents each, with labels as in the training data.

        Returns:
          The variables with those statistics.
        """
        conditional = len(self.label_counts) > 0
        module = self.gen
        if getattr(module, "axis_name", None):  # statistics of all devices: here there is one
            module = module.clone(axis_name=None)  # pyright: ignore[reportCallIssue]
        gen = adaptors.from_latents(
            module, self.dim, prior=self.prior, conditional=conditional, target=self.entry
        )
        shape = (num_batches, self.batch_size)
        batches = {self.entry: jnp.zeros(shape)}
        if conditional:
            label = self.labels(math.prod(shape))
            batches["label"] = jnp.asarray(label).reshape(shape)
        estimate = jax.jit(lambda *given: ema.standing_statistics(given[0], gen, *given[1:]))
        return estimate(key, variables, batches)

    def labels(self, num: int, *, even: bool = False) -> np.ndarray | None:
        """Chooses labels, each at its turn, so that any first so many are as mixed as all.

        Args:
          num: how many.
          even: as many of each, rather than by frequency in the training data.

        Returns:
          [num] int32; None where not conditional.
        """
        if not self.label_counts:
            return None
        return spread_labels([1] * len(self.label_counts) if even else self.label_counts, num)


def spread_labels(counts: Sequence[int], num: int) -> np.ndarray:
    """Chooses labels with given frequencies, each spread evenly over the sequence.

    Args:
      counts: [K], how often each label occurs.
      num: labels to choose.

    Returns:
      [num] int32; each label occurs `num * share` times, rounded so that they add up (largest
      remainders first). Equal counts give 0, 1, ..., K - 1, 0, 1, ...

    Raises:
      UserError: no label occurs.
    """
    shares = np.asarray(counts, np.float64)
    if not shares.sum() > 0:
        raise UserError(f"none of the {len(counts)} labels occurs in the training data")
    exact = num * shares / shares.sum()
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: num - quota.sum()]] += 1
    label = np.repeat(np.arange(len(quota)), quota)
    turn = np.concatenate([(np.arange(n) + 0.5) / exact[k] for k, n in enumerate(quota) if n])
    return label[np.lexsort((label, np.round(turn, 9)))].astype(np.int32)
