"""Checkpoints and run directories from strangers: each crafted one is refused in one line.

Their manifests are right: `hostile` signs what it has changed. What is damaged, and has a manifest
that says so, is in tests/faults/checkpoint_test.py.
"""

import functools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments import evaluate, sample
from jaxgan.run import checkpoint, load, rundir, transfer
from jaxgan.types import UserError
from tests.faults import hostile, small
from tests.helpers import command, runs, tiny

KERNEL = hostile.KERNEL
HUGE = [2, 10**9, 10**9]


def _settings(**values):
    return functools.partial(hostile.configured, **values)


def _data(**values):
    return functools.partial(hostile.configured, data={"fingerprint": "ring", **values})


def _described(**changes):
    return functools.partial(hostile.described, **changes)


def _text(name, content):
    def write(run):
        (run / name).write_text(content)
        hostile.sign(run)

    return write


def _sparse(name, size):
    def write(run):
        os.truncate(run / name, size)  # a hole: it takes no space
        hostile.sign(run)

    return write


def _long_list(record):
    entry = next(iter(record["tree_metadata"].values()))
    entry["key_metadata"] = [{"key": "999999999", "key_type": 1}]


def _long_name(record):
    entry = next(iter(record["tree_metadata"].values()))
    entry["key_metadata"] = [{"key": "a\nb" * 99, "key_type": 2}]


def _other_value(record):
    next(iter(record["tree_metadata"].values()))["value_metadata"]["value_type"] = "os.system"


STEP, ITEM = "checkpoints/8", "checkpoints/8/gen_ema"
DEEP, ENDLESS = "[" * 10**6, 2**40
# The name says what is hostile; how it is made, and what is said.
KINDS = {
    "giant shape": (_described(shape=HUGE, chunks=HUGE), r"float32\[2, 1000000000, 1000000000\]"),
    "overflowing shape": (_described(shape=[2**62, 2, 4]), "in a way that jaxgan does not write"),
    "giant chunk": (_described(chunks=[2, 4, 10**10]), r"has chunks of \[2, 4, 10000000000\]"),
    "no chunk": (_described(chunks=[0, 4, 4]), r"has chunks of \[0, 4, 4\]"),
    "wrong dtype": (_described(dtype="<f8"), r"is float64\[2, 4, 4\] there, float32\[2, 4, 4\]"),
    "dtype of fields": (_described(dtype=[["a", "<f4"]]), "in a way that jaxgan does not write"),
    "dtype of objects": (_described(dtype="|O"), "is object"),
    "other compressor": (_described(compressor={"id": "blosc"}), "does not write"),
    "zip bomb in a chunk": (hostile.bomb_in_a_chunk, "gen_ema cannot be read: "),
    "zip bomb in a large chunk": (hostile.bomb_in_a_large_chunk, r"\[2, 16384, 32768\] there"),
    "zip bomb in the index": (hostile.bomb_in_the_index, "holds an index of 67.* MB"),
    "missing chunk": (
        lambda run: hostile.stored(run, {f"{KERNEL}/0.0.0": None}),
        rf"a part of {KERNEL}, of shape \[2, 4, 4\], is missing",
    ),
    "missing chunk, said to be zeros": (
        lambda run: (
            hostile.stored(run, {f"{KERNEL}/0.0.0": None}),
            hostile.recorded(run, lambda r: r.update(store_array_data_equal_to_fill_value=False)),
        ),
        rf"a part of {KERNEL}, of shape \[2, 4, 4\], is missing",
    ),
    "missing array": (
        lambda run: hostile.stored(run, {f"{KERNEL}/.zarray": None}),
        f"{KERNEL} is in _METADATA only",
    ),
    "array too many": (
        lambda run: hostile.stored(run, {"params.more/.zarray": "{}"}),
        "params.more is in its index only",
    ),
    "description too deep": (
        lambda run: hostile.stored(run, {f"{KERNEL}/.zarray": DEEP[:60000]}),
        f"{KERNEL} is stored in a way",
    ),
    "another network": (_settings(features=5), r"is float32\[2, 4\] there, float32\[2, 5\] here"),
    "network of a trillion": (hostile.network_of_a_trillion, "its arrays would have 16,000,000,0"),
    "two billion seeds": (_settings(seeds=2**31 - 1), "is not read: "),
    "index that leads elsewhere": (hostile.index_leads_elsewhere, "cannot be read: Invalid key"),
    "index that leads to the root": (
        functools.partial(hostile.index_leads_elsewhere, place="../" * 30 + "tmp/"),
        "cannot be read: Invalid key",
    ),
    "names that climb": (hostile.names_climb, "a format that jaxgan does not write"),
    "manifest that climbs": (hostile.manifest_climbs, "8: gen_ema/.*mine is missing"),
    "link to a file": (
        functools.partial(hostile.linked, name=f"{ITEM}/manifest.ocdbt"),
        "8: gen_ema/manifest.ocdbt is a link",
    ),
    "link to a folder": (functools.partial(hostile.linked, name=f"{ITEM}/d"), "d is a link"),
    "link to an item": (functools.partial(hostile.linked, name=ITEM), "8: gen_ema is a link"),
    "link to a step": (functools.partial(hostile.linked, name=STEP), "8: it is a link"),
    "pipe in an item": (functools.partial(hostile.special, name=f"{ITEM}/pipe"), "pipe is a link,"),
    "pipe as a manifest": (
        functools.partial(hostile.special, name=f"{STEP}/manifest.json"),
        "manifest.json is a link, or not a file",
    ),
    "pipe as a record": (
        functools.partial(hostile.special, name="config.json"),
        "config.json is not the record of a run",
    ),
    "device as a record": (
        functools.partial(hostile.special, name="config.json", kind="/dev/zero"),
        "config.json is not the record of a run",
    ),
    "deep record of arrays": (_text(f"{ITEM}/_METADATA", DEEP), "_METADATA cannot be read as JSON"),
    "giant record of arrays": (_sparse(f"{ITEM}/_METADATA", 2**25), "is larger than 16 MiB"),
    "record of a giant list": (
        lambda run: hostile.recorded(run, _long_list),
        "a list of more than 10000 items",
    ),
    "record of long names": (
        lambda run: hostile.recorded(run, _long_name),
        "holds a name that no array has",
    ),
    "record of another kind": (
        lambda run: hostile.recorded(run, _other_value),
        "holds a os.system, which is no array",
    ),
    "deep settings": (_text("config.json", DEEP), "is not the record of a run"),
    "giant settings": (_sparse("config.json", ENDLESS), "is not the record of a run"),
    "setting that is text": (_settings(features="abc"), "--features=abc is not a number"),
    "setting that is a list": (_settings(features=[1]), r"--features=\[1\] is not a number"),
    "setting that is nested": (_settings(loss={"a": {}}), "--loss=.* is not one of"),
    "setting without end": (_settings(gamma=float("inf")), "--gamma=inf is not a finite number"),
    "setting that is a fraction": (_settings(features=2.5), "2.5 is not a whole number"),
    "setting that is long": (_settings(workdir="a" * 10**5), "longer than 4096 characters"),
    "setting that is unknown": (_settings(**{"a\nb" * 99: 1}), "has the setting a b"),
    "data that are malformed": (_data(shapes=3), 'the record of the training data.*"shapes" is 3'),
    "data of a trillion classes": (_data(num_classes=10**12), '"num_classes" is 1000000000000'),
    "module of Python": (_settings(experiment="os"), "holds a run of os, which is not"),
    "module that climbs": (_settings(experiment="experiments...jaxgan"), "not one of experiments"),
    "module that runs": (_settings(experiment="experiments.__main__"), "not one of experiments"),
    "module that is a tool": (_settings(experiment="experiments.sample"), "trains nothing"),
}
MEMORY = [
    "giant shape",
    "giant chunk",
    "zip bomb in a chunk",
    "zip bomb in a large chunk",
    "zip bomb in the index",
    "network of a trillion",
    "two billion seeds",
]


def _tree(folder):
    """What everything in a folder is, when it was changed, and its content."""

    def what(path):
        found = path.lstat()
        return path, found.st_mode, found.st_ino, found.st_mtime_ns

    paths = sorted(folder.rglob("*"))
    return [(*what(path), path.is_file() and path.read_bytes()) for path in paths]


@pytest.fixture
def run(tmp_path):
    """A run, and beside it a folder of somebody else's."""
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "mine").write_text("mine")
    return hostile.copied(tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_is_refused_in_one_line_and_touches_nothing(run, kind):
    make, said = KINDS[kind]
    make(run)
    before = _tree(run.parent / "neighbour")
    with pytest.raises(UserError, match=said) as caught:
        load.load(run)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    assert _tree(run.parent / "neighbour") == before


def test_no_stranger_takes_the_memory(tmp_path):
    (tmp_path / "neighbour").mkdir()
    crafted = [hostile.copied(tmp_path / kind.replace(" ", "_")) for kind in MEMORY]
    for kind, place in zip(MEMORY, crafted, strict=True):
        KINDS[kind][0](place)
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.hostile", *crafted],
        cwd=command.ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    *errors, peak = result.stdout.splitlines()
    assert (result.returncode, len(errors)) == (0, len(MEMORY)), result
    assert int(peak) < 10**9


def test_the_command_ends_with_the_exit_code_of_a_mistake(run):
    hostile.bomb_in_a_chunk(run)
    said = command.mistake("experiments.sample", f"--workdir={run}", f"--out={run / 'a.png'}")
    assert "gen_ema cannot be read" in said and not (run / "a.png").exists()


STATE = {
    "giant shape": (_described(shape=HUGE[1:], chunks=HUGE[1:]), r"is float32\[1000000000, 1000"),
    "giant chunk": (_described(chunks=[3, 10**10]), r"has chunks of \[3, 10000000000\]"),
    "wrong dtype": (_described(dtype="<i4"), "int32.* there"),
    "zip bomb": (functools.partial(hostile.bomb_in_a_chunk, chunk="0.0"), "state cannot be read: "),
    "missing chunk": (
        lambda run, name, item: hostile.stored(run, {f"{name}/0.0": None}, item),
        "is missing",
    ),
}


@pytest.mark.parametrize("kind", STATE)
def test_what_is_trained_on_is_checked_like_what_is_sampled(tmp_path, kind):
    make, said = STATE[kind]
    folder = tmp_path / "checkpoints"
    with checkpoint.manager(folder) as manager:
        checkpoint.save(manager, small.state(8, step=8))
    make(tmp_path, name="gen.params.dense.kernel", item="state")
    for take in (checkpoint.restore_from, _resumed, _begun):
        with pytest.raises(UserError, match=said) as caught:
            take(folder, small.state(0.0))
        assert "\n" not in str(caught.value)


def _resumed(folder, fresh):
    with checkpoint.manager(folder) as manager:
        return checkpoint.restore(manager, fresh)


def _begun(folder, fresh):
    record = {"experiment": "a\nb" * 99, "data": {"fingerprint": ""}, "config": {"image_size": []}}
    (folder.parent / "config.json").write_text(json.dumps(record))
    config = runs.config("", init_from=str(folder.parent))
    return transfer.start(transfer.find(config, fresh, module="", metric=""), fresh)


def test_a_good_run_is_read_from_any_path_and_left_as_it_was(tmp_path):
    expected = load.load(hostile.FIXTURE).variables
    for name in ("a[0]b", "* ? 50% %20 #1 ü ~ [!x] {run} $HOME "):
        run = hostile.copied(tmp_path / name / "run")
        before = _tree(run)
        assert tiny.equal(load.load(run).variables, expected), name
        assert _tree(run) == before


@pytest.mark.parametrize("name", ["back\\slash", "imgs:"])
def test_a_path_that_tensorstore_takes_for_another_is_refused(tmp_path, name):
    run = hostile.copied(tmp_path / name / "run")
    with pytest.raises(UserError, match="nothing can be read at a path with .*; rename"):
        load.load(run)


def test_a_run_may_itself_be_a_link_and_so_may_its_checkpoints(tmp_path):
    run = hostile.copied(tmp_path / "far" / "run")
    (run / "checkpoints").rename(tmp_path / "disk")
    (run / "checkpoints").symlink_to(tmp_path / "disk")
    (tmp_path / "near").symlink_to(run)
    assert load.load(tmp_path / "near").step == 8


def test_numbers_may_be_anything(run):
    bytes_of_nan = np.full(hostile.SHAPE, np.nan, np.float32).tobytes()
    raw = hostile.zeros(0)[:6] + (len(bytes_of_nan) << 3 | 1).to_bytes(3, "little") + bytes_of_nan
    hostile.stored(run, {f"{KERNEL}/0.0.0": raw})
    assert np.isnan(load.load(run).variables["params"]["Dense_1"]["kernel"]).all()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("../neighbour/mine")])
def test_scores_are_not_written_through_a_strangers_file(run, make):
    make(run / "evaluation.json")
    with pytest.raises(UserError, match="evaluation.json is a link, or not a file; .*--out=FILE"):
        evaluate.run(evaluate.Config(workdir=str(run)))
    assert (run.parent / "neighbour" / "mine").read_text() == "mine"


def test_a_strangers_log_does_not_hang_or_confuse(run):
    log = run / "metrics.jsonl"
    log.write_text(json.dumps({"step": 8, "eval/kl": ["a"]}) + "\n")
    with pytest.raises(UserError, match="no saved step has a score of kl"):
        load.load(run, which="best")
    hostile.special(run, "metrics.jsonl")
    with pytest.raises(UserError, match="metrics.jsonl is not the log of a run"):
        load.load(run, which="best")


@pytest.mark.parametrize("name", ["config.json", "run.flags", "metrics.jsonl", "results.json"])
def test_training_does_not_write_through_a_strangers_link(tmp_path, name):
    config = runs.config(tmp_path / "run")
    options = {"experiment": "experiments.toy", "data": {"fingerprint": "f"}}
    rundir.RunDir(tmp_path / "run", config, **options).close()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=f"{name} is a link, or not a file"):
        rundir.RunDir(tmp_path / "run", config, **options)
    assert not (tmp_path / "outside").exists()


def test_data_that_a_record_names_are_not_prepared_where_it_says(tmp_path):
    run = shutil.copytree(hostile.FIXTURE.with_name("run_0_1_mnist"), tmp_path / "run")
    hostile.configured(run, dataset="cifar10", data_dir=str(tmp_path / "victim"))
    with pytest.raises(UserError, match="cifar10 would be prepared .*victim.*--data_dir=DIR"):
        evaluate.run(evaluate.Config(workdir=str(run)))
    hostile.configured(run, dataset="evil:set", data_dir="")  # code from elsewhere, to TFDS
    with pytest.raises(UserError, match="evil:set would be prepared .* in its own folder"):
        evaluate.run(evaluate.Config(workdir=str(run)))
    assert not (tmp_path / "victim").exists()


def test_a_picture_of_a_good_run_is_made(run, tmp_path):
    sample.run(sample.Config(workdir=str(run), out=str(tmp_path / "a.npz"), num=4))
    assert (tmp_path / "a.npz").exists()
