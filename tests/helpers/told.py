"""Run directories that were never trained: a record, logs and samples, written by hand."""

import json
import math

import numpy as np
import pytest

from experiments import _page
from jaxgan import images
from jaxgan.types import UserError

SETTINGS = {"num_steps": 400, "batch_size": 16, "seed": 0, "dataset": "digits"}
EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"


def need_library():
    """Skips the tests of a file where the library of the curves is not installed."""
    try:
        _page.library()
    except UserError as error:
        pytest.skip(str(error), allow_module_level=True)


def record(workdir, *, experiment="experiments.mnist", data=None, **settings):
    """Writes the record of a run."""
    workdir.mkdir(parents=True, exist_ok=True)
    data = {
        "fingerprint": "f00d",
        "num_examples": 64,
        "shapes": {"image": [8, 8, 1]},
        **(data or {}),
    }
    config = {**SETTINGS, "workdir": str(workdir), **settings}
    whole = {"experiment": experiment, "jaxgan": "0.1.0", "data": data, "config": config}
    (workdir / "config.json").write_text(json.dumps(whole))
    return workdir


def append(workdir, name, *lines):
    """Appends lines to a log."""
    with (workdir / name).open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def image_run(workdir, *, steps=400, every=100, shade=0, **settings):
    """A run of images, which may be of fewer steps than it was to have."""
    record(workdir, **settings)
    (workdir / "samples").mkdir()
    for step in range(every, steps + 1, every):
        append(workdir, "metrics.jsonl", line(step))
        picture = np.full((20, 20, 1), (step + shade) % 256, np.uint8)
        images.save_png(workdir / "samples" / f"step_{step:08d}.png", picture)
    images.save_png(workdir / "samples" / "real.png", np.full((20, 20, 3), 200, np.uint8))
    return workdir


def line(step, **more):
    """A line of the log of training."""
    return {
        "step": step,
        "gen/loss": 1.0 + math.exp(-step / 100),
        "disc/loss": 0.5,
        "guard/alarms": 0.0,
        "images_per_second": 100.0,
        "seconds": step / 10,
        "epoch": step / 4,
        **more,
    }


def text_run(workdir, *sentences):
    """A run of text with samples of two steps; the sentences are those of the last."""
    data = {"shapes": {"text": [12]}}
    record(workdir, experiment="experiments.text", data=data, dataset="grammar")
    (workdir / "samples").mkdir()
    append(workdir, "metrics.jsonl", line(200), line(400))
    (workdir / "samples" / "step_00000200.txt").write_text("early\nwords\n")
    (workdir / "samples" / "step_00000400.txt").write_text("\n".join([*sentences, ""]))
    return workdir
