"""Exported generators: read without this project, compared with ours, and written as a whole."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from experiments import _forms, _functions, export, restore, text
from jaxgan import onnx
from jaxgan.data import vocabulary
from jaxgan.data.spec import Spec
from jaxgan.metrics import safetensors_file
from jaxgan.run import checkpoint, load
from jaxgan.types import UserError
from tests.helpers import command, runs

for name in ("flatbuffers", "onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(name)

# In front of what a stranger runs: refuses every package but those named.
ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
"""


def _config(workdir, out, **settings):
    return export.Config(workdir=str(workdir), out=str(out), module=runs.MODULE, **settings)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "exported"
    export.run(_config(runs.conditional(), out, license="cc0-1.0"))
    return out


def _block(folder, heading):
    """The program under a heading of the card."""
    card = (folder / "MODEL_CARD.md").read_text()
    return re.search(rf"^## {heading}\n\n[^#]*?```python\n(.*?)^```", card, re.M | re.S)[1]


def _alone(folder, code, refused, *, python=sys.executable):
    """Runs a program in the folder, without the packages refused; its output."""
    result = subprocess.run(
        [python, "-I", "-c", ALONE.format(refused=set(refused)) + code],
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_everything_is_written_and_the_forms_agree(exported):
    assert {path.name for path in exported.iterdir()} == {
        "MODEL_CARD.md", "architecture.json", "export.json", "generator.onnx",
        "generator.stablehlo", "parameters.safetensors",
    }  # fmt: skip
    assert [path.name for path in exported.parent.iterdir()] == ["exported"]
    record = json.loads((exported / "export.json").read_text())
    assert record["step"] == 4 and record["not_written"] == {}
    assert record["inputs"]["z"]["shape"] == ["b", 4] and record["ms_a_sample"] > 0
    for form, row in record["forms"].items():
        assert row["bytes"] == (exported / _forms.NAMES[form]).stat().st_size
        assert row["largest_difference"] <= 1e-4
    assert record["forms"]["onnx"]["ms_a_sample"] > 0


def test_the_program_needs_jax_alone(exported):
    refused = {"jaxgan", "experiments", "flax", "optax", "orbax", "chex"}
    code = _block(exported, "With JAX alone")
    assert len(code.strip().splitlines()) <= 10
    assert "`pip install jax flatbuffers`" in (exported / "MODEL_CARD.md").read_text()
    assert _alone(exported, code, refused) == "(4, 8, 8, 1) float32\n"


def test_the_onnx_model_needs_onnxruntime_alone(exported):
    code = _block(exported, "With onnxruntime")
    made = _alone(exported, code, {"jaxgan", "experiments", "jax", "flax"})
    assert made == "(4, 8, 8, 1) float32\n"


def test_the_program_is_ours_on_every_platform_and_of_any_number(exported):
    loaded = jax_export.deserialize(bytearray((exported / "generator.stablehlo").read_bytes()))
    assert loaded.platforms == ("cpu", "cuda", "tpu")
    trained = load.load(runs.conditional(), module=runs.MODULE)
    sampler = trained.experiment.sample
    for num in (1, 3):
        z = np.asarray(sampler.draw(jax.random.key(num), num))
        label = np.full(num, 2, np.int32)
        (made,) = loaded.call(z, label)
        expected = sampler.generate(trained.variables, z, label)["image"]
        np.testing.assert_allclose(made, expected, atol=1e-6)


def test_parameters_are_those_of_the_checkpoint(exported):
    _, variables = checkpoint.restore_generator(runs.conditional() / "checkpoints")
    read = safetensors_file.read(exported / "parameters.safetensors")
    ours = _forms.flattened(variables)
    assert read.keys() == ours.keys() and "params.Dense_0.kernel" in read
    for name, x in ours.items():
        np.testing.assert_array_equal(read[name], x)
    described = json.loads((exported / "architecture.json").read_text())
    assert described["network"]["class"] == "tests.helpers.tiny.DenseGen"
    assert described["network"]["num_classes"] == 3
    assert described["parameters"]["params.Dense_0.kernel"]["shape"] == [7, 8]


def test_parameters_that_are_numbers_stay_numbers(tmp_path):
    variables = {"params": {"strength": np.float32(2), "turned": np.ones((2, 3), np.float32).T}}
    _forms.write("safetensors", tmp_path, None, variables)
    read = safetensors_file.read(tmp_path / "parameters.safetensors")
    assert read["params.strength"].shape == () and read["params.turned"].shape == (3, 2)


def test_the_card_says_what_a_stranger_asks(exported):
    card = (exported / "MODEL_CARD.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\n")
    assert "Examples: 40." in card and "## Intended use" in card
    assert "--conditional=True" in card and "--data_dir" not in card
    assert "Not measured: run `python -m experiments.evaluate" in card


def test_scores_stand_beside_their_floors(tmp_path):
    shutil.copytree(runs.conditional(), tmp_path / "run")
    scores = {
        "step": 4,
        "frechet_distance": 12.5,
        "floor": {"frechet_distance": 3.25},
        "nearer_to_train": 0.625,
    }
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(scores))
    export.run(_config(tmp_path / "run", tmp_path / "out", forms="safetensors"))
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "| frechet_distance | 12.5 | 3.25 |" in card
    assert "62.5% of the samples lie nearer to a training image" in card
    assert "No licence was stated" in card
    (tmp_path / "run" / "evaluation.json").write_text("[")
    with pytest.raises(UserError, match="evaluation.json is damaged"):
        export.run(_config(tmp_path / "run", tmp_path / "new", forms="safetensors"))


def test_a_form_without_words_for_it_is_one_line_and_the_others_are_written(
    tmp_path, monkeypatch, capsys
):
    def convert(*_):
        raise onnx.Inexpressible("ONNX: the network has the operation fft, which has no rule here")

    monkeypatch.setattr(onnx, "convert", convert)
    out = tmp_path / "out"
    record = export.run(_config(runs.conditional(), out, forms="onnx,safetensors"))
    line = "onnx: not written: ONNX: the network has the operation fft, which has no rule here"
    assert line in capsys.readouterr().out.splitlines()
    assert list(record["forms"]) == ["safetensors"] and "onnx" in record["not_written"]
    assert not (out / "generator.onnx").exists()
    with pytest.raises(UserError, match="none of them can express this generator"):
        export.run(_config(runs.conditional(), tmp_path / "new", forms="onnx"))
    assert not (tmp_path / "new").exists()


def test_a_form_that_makes_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_forms, "tolerance", lambda ours: -1.0)
    forms = "stablehlo,safetensors"
    record = export.run(_config(runs.conditional(), tmp_path / "out", forms=forms))
    assert "differs from ours by" in record["not_written"]["stablehlo"]


def test_an_export_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    def stopped(form, folder, function, variables):
        (folder / "half").write_text("a")
        raise KeyboardInterrupt

    (tmp_path / ".out.unfinished").mkdir()  # of one that was killed
    (tmp_path / ".out.unfinished" / "generator.onnx").write_text("half")
    monkeypatch.setattr(_forms, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        export.run(_config(runs.conditional(), tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forms": "onnx,torch"}, "--forms=onnx,torch: torch is none of stablehlo, onnx, safe"),
        ({"out": ""}, "--out is empty"),
        ({"out": "no/such/folder"}, "is not a folder that can be written"),
        ({"workdir": ""}, "--workdir is empty"),
        ({"workdir": "/no/such/run"}, "holds no run"),
        ({"member": 1}, "--member=1: the run has 1, counted from 0"),
        ({"direction": "ab"}, "--direction=ab: not a generator of images from images"),
    ],
)
def test_mistakes_are_named(tmp_path, settings, message):
    config = {"workdir": str(runs.conditional()), "out": str(tmp_path / "out"), **settings}
    with pytest.raises(UserError, match=message):
        export.run(export.Config(module=runs.MODULE, **config))
    assert command.tree(tmp_path) == []


def test_a_folder_that_holds_something_is_left_alone(exported):
    with pytest.raises(UserError, match="holds something already; name a new folder"):
        export.run(_config(runs.conditional(), exported))


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = "onnx needs onnx and onnxruntime: pip install onnx onnxruntime, or leave it away: "
    with pytest.raises(UserError, match=f"{message}--forms=safetensors$"):
        export.run(_config(runs.conditional(), tmp_path / "out", forms="onnx,safetensors"))
    with pytest.raises(UserError, match="--forms=stablehlo: stablehlo needs flatbuffers: pip inst"):
        export.run(_config(runs.conditional(), tmp_path / "out", forms="stablehlo"))


def _check_forms(function, variables, folder):
    """Writes the two programs and compares them."""
    given = function.example(3)
    ours = function.ours(given)
    for form in ("stablehlo", "onnx"):
        _forms.write(form, folder, function, variables)
        made = _forms.runner(form, folder, function)(given)
        assert _forms.difference(ours, made) <= _forms.tolerance(ours), form
    return ours


def test_text_is_written_by_random_numbers_that_are_given(tmp_path):
    words = tuple(f"w{n}" for n in range(9))
    spec = Spec("", shapes={"text": (4,), "length": ()}, vocabulary=words, unit="words")
    made = text.build(text.Config(hidden=4, embedding=4), spec)
    gen, tokens = made.sample.gen, jnp.ones((1, 4), jnp.int32)
    fresh = jax.jit(lambda key: gen.init(key, tokens, train=False))
    variables = jax.tree.map(np.asarray, fresh(jax.random.key(0)))
    function = _functions.of(made, variables, spec)
    ours = _check_forms(function, variables, tmp_path)
    assert ours["text"].shape == (3, 4) and ours["text"].dtype == np.int32
    drawn = set(np.ravel(function.ours(function.example(200))["text"]))
    assert vocabulary.UNKNOWN not in drawn and {vocabulary.END, 3, 8} <= drawn


def test_holes_are_filled_in_by_picture_and_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(_functions, "SIDE", 16)
    spec = Spec("", shapes={"image": (16, 16, 1)})
    config = restore.Config(task="inpaint", net="unet", widths="4,8", blocks=1, crop=16, channels=1)
    made = restore.build(config, spec)
    gen = made.translator.gen
    fresh = jax.jit(lambda key: gen.init(key, jnp.zeros((1, 16, 16, 2)), train=False))
    variables = jax.tree.map(np.asarray, fresh(jax.random.key(0)))
    function = _functions.of(made, variables, spec)
    assert list(function.inputs) == ["image", "mask"]
    assert str(function.inputs["image"].shape[1]).endswith("*h")
    ours = _check_forms(function, variables, tmp_path)
    assert ours["translated"].shape == (3, 16, 16, 1)


@pytest.mark.slow
def test_the_program_runs_where_nothing_but_jax_is_installed(exported, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    version = importlib.metadata.version("jax")
    pip = [python, "-m", "pip", "install", "--quiet", f"jax=={version}", "flatbuffers"]
    subprocess.run(pip, check=True, timeout=600)
    listed = subprocess.run(
        [python, "-m", "pip", "list"], check=True, capture_output=True, text=True
    ).stdout
    assert "flax" not in listed and "jaxgan" not in listed
    made = _alone(exported, _block(exported, "With JAX alone"), {"jaxgan"}, python=python)
    assert made == "(4, 8, 8, 1) float32\n"
