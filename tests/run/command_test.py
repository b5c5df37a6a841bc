"""The command `jaxgan`: from any folder, and from a wheel."""

import json
import os
import subprocess
import sys
import venv

import pytest

from jaxgan.run import command as jaxgan_command
from tests.helpers import command, runs

SMALL = runs.flags("", parallel="pmap")  # pmap: a dry run then compiles nothing


def _jaxgan(*argv, cwd):
    return command.run("jaxgan.run.command", *argv, cwd=cwd)


@pytest.mark.parametrize(
    ("module", "argv"),
    [("jaxgan.run.command", ()), ("jaxgan.run.command", ("--help",)), ("experiments", ("help",))],
)
def test_experiments_are_listed_with_one_line_each(tmp_path, module, argv):
    result = command.run(module, *argv, cwd=tmp_path)
    assert result.code == 0 and result.err == "", result
    lines = result.out.splitlines()
    assert lines[0].startswith("usage: jaxgan EXPERIMENT")
    middle = lines.index("flagfiles, for --flagfile=NAME:")
    for each, some in (
        (lines[2 : middle - 1], {"mnist", "sample", "evaluate"}),
        (lines[middle + 2 : -2], {"quickstart", "mnist_best", "denoise"}),
    ):
        names = [line.split()[0] for line in each]
        assert some <= set(names) and names == sorted(names)
        assert all(len(line.split()) > 3 for line in each)


def test_an_unknown_experiment_names_the_nearest(tmp_path):
    message = command.mistake("jaxgan.run.command", "mnits", cwd=tmp_path)
    assert message.startswith('experiment "mnits" is not one of apply, bench, ')
    assert message.endswith('did you mean "mnist"?')


def test_an_experiment_runs_from_any_folder_and_is_recorded_by_its_module(tmp_path):
    settings = {"num_steps": 1, "sample_every": 5}
    result = _jaxgan("mnist", *runs.flags("run", **settings), cwd=tmp_path)
    assert result.code == 0 and result.err == "", result
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["experiment"] == "experiments.mnist"
    result = _jaxgan("sample", "--workdir=run", "--num=2", "--out=x.npz", cwd=tmp_path)
    assert result.code == 0 and (tmp_path / "x.npz").is_file(), result


def test_bundled_flagfiles_and_help_work_from_any_folder(tmp_path):
    result = _jaxgan("mnist", "--flagfile=mnist_best", *SMALL, "--dry_run", cwd=tmp_path)
    assert result.code == 0 and "--conditional=True\n" in result.out, result
    result = _jaxgan("mnist", "--helpshort", cwd=tmp_path)
    assert "A DCGAN on digits" in result.out and "--batch_size:" in result.out
    assert os.listdir(tmp_path) == []


def test_experiments_that_are_not_installed_are_one_line(monkeypatch):
    monkeypatch.setattr(jaxgan_command, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="no_such_package is not installed; install jaxgan again"):
        jaxgan_command.available()


@pytest.mark.slow  # builds a wheel and a virtual environment
def test_the_wheel_has_all_that_the_command_needs(tmp_path):
    pytest.importorskip("hatchling")  # building must not download it
    # A path to the sources would come before what is installed.
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}

    def run(*argv):
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, check=True, text=True, stdout=subprocess.PIPE
        )
        return done.stdout

    pip, options = (sys.executable, "-m", "pip"), ("--no-deps", "--no-build-isolation")
    run(*pip, "wheel", *options, "-w", tmp_path, command.ROOT)
    venv.create(tmp_path / "venv")
    program = tmp_path / "venv" / "bin"
    run(*pip, "--python", program / "python", "install", "--no-deps", *tmp_path.glob("*.whl"))
    # The dependencies are those of this environment, after what is installed in the new one.
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(paths))
    found = run(program / "python", "-c", "import jaxgan; print(jaxgan.__file__)")
    assert found.startswith(str(tmp_path))
    assert "  mnist " in run(program / "jaxgan")
    out = run(program / "jaxgan", "mnist", "--flagfile=mnist_best", *SMALL, "--dry_run")
    assert "--conditional=True\n" in out
