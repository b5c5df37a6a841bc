"""What a task is, as a value: how its GAN starts, trains, is sampled, shown and scored."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import images
from jaxgan.data.spec import Spec
from jaxgan.run.config import RunConfig
from jaxgan.state import GANState, StepFn
from jaxgan.translate import Translator
from jaxgan.types import Key, PyTree

Sample = Callable[[PyTree, Key, int], Mapping[str, Any]]  # gen_ema, key, num -> entries [num, ...]
# entries -> picture [H, W, C] uint8, or lines of text
Show = Callable[[Mapping[str, np.ndarray]], np.ndarray | list[str]]


class Score(NamedTuple):
    """A task's own measure of samples, in place of the comparison with a dataset's images.

    Attributes:
      protocol: its name, for tables.
      num: samples that it takes.
      measure: entries of that many samples, on the host -> numbers by name.
      floor: what a perfect generator would get, by the same names.
      best: the number by which the best checkpoint is kept: lower is better, but for decibels and
        what `scoring.HIGHER` lists.
      draw: how these samples are drawn, where not as the experiment's are: those of a restorer are
        what it makes of whole pictures.
      of: (folder of other data, names of other methods, noise to test with) -> the `Score`
        on these, beside theirs; what is empty is as in the run.
    """

    protocol: str
    num: int
    measure: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
    floor: Mapping[str, float]
    best: str
    draw: Sample | None = None
    of: Callable[[str, Sequence[str], str], Any] | None = None


def grid(entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """Shows images side by side: how samples are shown unless an experiment says otherwise.

    Args:
      entries: with "image" [N, H, W, C], float in [-1, 1] or uint8.

    Returns:
      [h, w, C] uint8.
    """
    image = np.asarray(entries["image"])
    return images.grid(image if image.dtype == np.uint8 else images.to_uint8(image))


class Experiment(NamedTuple):
    """A task, built from its config and the spec of its data alone.

    Attributes:
      init: key -> fresh state of one GAN.
      step: the training step of one GAN, before compilation.
      sample: (gen_ema, key, num) -> entries [num, ...] on the host: images as float in [-1, 1];
        `sample.Sampler` also takes latents and labels one chooses.
      show: entries -> picture of them, or lines.
      score: the task's own measure, if it has one.
      frozen: places of the discriminator's parameters that keep their values.
      pretraining: (until, step) each: other steps of the same state that are trained with until so
        many steps were taken, such as one of the generator alone. Programs of their own, so that
        what they leave out costs nothing.
      translator: how its generator is applied to pictures of any size, where it makes images from
        images: what `experiments.apply` does.
      directions: its translators by name, where it has several; the first is `translator`.
    """

    init: Callable[[Key], GANState]
    step: StepFn
    sample: Sample
    show: Show = grid
    score: Score | None = None
    frozen: Sequence[str] = ()
    pretraining: Sequence[tuple[int, StepFn]] = ()
    translator: Translator | None = None
    directions: Mapping[str, Translator] = types.MappingProxyType({})

    def stages(self, num_steps: int) -> list[tuple[int, StepFn]]:
        """The steps of a run in their order.

        Args:
          num_steps: the length of the run.

        Returns:
          (the number of steps it is trained with until, the step) of each.
        """
        first = [(min(until, num_steps), step) for until, step in self.pretraining if until]
        return [*first, (num_steps, self.step)]


def members(variables: PyTree, config: RunConfig) -> list[PyTree]:
    """Tells the generators of a run's seeds apart.

    Args:
      variables: of a state's `gen_ema`.
      config: of the run.

    Returns:
      The variables of each seed's generator; of a run of one seed just one.
    """
    if not config.is_ensemble:
        return [variables]
    return [jax.tree.map(lambda leaf, n=n: leaf[n], variables) for n in range(config.seeds)]


Build = Callable[[Any, Spec], Experiment]  # an experiment's `build(config, spec)`
