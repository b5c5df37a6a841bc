"""Cases 51 to 59 and 61 of a command line gone wrong: each one line, before anything compiles.

What tests/cli_test.py shows through whole processes is not shown again here: 51 (a line or a word
that is no flag), 53 (values out of range), 55 (a missing flagfile), 56 (unknown flags) and 57
(unknown names).
"""

import dataclasses
import os
import tempfile
from unittest import mock

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgan.run import cli, flagfiles, rundir
from jaxgan.types import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    workdir: str = cli.field("", "Where.", changeable=True)
    loss: str = cli.field("hinge", "Loss.", choices=("hinge", "minimax"))
    size: int = cli.field(8, "Examples.", minimum=1)
    rate: float = cli.field(0.1, "Rate.", above=0)
    fast: bool = cli.field(False, "Haste.")

    def __post_init__(self):
        cli.check(self)


def parse(*argv, config=Config):
    """The config that a command line gives, with flags of its own."""
    values = flags.FlagValues()
    names = cli.define(config, registry=values)
    with mock.patch.object(flags, "FLAGS", values):
        flagfiles.parse(["program", *argv])
    return config(**{name: values[name].value for name in names})


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"--flagfile={path}"


@pytest.mark.parametrize(
    "text",
    [
        "size=3",
        "--size 3",
        "--size\t3",
        "--size =3",
        "--",
        "-",
        "=3",
        "and so on",
        "--size=3 \n 3",
        "--nofast=true",
        "--fast=perhaps",
        "--size=" + "9" * 5000,
        "--size=1e3",
        "--workdir\n--size=3",
        "--workdir= --size=3",
        "--flagfile",
        "--flagfile=",
        "--flagfile= ",
        "--flagfile=/",
        "--flagfile=a\0b",
        "--flagfile=" + "x" * 5000,
        "\0",
    ],
)
def test_51_a_line_that_is_no_flag_or_has_no_value_is_refused(tmp_path, text):
    with pytest.raises(UserError):
        parse(write(tmp_path / "a.flags", text))


def test_51_the_message_of_a_long_line_is_short(tmp_path):
    with pytest.raises(UserError) as caught:
        parse(write(tmp_path / "a.flags", "word " * 10_000))
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("quote", ["'", '"'])
def test_52_quotes_are_refused_wherever_a_value_begins_with_one(tmp_path, quote):
    with pytest.raises(UserError, match="line 1: write --loss=value without quotes"):
        parse(write(tmp_path / "a.flags", f"--loss={quote}hinge{quote}"))
    with pytest.raises(UserError, match="write it without quotes"):
        parse(f"--workdir={quote}a b{quote}")
    assert parse(f"--workdir=it{quote}s").workdir == f"it{quote}s"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 2**31}, "--size=2147483648 is beyond 2147483647"),
        ({"size": 10**400}, "is beyond 2147483647"),
        ({"size": -(10**400)}, "is beyond 2147483647"),
        ({"size": None}, "--size=None is not a number"),
        ({"rate": "0.1"}, "--rate=0.1 is not a number"),
        ({"workdir": None}, "--workdir=None is not text"),
        ({"rate": -float("inf")}, "--rate=-inf is not a finite number"),
        ({"workdir": "a\nb"}, "--workdir=a b holds a line break"),
        ({"workdir": "a\0b"}, r"--workdir=a\x00b holds a line break or another character"),
        ({"workdir": "a\udcffb"}, "another character that cannot stand in a flagfile"),
        ({"workdir": "run "}, "starts or ends with a space"),
        ({"workdir": "--size=3"}, "looks like the next flag; was a value left out?"),
        ({"workdir": "~nobody_of_this_name/run"}, "names a user who has no home directory"),
    ],
)
def test_53_a_value_that_no_run_could_use_is_named_in_one_line(settings, words):
    with pytest.raises(UserError) as caught:
        Config(**settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("words", "value", "warning"),
    [
        (["--size=3", "--size=4"], 4, "--size is 3 on the command line and 4 on the command line"),
        (["--size", "3", "--size", "4"], 4, "--size is 3 on the command line and 4 on"),
        (["--size=3", "FILE"], 7, "--size is 3 on the command line and 7 in "),
        (["FILE", "OTHER"], 9, "--size is 7 in "),
        (["--fast", "--size=7", "--nofast"], 7, "--fast is True on the command line and False"),
        (["TWICE"], 2, "twice.flags, line 1 and 2 in "),
        (["FILE", "--size=3"], 3, ""),  # an override, as meant
        (["OUTER"], 8, ""),
        (["--size=3", "--size=3"], 3, ""),
        (["--rate=1e-1", "--rate=0.10"], 8, ""),
    ],
)
def test_54_two_values_of_one_flag_are_reported(tmp_path, capsys, words, value, warning):
    files = {
        "FILE": write(tmp_path / "a.flags", "--size=7\n"),
        "OTHER": write(tmp_path / "b.flags", "--size=9\n"),
        "TWICE": write(tmp_path / "twice.flags", "--size=1\n--size=2\n"),
        "OUTER": write(tmp_path / "c.flags", f"--flagfile={tmp_path}/a.flags\n--size=8\n"),
    }
    assert parse(*(files.get(word, word) for word in words)).size == value
    said = capsys.readouterr().err
    assert warning in said and said.count("\n") == bool(warning), said


def test_55_a_byte_order_mark_and_windows_line_ends_are_read_over(tmp_path):
    found = parse(write(tmp_path / "a.flags", b"\xef\xbb\xbf--size=3\r\n# rest\r\n--fast\r\n"))
    assert (found.size, found.fast) == (3, True)


def test_55_a_circle_of_flagfiles_is_one_line(tmp_path):
    write(tmp_path / "a.flags", f"--flagfile={tmp_path}/b.flags")
    first = write(tmp_path / "b.flags", f"--flagfile={tmp_path}/sub/../a.flags")
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match="b.flags includes itself; remove its --flagfile line"):
        parse(first)


def test_55_flagfiles_that_double_each_time_are_given_up(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i}", f"--flagfile={tmp_path}/{i + 1}\n" * 2)
    write(tmp_path / "30", "")
    with pytest.raises(UserError, match="includes more than 100 others"):
        parse(f"--flagfile={tmp_path}/0")


def test_55_a_flagfile_without_end_is_given_up():
    with pytest.raises(UserError, match="not a text file"):
        parse("--flagfile=/dev/zero")


def test_55_a_flagfile_may_come_through_a_pipe():
    read, write = os.pipe()
    os.write(write, b"--size=3\n")
    os.close(write)
    try:
        assert parse(f"--flagfile=/dev/fd/{read}").size == 3
    finally:
        os.close(read)


@pytest.mark.parametrize("name", ["mnist_best", "mnist_best.flags"])
def test_55_a_bundled_flagfile_is_found_by_name_unless_a_file_is_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "flags"
    folder.mkdir(parents=True)
    write(folder / "mnist_best.flags", "--size=3")
    monkeypatch.setattr(flagfiles, "bundled", lambda: {"mnist_best": folder / "mnist_best.flags"})
    assert parse(f"--flagfile={name}").size == 3
    assert parse(write(tmp_path / "outer.flags", f"--flagfile={name}\n--fast")).size == 3
    write(tmp_path / name, "--size=4")
    assert parse(f"--flagfile={name}").size == 4
    with pytest.raises(UserError, match="flagfile nowhere/mnist_best: No such .* mnist_best?"):
        parse("--flagfile=nowhere/mnist_best")


def test_55_an_unknown_flagfile_names_the_nearest_bundled_ones():
    with pytest.raises(UserError, match="No such file.*; did you mean the bundled mnist_best"):
        parse("--flagfile=mnist_bset.flags")
    with pytest.raises(UserError, match="; bundled are ") as refused:
        parse("--flagfile=xyz")
    named = str(refused.value).partition("; bundled are ")[2].split(", ")
    assert named == sorted(flagfiles.bundled()) and "mnist_best" in named


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("--lr=1", "--lr; did you mean --disc_lr, --gen_lr or --lr_final?"),
        ("--siz=1", "--siz; did you mean --size?"),
        ("--nofats", "--nofats; did you mean --fast?"),
        ("--workdri=x", "--workdri; did you mean --workdir?"),
        ("--q", "--q"),
    ],
)
def test_56_an_unknown_flag_names_the_nearest_and_its_place(tmp_path, word, hint):
    config = dataclasses.make_dataclass(
        "More",
        [(name, float, cli.field(0.5, "Rate.")) for name in ("gen_lr", "disc_lr", "lr_final")],
        bases=(Config,),
        frozen=True,
    )
    with pytest.raises(UserError) as caught:
        parse(word, config=config)
    assert str(caught.value) == f"unknown flag {hint}"
    with pytest.raises(UserError, match=r"unknown flag --\w+ in .*a.flags, line 2"):
        parse(write(tmp_path / "a.flags", f"\n{word}"), config=config)


def test_55_a_flagfile_lies_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.flags", "--flagfile=~/b.flags")
    write(tmp_path / "b.flags", "--size=3")
    assert parse("--flagfile", "~/a.flags").size == 3
    with pytest.raises(UserError, match="cannot read flagfile ~nobody_of_this_name/x: No such"):
        parse("--flagfile=~nobody_of_this_name/x")


def taken(path, **files):
    """Takes a directory as a run, in which files lie already; returns where it is."""
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return open_run(path)


def open_run(path):
    with rundir.RunDir(path, Config(), experiment="some", data={"fingerprint": ""}) as run:
        return run.path


def test_58_a_workdir_is_relative_or_at_home_or_has_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, where in {
        "run": "run",
        "./a/../b/": "b",
        "~/run": "home/run",
        "with  two spaces": "with  two spaces",
        "ünï/実験 🐙": "ünï/実験 🐙",
        "#1 'x' \"y\" $HOME %s": "#1 'x' \"y\" $HOME %s",
    }.items():
        assert open_run(name) == tmp_path / where
        assert (tmp_path / where / "config.json").is_file()
        assert parse(f"--workdir={name}").workdir == name


def test_58_files_of_somebody_else_stay_as_they_are(tmp_path):
    taken(tmp_path / "a", notes="mine", requirements="mine")
    assert (tmp_path / "a" / "notes").read_text() == "mine"


@pytest.mark.parametrize("name", rundir.OURS)
def test_58_files_of_somebody_else_are_not_taken_for_logs_of_a_run(tmp_path, name):
    # Its lines would be dropped as those of steps beyond the checkpoint.
    with pytest.raises(UserError, match=f"holds {name} without config.json; use another workdir"):
        taken(tmp_path / "a", **{name: '{"step": 5}\n'})
    assert (tmp_path / "a" / name).read_text() == '{"step": 5}\n'
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".lock", name]


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 30), "loop/run", "loop"])
def test_59_a_workdir_that_no_file_system_takes_is_one_line(tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="workdir .* cannot be written: "):
        open_run(tmp_path / name)


def test_61_a_device_that_is_not_there_is_one_line(capsys):
    def start():
        raise RuntimeError("Unable to initialize backend 'cuda': none\n(set JAX_PLATFORMS=cpu)")

    with pytest.raises(SystemExit) as caught:
        cli.or_one_line(start)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.startswith("error: no device: Unable")
    assert said.count("\n") == 1 and "JAX_PLATFORMS=cpu" in said


def test_a_message_is_one_line_whatever_it_quotes(capsys):
    def refuse():
        raise UserError("file a\nb\x1b[2J\0" + "x" * 9999)

    with pytest.raises(SystemExit):
        cli.or_one_line(refuse)
    said = capsys.readouterr().err
    assert said.startswith(r"error: file a b\x1b[2J\x00xxx")
    assert said.count("\n") == 1 and "\x1b" not in said and len(said) < 2100


LINES = st.one_of(
    st.sampled_from(
        ["--size=3", "--fast", "--nofast", "--size", "# x", "--rate=nan", "-size=4", "--workdir=x"]
    ),
    st.builds("--{}={}".format, st.sampled_from(["size", "workdir", "loss", ""]), st.text()),
    st.text(),
)


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(LINES).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    )
)
def test_nothing_but_a_user_error_comes_out_of_any_flagfile(content):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            assert isinstance(parse(f"--flagfile={file.name}"), Config)
        except UserError as error:
            assert "\n" not in str(error)


@settings(max_examples=150, deadline=None)
@given(words=st.lists(st.one_of(LINES, st.just("--"), st.just("--flagfile")), max_size=5))
def test_nothing_but_a_user_error_comes_out_of_any_words(words):
    try:
        assert isinstance(parse(*words), Config)
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=150, deadline=None)
@given(
    workdir=st.text(),
    loss=st.sampled_from(["hinge", "minimax"]),
    size=st.integers(1, 2**31 - 1),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    fast=st.booleans(),
)
def test_every_config_that_is_accepted_comes_back_from_its_flagfile(**values):
    try:
        config = Config(**values)
    except UserError:  # only text can be refused here
        assert values["workdir"]
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(cli.as_flags(config))
        file.flush()
        assert parse(f"--flagfile={file.name}") == config
