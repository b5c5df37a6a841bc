"""The model card that `experiments.export` writes beside a generator."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments._functions import Function
from jaxgan.data.spec import Spec
from jaxgan.run.load import Trained
from jaxgan.types import UserError

# Flags that name a place on one machine, or how a run was carried out there.
PLACES = ("workdir", "data_dir", "data_dir_a", "data_dir_b", "source", "compilation_cache")
SHOWN = 40  # scores at most
INTENDED = (
    "Research and teaching: to look at, to compare with, to build on. It makes things that look "
    "like its training data, and none that happened; do not pass them off as such, and do not use "
    "them where a wrong detail does harm."
)

LOADERS = {
    "stablehlo": """## With JAX alone

`pip install jax flatbuffers`; the latter is what `jax.export` reads files with.

```python
import pathlib
import numpy as np
from jax import export

generator = export.deserialize(bytearray(pathlib.Path("generator.stablehlo").read_bytes()))
{inputs}
{outputs} = generator.call({names})
print({first}.shape, {first}.dtype)
```

The program was exported for {platforms}; `generator.in_avals` says what it takes.
""",
    "onnx": """## With onnxruntime

`pip install onnxruntime`

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("generator.onnx")
{inputs}
{outputs} = session.run(None, {given})
print({first}.shape, {first}.dtype)
```

Opset {opset}; tested to differ by {difference:.1e} from the network that was trained.
""",
    "safetensors": """## Parameters

`parameters.safetensors` has the arrays, named by where they are in the network; `architecture.json`
says which network that is, and what it takes and makes.
""",
}


def card(
    trained: Trained,
    function: Function,
    record: Mapping[str, Any],
    *,
    experiment: str,
    license: str,
    workdir: pathlib.Path,
) -> str:
    """Writes what a stranger should know of a generator.

    Args:
      trained: the run.
      function: its generator.
      record: what export.json holds.
      experiment: the module that trained it.
      license: of the generator; empty where nobody has said.
      workdir: the run directory, for its scores.

    Returns:
      Markdown, with a header that model hubs read.
    """
    parts = [
        f"---\nlicense: {license or 'unknown'}\nlibrary_name: jaxgan\ntags: [gan, jax]\n---\n",
        f"# Generator of {_data_name(trained.config)}\n",
        f"Trained by `{experiment}` of jaxgan {record['jaxgan']}, step {trained.step}; the moving "
        f"average of its weights, {record['parameters']:,} numbers.\n",
        "" if license else "No licence was stated: ask whoever gave you this before you use it.\n",
        _interface(record),
        *[_loader(form, function, record) for form in record["forms"]],
        _data(trained.spec, trained.config),
        _recipe(trained.config, experiment),
        _scores(workdir, trained.step),
        f"## Intended use\n\n{INTENDED}\n",
    ]
    return "\n".join(part for part in parts if part)


def _data_name(config: Any) -> str:
    for name in ("dataset", "task", "mixture"):
        if getattr(config, name, ""):
            return str(getattr(config, name))
    return "images"


def _interface(record: Mapping[str, Any]) -> str:
    rows = [
        f"| {kind} `{name}` | {each['dtype']} [{', '.join(map(str, each['shape']))}] "
        f"| {each['meaning']} |"
        for kind, entries in (("in", record["inputs"]), ("out", record["outputs"]))
        for name, each in entries.items()
    ]
    return "\n".join(["| | shape | meaning |", "| --- | --- | --- |", *rows, ""])


def _loader(form: str, function: Function, record: Mapping[str, Any]) -> str:
    inputs = record["inputs"]
    lines = [
        f"{name} = {_example(name, x, function.meaning[name])}"
        for name, x in function.example(1).items()
    ]
    names = list(record["outputs"])
    return LOADERS[form].format(
        inputs="\n".join(lines),
        outputs=", ".join(names) + ("," if len(names) == 1 else ""),
        names=", ".join(inputs),
        first=names[0],
        given="{" + ", ".join(f'"{name}": {name}' for name in inputs) + "}",
        platforms=", ".join(record.get("platforms", ())),
        opset=record.get("opset"),
        difference=record["forms"][form].get("largest_difference", 0.0),
    )


def _example(name: str, x: np.ndarray, meaning: str) -> str:
    """What four such inputs can be made by."""
    draw = "uniform(-1, 1, " if "uniform" in meaning else "normal(size="
    sizes = ", ".join(map(str, (4, *x.shape[1:]))) + "," * (x.ndim == 1)
    plain = "ones" if "length" in name else "zeros"
    made = {
        "z": f"np.random.default_rng(0).{draw}({sizes})).astype(np.float32)",
        "uniform": f"np.random.default_rng(0).random(({sizes}), np.float32)",
    }
    return made.get(name, f"np.{plain}(({sizes}), np.{x.dtype})")


def _data(spec: Spec, config: Any) -> str:
    lines = [f"Name: {_data_name(config)}. Fingerprint: `{spec.fingerprint}`."]
    if spec.num_examples:
        lines.append(f"Examples: {spec.num_examples:,}.")
    if spec.class_names:
        lines.append(f"Classes: {', '.join(spec.class_names[:20])}.")
    elif spec.num_classes:
        lines.append(f"Classes: {spec.num_classes}.")
    shapes = {name: list(shape) for name, shape in spec.shapes.items()}
    return "\n".join(["## Data", "", *lines, f"Entries: {shapes}.", ""])


def _recipe(config: Any, experiment: str) -> str:
    """The flags that are not those by default, without what names places on a machine."""
    flags = [
        f"--{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default and field.name not in PLACES
    ]
    command = " \\\n    ".join([f"python -m {experiment} --workdir=RUN", *flags])
    return f"## Recipe\n\nEvery other flag at its default:\n\n```sh\n{command}\n```\n"


def _scores(workdir: pathlib.Path, step: int) -> str:
    """The numbers of evaluation.json beside their floors, and what they say of memorisation."""
    path = workdir / "evaluation.json"
    ended = not path.is_file() and (workdir / "results.json").is_file()
    if ended:
        path = workdir / "results.json"  # what training measured at its end
    if not path.is_file():
        return (
            "## Scores and memorisation\n\nNot measured: run `python -m experiments.evaluate "
            "--workdir=RUN`, then export again.\n"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        floors = dict(found.get("floor") or {})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged; run experiments.evaluate again") from error
    skipped = ("step", "seeds", "seconds", "num_samples", "splits")
    numbers = {name: _number(x) for name, x in found.items() if name not in skipped}
    rows = [
        f"| {name} | {value:.4g} | {_beside(floors.get(name))} |"
        for name, value in numbers.items()
        if value is not None
    ][:SHOWN]
    notes = []
    if ended:
        notes.append("Measured at the end of training.")
    elif found.get("step") != step:
        notes.append(f"They are of step {found.get('step')}, this is step {step}.")
    if "nearer_to_train" in found:
        share = float(found["nearer_to_train"])
        notes.append(
            f"Memorisation: {share:.1%} of the samples lie nearer to a training image than to a "
            "held-out one; half would without copying."
        )
    elif "copied" in numbers:
        notes.append(
            f"Memorisation: {numbers['copied']:.1%} of the texts are in the training data."
        )
    else:
        notes.append("Memorisation was not measured.")
    table = ["| score | value | floor |", "| --- | --- | --- |", *rows]
    protocol = [f"Protocol: {found['protocol']}."] if "protocol" in found else []
    return "\n".join(["## Scores and memorisation", "", *protocol, *notes, "", *table, ""])


def _number(value: Any) -> float | None:
    """A score: a number, or the mean of those of several seeds."""
    if isinstance(value, list) and value and all(isinstance(x, int | float) for x in value):
        return sum(value) / len(value)
    return float(value) if type(value) in (int, float) else None


def _beside(floor: Any) -> str:
    number = _number(floor)
    return "" if number is None else f"{number:.4g}"
