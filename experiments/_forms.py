"""The forms in which `experiments.export` writes a generator, and how each is run again."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import export

from experiments._functions import Arrays, Function
from jaxgan import onnx
from jaxgan.data.spec import Spec
from jaxgan.metrics import safetensors_file
from jaxgan.types import PyTree, UserError

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = (
    1e-4  # of numbers that a form makes; of tokens the share that may be others, a hundredth
)
TOKENS = 1e-2
NEEDED = {  # what `jax.export` serialises with is no dependency of jax
    "stablehlo": ("flatbuffers",),
    "onnx": ("onnx", "onnxruntime"),
    "safetensors": ("safetensors",),
}
NAMES = {
    "stablehlo": "generator.stablehlo",
    "onnx": "generator.onnx",
    "safetensors": "parameters.safetensors",
}
TIMES = 5  # that each form is run, of which the middle one counts


def chosen(text: str) -> list[str]:
    """Reads --forms.

    Args:
      text: names with commas between them.

    Returns:
      The names, each once.

    Raises:
      UserError: there is no such form, or what it needs is not installed.
    """
    forms = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for form in forms:
        if form not in NEEDED:
            raise UserError(f"--forms={text}: {form or 'nothing'} is none of {', '.join(NEEDED)}")
        missing = [name for name in NEEDED[form] if not importlib.util.find_spec(name)]
        if missing:
            others = ",".join(name for name in forms if name != form)
            instead = f", or leave it away: --forms={others}" if others else ""
            raise UserError(
                f"--forms={text}: {form} needs {' and '.join(missing)}: pip install "
                f"{' '.join(missing)}{instead}"
            )
    return forms


def write(form: str, folder: pathlib.Path, function: Function, variables: PyTree) -> None:
    """Writes one form of a generator.

    Args:
      form: its name.
      folder: that the file goes to.
      function: the generator.
      variables: its variables.

    Raises:
      Exception: as the form's library has it, where something cannot be said in it.
    """
    path = folder / NAMES[form]
    if form == "stablehlo":
        made = export.export(jax.jit(function.call), platforms=PLATFORMS)(*function.inputs.values())
        path.write_bytes(made.serialize())
    elif form == "onnx":
        path.write_bytes(onnx.convert(function.call, function.inputs, function.outputs))
    else:
        import safetensors.numpy

        flat = {name: np.array(x, order="C") for name, x in flattened(variables).items()}
        path.write_bytes(safetensors.numpy.save(flat, metadata={"format": "jaxgan"}))


def runner(form: str, folder: pathlib.Path, function: Function) -> Callable[[Arrays], Arrays]:
    """Opens what was written, as somebody else would.

    Args:
      form: its name.
      folder: where it lies.
      function: the generator, for the names of inputs and outputs.

    Returns:
      Inputs -> outputs.
    """
    path = folder / NAMES[form]
    if form == "stablehlo":
        loaded = export.deserialize(bytearray(path.read_bytes()))
        called = jax.jit(loaded.call)
        return lambda given: _named(function, called(*given.values()))
    if form == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda given: _named(function, session.run(list(function.outputs), dict(given)))
    tensors = safetensors_file.read(path)
    restored = traverse_util.unflatten_dict(tensors, sep=".")
    return functools.partial(_rebuilt, function, restored)


def _rebuilt(function: Function, restored: PyTree, given: Arrays) -> Arrays:
    """Parameters are compared by themselves: no program is in their file."""
    del function, given
    return flattened(restored)


def _named(function: Function, made: Any) -> Arrays:
    return {name: np.asarray(x) for name, x in zip(function.outputs, made, strict=True)}


def difference(ours: Arrays, theirs: Arrays) -> float:
    """How far two forms are apart.

    Args:
      ours: arrays by name.
      theirs: such arrays.

    Returns:
      The largest difference of numbers; of whole numbers, tokens, the share that differs.
    """
    parts = []
    for name, x in ours.items():
        y = theirs[name]
        if x.shape != y.shape:
            raise ValueError(f"{name} has the shape {y.shape}, ours {x.shape}")
        whole = np.issubdtype(x.dtype, np.integer)
        parts.append(np.mean(x != y) if whole else np.max(np.abs(x - y), initial=0))
    return float(max(parts))


def tolerance(ours: Arrays) -> float:
    """The difference that is rounding: of numbers, or the share of tokens on the edge of another.

    Args:
      ours: arrays by name.

    Returns:
      The largest difference that passes.
    """
    whole = any(np.issubdtype(x.dtype, np.integer) for x in ours.values())
    return TOKENS if whole else TOLERANCE


def milliseconds(run: Callable[[Arrays], Any], given: Arrays) -> float:
    """How long a form takes.

    Args:
      run: inputs -> outputs.
      given: the inputs.

    Returns:
      Milliseconds an example, when it has been run before.
    """
    run(given)
    times = []
    for _ in range(TIMES):
        start = time.perf_counter()
        run(given)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times) / len(next(iter(given.values())))


def flattened(variables: PyTree) -> Arrays:
    """Names arrays by where they are, "params.Dense_0.kernel".

    Args:
      variables: nested dicts.

    Returns:
      The arrays by name.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep=".")
    return {name: np.asarray(x) for name, x in flat.items()}


def architecture(function: Function, variables: PyTree, spec: Spec) -> dict[str, Any]:
    """Says which network the parameters are of.

    Args:
      function: the generator.
      variables: its variables.
      spec: of the data that it was trained on.

    Returns:
      What JSON can hold: class and fields of the network, what it takes and makes, its parameters.
    """
    made = jax.eval_shape(function.call, *function.inputs.values())
    outputs = dict(zip(function.outputs, made, strict=True))
    return {
        "network": _described(function.module),
        "inputs": {name: _signature(function, name, x) for name, x in function.inputs.items()},
        "outputs": {name: _signature(function, name, x) for name, x in outputs.items()},
        "class_names": list(spec.class_names),
        "vocabulary": list(spec.vocabulary),
        "parameters": {
            name: {"shape": list(x.shape), "dtype": x.dtype.name}
            for name, x in flattened(variables).items()
        },
    }


def _signature(function: Function, name: str, x: Any) -> dict[str, Any]:
    shape = [n if isinstance(n, int) else str(n) for n in x.shape]
    return {"shape": shape, "dtype": np.dtype(x.dtype).name, "meaning": function.meaning[name]}


def _described(value: Any) -> Any:
    """A network and all that it is made of, as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        skipped = ("parent", "name") if isinstance(value, nn.Module) else ()
        fields = [field.name for field in dataclasses.fields(value) if field.name not in skipped]
        named = {name: _described(getattr(value, name)) for name in fields}
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **named}
    if isinstance(value, Mapping):
        return {str(name): _described(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_described(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__qualname__", None) or str(value)


def to_json(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Writes a record as JSON.

    Args:
      path: the file.
      record: what JSON can hold.
    """
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
