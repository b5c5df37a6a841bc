"""Generators of `experiments.downstream`: trained by a recipe, or those of a finished run."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import _augmented, _own, mnist
from experiments import images as images_experiment
from jaxgan import images, sample
from jaxgan.data import arrays
from jaxgan.data.registry import Source
from jaxgan.nets import dcgan
from jaxgan.run import cli, driver, load
from jaxgan.types import UserError

# Flagfiles: of few grey squares, of many, and of all other images.
SMALL, GREY, OTHER = "quickstart", "mnist_best", "own"
# Times that D sees an image, above which it sees few images of `OTHER` augmented. Not of grey
# squares: of MNIST with 10 and 50 labels a class, classifiers trained on what was generated (2,000
# steps) are right of 74 and 90 %; of 53 and 57 % where D saw DiffAugment.
OFTEN = 100
LINES = 4  # of the log, saves and samples of a run


class Made(NamedTuple):
    """What one generator made.

    Attributes:
      image: [N, H, W, C] uint8.
      label: int32 [N].
    """

    image: np.ndarray
    label: np.ndarray


Draw = Callable[[int, bool], Made]  # num, as many of each class -> examples


def recipe(config: Any, shape: tuple[int, ...], num_examples: int) -> Any:
    """Makes the config of a generator's training.

    Args:
      config: the flags of `experiments.downstream`.
      shape: of the images.
      num_examples: different ones that it is trained on.

    Returns:
      A config of `experiments.mnist` or `experiments.images`, without directory.

    Raises:
      UserError: the flagfile is of neither.
    """
    few, name = num_examples < _own.FEW, config.recipe
    if name == "auto":
        name = (SMALL if few else GREY) if _is_dcgans(shape) else OTHER
    words = [f"--flagfile={name}", f"--dataset={config.dataset}", f"--data_dir={config.data_dir}"]
    if config.gen_steps:
        every = max(1, config.gen_steps // LINES)
        words += [f"--num_steps={config.gen_steps}", "--decay_steps=0", f"--log_every={every}"]
        words += [f"--save_every={every}", f"--sample_every={every}"]
    made = _config(words, shape)
    augment = config.gen_augment
    if augment == "auto":
        steps = made.num_steps or _own.STEPS
        often = steps * made.batch_size > OFTEN * num_examples
        augment = "diffaug" if few and often and name == OTHER else "none"
    return dataclasses.replace(made, augment=augment)


def _config(words: list[str], shape: tuple[int, ...]) -> Any:
    """The config of the experiment that has such flags."""
    try:
        size = [f"--image_size={shape[0]}", "--conditional=true"]
        return cli.from_flags(mnist.Config, [*words, *size])
    except UserError as error:
        if not str(error).startswith("Unknown command line flag"):
            raise
    size = [f"--height={shape[0]}", f"--width={shape[1]}", "--condition=projection"]
    return cli.from_flags(images_experiment.Config, [*words, *size])


def _is_dcgans(shape: tuple[int, ...]) -> bool:
    """Whether images are grey squares of a side that a DCGAN makes."""
    try:
        dcgan.geometry(shape[0])
    except UserError:
        return False
    return shape[0] == shape[1] and shape[2] == 1


def train(settings: Any, source: arrays.ArraySource, place: pathlib.Path, seed: int) -> Draw:
    """Trains a generator, or finds it trained.

    Args:
      settings: of `recipe`.
      source: what it sees.
      place: its run directory; a run begun there goes on.
      seed: of everything random.

    Returns:
      What draws its examples.
    """
    module = mnist if isinstance(settings, mnist.Config) else images_experiment
    config = dataclasses.replace(settings, workdir=str(place), seed=seed)
    driver.train(config, build=module.build, source=lambda _: source)
    return _draw(load.load(place), 0)


def finished(workdir: pathlib.Path, module: str) -> load.Trained:
    """Loads a finished conditional run.

    Args:
      workdir: its directory.
      module: of its experiment, where that is not a bundled one.

    Returns:
      The run.

    Raises:
      UserError: it has no labels.
    """
    trained = load.load(workdir, module=module)
    sampler = trained.experiment.sample
    if not isinstance(sampler, sample.Sampler) or not sampler.label_counts:
        raise UserError(
            f"--workdir={workdir}: the run has no labels, and its examples no classes; train with"
            " --conditional (experiments.mnist) or --condition=projection (experiments.images)"
        )
    return trained


def check_fit(trained: load.Trained, train: Source, place: str) -> None:
    """Refuses data that are not those a run was trained on.

    Args:
      trained: the run.
      train: the training split, as the run would open it.
      place: --data_dir, for messages.

    Raises:
      UserError: classes are called otherwise, or the images are others: then nobody knows whether
        the run has seen those that it is to be tested with.
    """
    _augmented.check_classes(trained, train)
    if trained.spec.fingerprint != train.fingerprint:
        raise UserError(
            f"--data_dir={place}: not the images that the run was trained on, so that it may have"
            " seen the test images; give the folder that it had"
        )


def of_run(trained: load.Trained) -> Iterator[Draw]:
    """Tells the generators of a run apart.

    Args:
      trained: the run.

    Yields:
      What draws each one's examples.
    """
    for member in range(len(trained.members())):
        yield _draw(trained, member)


def _draw(trained: load.Trained, member: int) -> Draw:
    sampler: Any = trained.experiment.sample
    variables = trained.members()[member]

    def draw(num: int, even: bool) -> Made:
        z = sampler.draw(jax.random.key(member), num)
        made = sampler.generate(variables, z, sampler.labels(num, even=even))
        return Made(images.to_uint8(made["image"]), np.asarray(made["label"], np.int32))

    return draw
