"""A run's generator in forms that need nothing of this project.

    python -m experiments.export --workdir=runs/quickstart --out=exported --license=cc0-1.0
    python -m experiments.export --workdir=runs/denoise --out=exported --forms=onnx

Writes the moving average of the newest checkpoint (--checkpoint=best for the one that scored best)
into a new folder:

    generator.stablehlo      a program for CPU, CUDA and TPU, read by `jax.export` alone
    generator.onnx           the same for onnxruntime and others, opset 18
    parameters.safetensors   the weights, named by where they are in the network
    architecture.json        which network that is, what it takes and makes, classes, vocabulary
    MODEL_CARD.md            data, recipe, scores and floors, memorisation, licence, how to run it
    export.json              sizes, largest difference to ours, milliseconds a sample

Inputs: latents z [B, dim], and label [B] where conditional; of generators of images from images
pictures [B, H, W, C], and a mask [B, H, W, 1] where they fill in holes; of text random numbers
uniform [B, T], one a token, and label or source where it is about one. The number of examples is
free, and so are height and width, in multiples that MODEL_CARD.md names. Images are in [-1, 1].

Each form is loaded again and compared with what this project makes of the same inputs: numbers may
differ by 0.0001, and one token in a hundred. One that cannot say what the network does is named in
a line, and the others are written. The folder is there in full or not at all.

What the forms need comes with `pip install "jaxgan[export]"`: flatbuffers, onnx, onnxruntime and
safetensors.
"""

import dataclasses
import pathlib
from typing import Any

import jax

from experiments import _card, _folders, _forms, _functions, _trained
from experiments._functions import Arrays, Function
from jaxgan import __version__, onnx, types
from jaxgan.run import cli, load, rundir
from jaxgan.types import PyTree, UserError


@dataclasses.dataclass(frozen=True)
class Config(_trained.GeneratorFlags):
    """The flags of exporting."""

    direction: str = cli.field(
        "", "Of a run that translates both ways: ab or ba; empty for the first."
    )
    out: str = cli.field("", "Folder to write; a new one, or an empty one.")
    forms: str = cli.field(
        ",".join(_forms.NEEDED), f"Forms to write, some of {', '.join(_forms.NEEDED)}."
    )
    license: str = cli.field("", "Licence of the generator, for its card: such as cc-by-4.0.")


def run(config: Config) -> dict[str, Any]:
    """Exports; returns what export.json holds."""
    forms, out = _forms.chosen(config.forms), _folders.new(config.out)
    workdir = pathlib.Path(config.workdir).expanduser()
    trained = config.opened()
    variables = config.variables(trained)
    function = _functions.of(
        trained.experiment, variables, trained.spec, direction=config.direction
    )
    with _folders.whole(out) as folder:
        record = _written(config, trained, function, variables, forms, folder)
        text = _card.card(
            trained,
            function,
            record,
            experiment=config.module or rundir.read_config(workdir)["experiment"],
            license=config.license,
            workdir=workdir,
        )
        (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    print(f"wrote step {trained.step} to {out}")
    return record


def _written(
    config: Config,
    trained: load.Trained,
    function: Function,
    variables: PyTree,
    forms: list[str],
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Writes every form that can be written, and the records beside them."""
    given = function.example(function.batch)
    ours = function.ours(given)
    here = _forms.milliseconds(function.ours, given)
    print(f"{'form':12} {'size':>10} {'difference':>11} {'ms a sample':>12}")
    print(f"{'here':12} {'':10} {'':11} {here:12.3f}", flush=True)
    architecture = _forms.architecture(function, variables, trained.spec)
    record: dict[str, Any] = {
        "jaxgan": __version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "step": trained.step,
        "member": config.member,
        "parameters": sum(x.size for x in jax.tree.leaves(variables)),
        "inputs": architecture["inputs"],
        "outputs": architecture["outputs"],
        "opset": onnx.OPSET,
        "platforms": list(_forms.PLATFORMS),
        "batch": function.batch,
        "ms_a_sample": here,
        "forms": {},
        "not_written": {},
    }
    for form in forms:
        try:
            record["forms"][form] = _one(form, folder, function, variables, given, ours)
        except OSError:
            raise
        except Exception as error:  # each library has its own words for what it cannot say
            reason = types.one_line(error, limit=200) or type(error).__name__
            print(f"{form}: not written: {reason}", flush=True)
            record["not_written"][form] = reason
            (folder / _forms.NAMES[form]).unlink(missing_ok=True)
    if not record["forms"]:
        raise UserError(f"--forms={config.forms}: none of them can express this generator")
    _forms.to_json(folder / "architecture.json", architecture)
    _forms.to_json(folder / "export.json", record)
    return record


def _one(
    form: str,
    folder: pathlib.Path,
    function: Function,
    variables: PyTree,
    given: Arrays,
    ours: Arrays,
) -> dict[str, Any]:
    """Writes one form, reads it again and compares; returns its row of export.json."""
    _forms.write(form, folder, function, variables)
    size = (folder / _forms.NAMES[form]).stat().st_size
    opened, row = _forms.runner(form, folder, function), {"bytes": size}
    if form == "safetensors":
        difference, limit, time = _forms.difference(_forms.flattened(variables), opened({})), 0, ""
    else:
        difference, limit = _forms.difference(ours, opened(given)), _forms.tolerance(ours)
        row["ms_a_sample"] = _forms.milliseconds(opened, given)
        time = f"{row['ms_a_sample']:.3f}"
    if not difference <= limit:
        raise ValueError(f"what it makes differs from ours by {difference:.1e}, above {limit:g}")
    print(f"{form:12} {size / 1000:>7,.0f} kB {difference:11.1e} {time:>12}", flush=True)
    return {**row, "largest_difference": difference}


if __name__ == "__main__":
    cli.main(Config, run)
