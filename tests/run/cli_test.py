"""The command line: fields that check themselves, flagfiles, and mistakes that cost one line."""

import dataclasses
import importlib
import logging
import sys

import pytest
from absl import flags

from experiments import mnist
from jaxgan.run import cli
from jaxgan.run.config import RunConfig
from jaxgan.types import UserError, lookup
from tests.helpers import command, runs

EXPERIMENTS = [
    f"experiments.{path.stem}" for path in sorted((command.ROOT / "experiments").glob("[!_]*.py"))
]


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = cli.field("adam", "Optimiser.", choices=("adam", "sgd"))
    text: str = cli.field("", "Anything.")
    size: int = cli.field(8, "Examples.", minimum=1)
    rate: float = cli.field(0.1, "Rate.", above=0)
    decay: float = cli.field(0.5, "Decay.", minimum=0, below=1)
    fast: bool = cli.field(False, "Haste.")

    def __post_init__(self):
        cli.check(self)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adamm"}, '--name=adamm is not one of adam, sgd; did you mean "adam"?'),
        ({"name": "xyz"}, "--name=xyz is not one of adam, sgd"),
        ({"size": 0}, "--size=0 is below 1, the smallest value accepted"),
        ({"rate": 0.0}, "--rate=0.0 must be above 0"),
        ({"rate": -1.0}, "--rate=-1.0 must be above 0"),
        ({"rate": float("nan")}, "--rate=nan is not a finite number"),
        ({"rate": float("inf")}, "--rate=inf is not a finite number"),
        ({"decay": float("nan")}, "--decay=nan is not a finite number"),
        ({"decay": 1.0}, "--decay=1.0 must be below 1"),
        ({"decay": -0.1}, "--decay=-0.1 is below 0, the smallest value accepted"),
    ],
)
def test_a_value_that_is_not_accepted_is_named(settings, message):
    with pytest.raises(UserError) as caught:
        Config(**settings)
    assert str(caught.value) == message


def test_values_at_the_edge_are_accepted():
    Config(size=1, decay=0.0, rate=1e-9, name="sgd", text="any, thing", fast=True)


@dataclasses.dataclass(frozen=True)
class Annotated:
    half_life: float = cli.field(10_000, "Half-life.")
    rate: "float" = cli.field(1, "Rate.")


def test_the_type_of_a_flag_is_that_of_the_annotation():
    values = flags.FlagValues()
    assert cli.define(Annotated, registry=values) == ["half_life", "rate"]
    values(["program", "--half_life=2500.5", "--rate=0.5"])
    assert (values.half_life, values.rate) == (2500.5, 0.5)
    assert cli.as_flags(Annotated()) == "--half_life=10000.0\n--rate=1.0\n"
    other = dataclasses.make_dataclass("Other", [("many", list, cli.field(3, "Many."))])
    with pytest.raises(TypeError, match="Other.many is annotated .*; a flag is an int, float, "):
        cli.define(other, registry=values)


def test_a_config_is_written_as_a_flagfile():
    config = Config(name="sgd", rate=1e-5, fast=True, text="runs/a b")
    assert cli.as_flags(config).splitlines() == [
        "--name=sgd",
        "--text=runs/a b",
        "--size=8",
        "--rate=1e-05",
        "--decay=0.5",
        "--fast=True",
    ]


def test_lookup_names_the_nearest():
    assert lookup({"hinge": 3}, "hinge", "loss") == 3
    with pytest.raises(UserError) as caught:
        lookup({"hinge": 3, "minimax": 4}, "hing", "loss")
    assert str(caught.value) == 'loss "hing" is not one of hinge, minimax; did you mean "hinge"?'


MNIST = "experiments.mnist"


def _mistake(*argv, code=2):
    return command.mistake(MNIST, *argv, code=code)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--batchsize=3", ["unknown flag --batchsize", "did you mean --batch_size?"]),
        ("--lr=3", ["--lr; did you mean --disc_lr, --gen_lr or --lr_decay?"]),
        ("--no_such_thing_at_all=3", ["no_such_thing_at_all"]),
        ("--num_steps=many", ["num_steps", "many"]),
        ("--loss=hing", ["--loss=hing", "nonsaturating", 'did you mean "hinge"?']),
        ("batch_size=3", ['unexpected argument "batch_size=3"', "--name=value"]),
    ],
)
def test_a_bad_flag_is_one_line_and_writes_nothing(tmp_path, flag, words):
    message = _mistake(f"--workdir={tmp_path / 'run'}", flag)
    assert all(word in message for word in words), message
    assert command.tree(tmp_path) == []


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--loss=hing", ["--loss=hing", "nonsaturating", 'did you mean "hinge"?']),
        ("--penalty=r1_r3", ["--penalty=r1_r3", 'did you mean "r1_r2"?']),
        ("--parallel=pmapp", ["--parallel=pmapp", 'did you mean "pmap"?']),
        ("--batch_size=0", ["--batch_size=0", "1"]),
        ("--batch_size=-8", ["--batch_size=-8"]),
        ("--gen_lr=nan", ["--gen_lr=nan", "finite"]),
        ("--disc_lr=-1e-4", ["--disc_lr=-0.0001", "above 0"]),
        ("--gen_lr=inf", ["--gen_lr=inf", "finite"]),
        ("--gamma=-1", ["--gamma=-1", "0"]),
        ("--gamma=nan", ["--gamma=nan"]),
        ("--beta1=1", ["--beta1=1", "below 1"]),
        ("--ema_half_life=nan", ["--ema_half_life=nan"]),
        ("--seed=-1", ["--seed=-1"]),
        ("--cpu_devices=-2", ["--cpu_devices=-2"]),
        ("--image_size=27", ["image_size 27", "28"]),
        ("--gen_features=8,x", ["--gen_features=8,x", "128,64"]),
        ("--disc_norm=batch", ["--disc_norm=batch", "--penalty=r1_r2", "group"]),
    ],
)
def test_a_value_that_an_experiment_does_not_accept_is_one_line(flag, words):
    # What `cli.main` does with a line of flags, without a process for each.
    registry = flags.FlagValues()
    names = cli.define(mnist.Config, registry=registry)
    registry(["program", flag])
    with pytest.raises(UserError) as caught:
        mnist.Config(**{name: registry[name].value for name in names})
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message, message


def test_no_workdir_is_said():
    assert "--workdir" in _mistake("--image_size=8")


def test_a_batch_must_divide_over_the_devices(tmp_path):
    argv = runs.flags(tmp_path / "run", batch_size=10, cpu_devices=8)
    message = _mistake(*argv)
    assert message == "batch_size 10 does not divide over 8 devices; try 8 or 16"
    assert command.tree(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_size 3\n", ["line 1", "batch_size 3"]),
        ("--batch_size 3\n", ["line 1", "--batch_size 3"]),
        ('--loss="hinge"\n', ["line 1", "--loss", "without quotes"]),
        ("# fine\n\n--data_dir='a b'\n", ["line 3", "--data_dir", "without quotes"]),
        ("--batchsize=3\n", ["batchsize", "batch_size"]),
        ("\ufeffbatch_size=3\n", ["line 1"]),
    ],
)
def test_a_bad_flagfile_is_one_line_that_names_its_line(tmp_path, text, words):
    path = tmp_path / "my.flags"
    path.write_text(text)
    message = _mistake(f"--workdir={tmp_path / 'run'}", f"--flagfile={path}")
    assert all(word in message for word in words), message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("form", ["one word", "two words"])
def test_a_flagfile_is_read_whichever_way_it_is_given(tmp_path, form):
    path = tmp_path / "my.flags"
    path.write_text("--batch_size=3\nnum_steps=4\n")
    argv = [f"--flagfile={path}"] if form == "one word" else ["--flagfile", str(path)]
    message = _mistake(f"--workdir={tmp_path / 'run'}", *argv)
    assert all(word in message for word in ["line 2", '"num_steps=4"', "--name=value"]), message
    assert not (tmp_path / "run").exists()


def test_a_flagfile_without_its_path_is_said():
    assert "flagfile" in _mistake("--flagfile")


def test_a_missing_flagfile_is_named(tmp_path):
    message = _mistake(f"--flagfile={tmp_path / 'no.flags'}")
    assert str(tmp_path / "no.flags") in message and "No such file" in message


def test_a_bad_line_is_found_in_a_flagfile_inside_a_flagfile(tmp_path):
    (tmp_path / "inner.flags").write_text("oops\n")
    (tmp_path / "outer.flags").write_text(f"--flagfile={tmp_path / 'inner.flags'}\n")
    message = _mistake(f"--flagfile={tmp_path / 'outer.flags'}")
    assert "inner.flags, line 1" in message


def test_a_flagfile_that_includes_itself_is_said(tmp_path):
    path = tmp_path / "a.flags"
    path.write_text(f"--flagfile={path}\n")
    assert "includes itself" in _mistake(f"--flagfile={path}")


def test_a_flagfile_that_is_not_text_is_said(tmp_path):
    (tmp_path / "a.flags").write_bytes(b"\xff\xfe\x00\x01")
    assert "not a text file" in _mistake(f"--flagfile={tmp_path / 'a.flags'}")


def test_comments_blank_lines_and_later_flags_work(tmp_path):
    path = tmp_path / "my.flags"
    path.write_text("# a comment\n// another\n\n  --loss=hinge  \n--num_steps=7\n--noconditional\n")
    argv = runs.flags("", parallel="pmap")  # pmap: a dry run then compiles nothing
    result = command.run(MNIST, *argv, f"--flagfile={path}", "--num_steps=9", "--dry_run")
    assert result.code == 0 and result.err == "", result
    assert "--loss=hinge\n--penalty" in result.out and "--num_steps=9\n" in result.out


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_importing_an_experiment_defines_no_flag(name):
    names = {field.name for field in dataclasses.fields(importlib.import_module(name).Config)}
    assert not names & set(flags.FLAGS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_lists_every_flag_of_the_experiment_with_its_help(name):
    module = importlib.import_module(name)
    result = command.run(name, "--helpshort")
    assert result.err == ""
    assert module.__doc__.strip().splitlines()[0] in result.out  # what the experiment is for
    shown = " ".join(result.out.split())
    for field in dataclasses.fields(module.Config):
        assert f"--{field.name}:" in result.out or f"--[no]{field.name}:" in result.out
        assert " ".join(field.metadata["help"].split()[:3]) in shown, field.name
        assert ", ".join(map(str, field.metadata["choices"])) in shown


def test_ctrl_c_before_training_is_one_line(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        cli.or_one_line(interrupted)
    assert caught.value.code == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_not_a_persons_mistake_keeps_its_traceback():
    def broken():
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        cli.or_one_line(broken)


def test_the_tests_module_was_not_given_flags():
    assert "pytest" in sys.modules and "batch_size" not in flags.FLAGS


def test_warnings_of_the_library_read_as_those_of_the_program():
    record = logging.LogRecord("absl", logging.WARNING, "file.py", 7, "%d x %d", (40, 24), None)
    assert cli._Plain().format(record) == "warning: 40 x 24"


def test_a_config_is_made_of_flags_and_flagfiles_without_the_command_line(tmp_path):
    path = tmp_path / "some.flags"
    path.write_text("# a recipe\n--num_steps=7\n--seed=3\n")
    config = cli.from_flags(RunConfig, [f"--flagfile={path}", "--seed=4"])
    assert (config.num_steps, config.seed, config.batch_size) == (7, 4, 128)
    with pytest.raises(UserError, match="Unknown command line flag 'stepps'"):
        cli.from_flags(RunConfig, ["--stepps=1"])
    with pytest.raises(UserError, match="num_steps=0 is below 1"):
        cli.from_flags(RunConfig, ["--num_steps=0"])
