"""Kills in every way of training: the run that goes on is the run that was not stopped, to the bit.

`process_test` kills the plainest run most often. Here are the others, with all that lies in their
directories: states, log, curves, samples, and nothing else. By default only a run whose step
computes next to nothing is killed: the others compile for seconds in each process.
"""

import json
import random
import signal

import pytest

from tests.helpers import command, events, idx, runs

NUM_STEPS = 40
COMMON = {"num_steps": NUM_STEPS, "save_every": 5, "log_every": 1, "sample_every": 10}
MIXTURE, STACKED = "experiments.mixture", "experiments.stacked_mnist"
SMALL = "tests.faults.small"
POISONED = "tests.helpers.poisoned"
ADA = {"augment": "ada", "loss": "hinge", "penalty": "none", "ada_ramp": 640}
# Of each way the module, and its settings beside those that all have.
WAYS = {
    "next to nothing": (SMALL, {}),
    "rolled back": (POISONED, {"on_nonfinite": "rollback"}),
    "fused steps": (runs.MODULE, {"steps_per_call": 5, "log_every": 5}),
    "sharded": (runs.MODULE, {"shard_params": True, "width": 64}),
    "pmap": (runs.MODULE, {"parallel": "pmap"}),
    "ada": (runs.MODULE, ADA),
    "scored": (runs.MODULE, {"conditional": True, "eval_every": 4, "eval_samples": 20}),
    "mixture": (
        MIXTURE,
        {
            "seeds": 2,
            "steps_per_call": 5,
            "log_every": 5,
            "batch_size": 16,
            "features": 8,
            "num_samples": 20,
        },
    ),
    "stacked": (STACKED, {"batch_size": 8, "num_images": 40, "num_scored": 20, "num_samples": 4}),
    "text in three stages": (
        "experiments.text",
        {
            "method": "seqgan",
            "pretrain_steps": 15,
            "pretrain_disc": 12,
            "batch_size": 8,
            "hidden": 4,
            "embedding": 3,
            "rollouts": 2,
            "eval_sentences": 20,
            "num_samples": 4,
        },
    ),
    "pool of translations": (
        "experiments.translate",
        {
            "image_size": 16,
            "width": 4,
            "blocks": 1,
            "disc_widths": "4",
            "batch_size": 8,
            "pool_size": 24,
            "num_samples": 3,
            "eval_images": 4,
        },
    ),
}
STOPS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = (0, -signal.SIGKILL, 143, 130, -signal.SIGTERM, -signal.SIGINT)
SEED = random.randrange(10**6)  # in the report of a test that fails


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return idx.mnist(tmp_path_factory.mktemp("mnist"))


def _run(way, digits, workdir, meanwhile=None):
    """Trains in a process of its own."""
    module, settings = WAYS[way]
    settings = {**COMMON, "keep_memory": False, "cpu_devices": 8, **settings}
    if way == "scored":
        settings |= {"data_dir": runs.split_file(), "eval_weights": runs.classifier_file()}
    if module == STACKED:
        settings |= {"data_dir": digits, "classifier": digits / "net.npz", "gen_features": "4,2"}
    if module == SMALL:
        argv = [str(workdir), json.dumps({**settings, "data_dir": str(runs.data_file())})]
    elif module in (runs.MODULE, POISONED):
        argv = runs.flags(workdir, **settings)
    else:
        argv = [f"--{name}={value}" for name, value in {**settings, "workdir": workdir}.items()]
    return command.run(module, *argv, meanwhile=meanwhile)


def _lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _logged(workdir):
    """The log without what was measured of time: a resumed run has no rate in its first line."""
    timing = ("images_per_second", "seconds")
    return [{k: v for k, v in line.items() if k not in timing} for line in _lines(workdir)]


def _curves(workdir):
    """What TensorBoard shows, and what the log says it should: the steps of each number."""
    shown = {tag: [step for step, _ in points] for tag, points in events.points(workdir).items()}
    shown.pop("samples", None)  # pictures, or none of text
    wanted = {}
    for line in _lines(workdir):
        for name, value in line.items():
            if name != "step" and not isinstance(value, str):
                wanted.setdefault(name, []).append(line["step"])
    return shown, wanted


def _leftovers(workdir, straight):
    """The names in a run's directory that are not in another's, but for steps that were saved."""

    def names(path):
        folders = [path, *(path / name for name in ("samples", "checkpoints"))]
        found = {one.relative_to(path).as_posix() for folder in folders for one in folder.iterdir()}
        return {name for name in found if not name.rpartition("/")[2].isdecimal()}

    events = len(list((workdir / "tensorboard").iterdir()))
    return [*sorted(names(workdir) ^ names(straight)), *(["event files"] if events != 1 else [])]


def _kill(way, digits, folder, kills):
    """Stops runs at random moments until that happened so often; each must end as one that ran."""
    straight, moments = folder / "straight", random.Random(f"{SEED} {way}")
    result = _run(way, digits, straight)
    assert result.code == 0 and result.err == "", (way, result)
    number = 0
    while kills > 0:
        workdir, number, code = folder / f"run{number}", number + 1, -1
        while code:
            meanwhile = command.stop(moments, STOPS, steps=20) if kills > 0 else None
            result = _run(way, digits, workdir, meanwhile)
            code = result.code
            assert code in CODES, (SEED, way, result)
            kills -= code != 0
        shown, wanted = _curves(workdir)
        found = {
            "arrays": runs.different(workdir, straight, NUM_STEPS),
            "log": _logged(workdir) != _logged(straight),
            "curves": [tag for tag in shown | wanted if shown.get(tag) != wanted.get(tag)],
            "leftovers": _leftovers(workdir, straight),
        }
        assert not any(found.values()), (SEED, way, found)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    _kill("next to nothing", None, tmp_path, kills=2)


# Each start compiles for seconds. By default runs are resumed in one process, where something
# like a kill has left them, by `driver_test` (rolled back, fused, under pmap) and `scores_test`.
@pytest.mark.slow
@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_of_training_survives_eight_stops(way, digits, tmp_path):
    _kill(way, digits, tmp_path, kills=8)
