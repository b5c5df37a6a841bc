"""A run's generator as a function of arrays alone, for `experiments.export`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from experiments import _written
from jaxgan import sample, sentences, types
from jaxgan.data import masks
from jaxgan.data.spec import Spec
from jaxgan.run.experiment import Experiment
from jaxgan.translate import Translator
from jaxgan.types import Array, PyTree, UserError

Arrays = dict[str, np.ndarray]
MULTIPLES = (1, 4, 8, 16, 32, 64)  # of pixels, tried in turn where a network names none
SIDE = 128  # pixels of the pictures that forms are compared on, about


class Function(NamedTuple):
    """A generator with its weights.

    Attributes:
      module: the network.
      call: arrays in the order of the inputs -> a tuple of arrays, in that of the outputs.
      inputs: shape and type of each, by name; sizes that a user chooses are symbols.
      outputs: their names.
      meaning: what each input and output is, by name.
      example: number of examples -> inputs to try it with.
      ours: such inputs -> what this project makes of them, by the names of the outputs.
      batch: examples to try it with.
    """

    module: Any
    call: Callable[..., tuple[Array, ...]]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    outputs: tuple[str, ...]
    meaning: Mapping[str, str]
    example: Callable[[int], Arrays]
    ours: Callable[[Arrays], Arrays]
    batch: int


def of(made: Experiment, variables: PyTree, spec: Spec, *, direction: str = "") -> Function:
    """Makes the function of a run's generator.

    Args:
      made: the run's experiment.
      variables: of its generator.
      spec: of its data.
      direction: of a run that translates both ways, "ab" or "ba"; empty for the first.

    Returns:
      The function.

    Raises:
      UserError: the generator is of a kind that is not known here, or has no such direction.
    """
    if made.translator is not None:
        directions = dict(made.directions) or {"": made.translator}
        if direction and direction not in directions:
            known = ", ".join(filter(None, directions)) or "none"
            raise UserError(f"--direction={direction}: the run has {known}")
        return _of_images(directions.get(direction, made.translator), variables)
    if direction:
        raise UserError(f"--direction={direction}: not a generator of images from images")
    if isinstance(made.sample, sample.Sampler):
        return _of_latents(made.sample, variables)
    if isinstance(made.sample, _written.Sampler):
        return _of_text(made.sample, variables, spec)
    raise UserError(
        f"its generator is sampled by {types.one_line(made.sample, limit=80)}: neither of latents, "
        "nor of images, nor of text, so that nothing says what it takes"
    )


def _of_latents(sampler: sample.Sampler, variables: PyTree) -> Function:
    (batch,) = export.symbolic_shape("b")
    dim, classes, entry = sampler.dim, len(sampler.label_counts), sampler.entry
    inputs = {"z": jax.ShapeDtypeStruct((batch, dim), jnp.float32)}
    meaning = {"z": f"latents, drawn from the {sampler.prior.__name__} distribution"}
    if classes:
        inputs["label"] = jax.ShapeDtypeStruct((batch,), jnp.int32)
        meaning["label"] = f"classes, 0 to {classes - 1}"

    def in_range(x: Any) -> Any:
        return x.clip(-1.0, 1.0) if x.ndim == 4 else x

    def call(z: Array, label: Array | None = None) -> tuple[Array]:
        made = sampler.gen.apply(variables, z, label, train=False)
        return (in_range(sampler.transform(made)),)  # pyright: ignore[reportArgumentType]

    def example(num: int) -> Arrays:
        found = {"z": np.asarray(sampler.draw(jax.random.key(0), num))}
        label = sampler.labels(num, even=True)
        return found if label is None else {**found, "label": label}

    def ours(given: Arrays) -> Arrays:
        made = sampler.generate(variables, given["z"], given.get("label"))
        return {entry: in_range(made[entry])}

    try:
        (made,) = jax.eval_shape(call, *inputs.values())
    except jax.errors.TracerArrayConversionError as error:
        raise UserError(
            "its Sampler's transform computes by NumPy, which no program for devices can hold; "
            "write it with jax.numpy"
        ) from error
    images = len(made.shape) == 4
    meaning[entry] = "images in [-1, 1]" if images else "examples in the units of the data"
    return Function(sampler.gen, call, inputs, (entry,), meaning, example, ours, 64)


def _of_images(translator: Translator, variables: PyTree) -> Function:
    def call(image: Array, mask: Array | None = None) -> tuple[Array]:
        seen = image if mask is None else masks.punch(image, mask)
        made = translator.gen.apply(variables, seen, train=False)
        return (jnp.clip(jnp.asarray(made, jnp.float32), -1.0, 1.0),)

    def ours(given: Arrays) -> Arrays:
        mask = given.get("mask", [None] * len(given["image"]))
        made = [
            sample.translate(translator, variables, x, mask=hole)
            for x, hole in zip(given["image"], mask, strict=True)
        ]
        return {"translated": np.stack(made)}

    multiple = _multiple(translator, call)
    side = max(translator.least, SIDE - SIDE % multiple)
    side += -side % multiple

    def example(num: int) -> Arrays:
        random = np.random.default_rng(0)
        shape = (num, side, side, translator.source_channels)
        image = random.uniform(-1, 1, shape).astype(np.float32)
        if not translator.masked:
            return {"image": image}
        return {"image": image, "mask": np.float32(random.random((num, side, side, 1)) < 0.2)}

    sides = f"sides are multiples of {multiple} and {translator.least} or more"
    grown = f", {translator.scale} times as high and wide" if translator.scale > 1 else ""
    meaning = {
        "image": f"pictures in [-1, 1]; {sides}",
        "mask": "1 in holes and 0 elsewhere",
        "translated": f"pictures in [-1, 1]{grown}",
    }
    inputs = _pictures(translator, multiple)
    if not translator.masked:
        del meaning["mask"]
    return Function(translator.gen, call, inputs, ("translated",), meaning, example, ours, 1)


def _pictures(translator: Translator, multiple: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What a network takes, of any number, height and width that it divides."""
    sizes = export.symbolic_shape(f"b, {multiple}*h, {multiple}*w")
    channels = {"image": translator.source_channels, "mask": 1}
    names = channels if translator.masked else ("image",)
    return {name: jax.ShapeDtypeStruct((*sizes, channels[name]), jnp.float32) for name in names}


def _multiple(translator: Translator, call: Callable[..., Any]) -> int:
    """The least number of pixels whose multiples the network sees without a case distinction."""
    named = translator.multiple
    for multiple in [named, *(n for n in MULTIPLES if n > named and n % named == 0)]:
        try:
            jax.eval_shape(call, *_pictures(translator, multiple).values())
        except (jax.errors.InconclusiveDimensionOperation, TypeError, ValueError):
            continue
        return multiple
    raise UserError(
        f"{type(translator.gen).__module__} makes nothing of pictures whose size is a symbol"
    )


def _of_text(sampler: _written.Sampler, variables: PyTree, spec: Spec) -> Function:
    (batch,) = export.symbolic_shape("b")
    inputs = {"uniform": jax.ShapeDtypeStruct((batch, sampler.length), jnp.float32)}
    meaning = {"uniform": "random numbers in [0, 1), one for each token"}
    if sampler.label_counts:
        inputs["label"] = jax.ShapeDtypeStruct((batch,), jnp.int32)
        meaning["label"] = f"classes, 0 to {len(sampler.label_counts) - 1}"
    if sampler.sources is not None:
        inputs["source"] = jax.ShapeDtypeStruct((batch, *spec.shapes["source"]), jnp.int32)
        inputs["source_length"] = jax.ShapeDtypeStruct((batch,), jnp.int32)
        meaning |= {"source": "tokens to be answered", "source_length": "how many these are"}
    meaning |= {
        "text": "tokens, by their number in the vocabulary of architecture.json",
        "length": "tokens with the end",
    }

    def call(*given: Array) -> tuple[Array, Array]:
        uniform, *about = given
        named = dict(zip(list(inputs)[1:], about, strict=True))
        without = _written.never_drawn(sampler.gen)
        made = sentences.decode(uniform, sampler.gen, variables, without=without, **named)
        return made.text, made.length

    compiled = jax.jit(call)

    def example(num: int) -> Arrays:
        random = np.random.default_rng(0)
        sizes = {"label": len(sampler.label_counts), "source": len(spec.vocabulary) or 2}
        found: Arrays = {"uniform": random.random((num, sampler.length), np.float32)}
        for name in list(inputs)[1:]:
            shape, high = (num, *inputs[name].shape[1:]), sizes.get(name, 0)
            low = 0 if name == "label" else 1
            high = high or spec.shapes["source"][0] + 1
            found[name] = random.integers(low, high, shape, np.int32)
        return found

    def ours(given: Arrays) -> Arrays:
        made = compiled(*given.values())
        return {name: np.asarray(x) for name, x in zip(("text", "length"), made, strict=True)}

    outputs = ("text", "length")
    return Function(sampler.gen, call, inputs, outputs, meaning, example, ours, 64)
