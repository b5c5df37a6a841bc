"""Damaged checkpoints: each is seen, named and set aside, and the one before it is restored."""

import functools
import json
import os
import pathlib
import random
import re
import shutil

import jax
import numpy as np
import pytest

from jaxgan.run import checkpoint, manifest, saver
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import runs, tiny


@functools.cache
def _made():
    """Steps 10, 20 and 30, saved once."""
    folder = runs.folder()
    with checkpoint.manager(folder) as manager:
        for step in (10, 20, 30):
            checkpoint.save(manager, small.state(step, step=step))
    return folder


def _saved(folder, *steps):
    """A folder with some of them."""
    for step in steps:
        shutil.copytree(_made() / str(step), folder / str(step))
    return folder


def _restored(folder, fresh=None, *, strict=False):
    with checkpoint.manager(folder) as manager:
        step = checkpoint.good_step(manager, strict=strict)
        return checkpoint.restore(manager, fresh or small.state(0.0), step=step)


def _flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    """Steps 10, 20 and 30."""
    return _saved(tmp_path / "checkpoints", 10, 20, 30)


def _largest(step_folder, item="state"):
    files = [path for path in (step_folder / item).rglob("d/*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def test_one_flipped_bit_is_named_and_the_step_before_is_taken_up(folder, capsys):
    bad = _largest(folder / "30")
    _flip(bad, 999)
    assert tiny.equal(_restored(folder), small.state(20, step=20))
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning")]
    name = bad.relative_to(folder / "30").as_posix()
    assert f"checkpoint 30 is damaged: {name} has sha256 " in line and ", not " in line
    assert str(folder / "30.damaged.1") in line and (folder / "30.damaged.1").is_dir()
    with checkpoint.manager(folder) as manager:  # its number is free again
        checkpoint.save(manager, small.state(3, step=30))
    assert tiny.equal(_restored(folder), small.state(3, step=30))


def test_falling_back_may_be_forbidden(folder):
    _flip(_largest(folder / "30"), 7)
    with pytest.raises(UserError, match=r"30 is damaged: state/.* leave out --strict_restore"):
        _restored(folder, strict=True)
    assert saver.numbered(folder) == [10, 20, 30]


def _empty(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: os.truncate(_largest(f), 9), r"damaged: state/.* has 9 bytes, not \d+;"),
        (lambda f: os.truncate(_largest(f), 0), "damaged: state/.* has 0 bytes, not"),
        (lambda f: _largest(f).unlink(), "damaged: state/.* is missing;"),
        (lambda f: (f / "gen_ema" / "_sharding").unlink(), "damaged: gen_ema/_sharding is missing"),
        (lambda f: (f / "manifest.json").unlink(), "damaged: manifest.json is missing"),
        (lambda f: (f / "manifest.json").write_text("[" * 9**5), "damaged: manifest.json cannot"),
        (lambda f: (f / "manifest.json").write_text("[1]"), "damaged: manifest.json is not a man"),
        (lambda f: (f / "_CHECKPOINT_METADATA").unlink(), "unfinished: _CHECKPOINT_METADATA"),
        (lambda f: (f / "gen_ema" / "_METADATA").unlink(), "unfinished: gen_ema/_METADATA is"),
        (
            lambda f: (f / "state" / "_METADATA").unlink(),
            "unfinished: .* only the generator",
        ),
        (
            lambda f: (f / "state" / "x.pkl").write_bytes(b"cos\n"),
            "damaged: state/x.pkl was not",
        ),
        (
            lambda f: (f / "state" / "x").symlink_to("/etc"),
            "damaged: state/x is a link",
        ),
        (_empty, "unfinished: it is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_damage_is_named_in_one_line_and_costs_one_step(tmp_path, capsys, damage, said):
    folder = _saved(tmp_path, 10, 20)
    damage(folder / "20")
    assert tiny.equal(_restored(folder), small.state(10, step=10))
    lines = [x for x in capsys.readouterr().out.splitlines() if "checkpoint 20" in x]
    assert len(lines) == 1 and re.search(said, lines[0]), lines


def test_where_all_are_bad_each_is_named_nothing_is_deleted_and_nothing_begins_anew(folder):
    for step in (10, 20, 30):
        _flip(_largest(folder / str(step)), step)
    for _ in range(2):  # the second time too
        with pytest.raises(UserError, match="all checkpoints in .* are damaged") as caught:
            _restored(folder)
        text = str(caught.value)
        assert all(f"{step}: state/" in text for step in (10, 20, 30)) and "\n" not in text
        assert saver.numbered(folder) == [10, 20, 30]


def test_what_was_set_aside_keeps_a_run_from_beginning_anew(tmp_path):
    folder = _saved(tmp_path, 10, 20)
    _flip(_largest(folder / "20"), 3)
    _restored(folder)
    _flip(_largest(folder / "10"), 3)
    with pytest.raises(UserError, match=r"10: state/.*; 20.damaged.1: damaged before"):
        _restored(folder)


def test_an_empty_folder_alone_is_no_checkpoint(tmp_path):
    (tmp_path / "9").mkdir()
    with checkpoint.manager(tmp_path) as manager:
        assert checkpoint.good_step(manager) is None
        checkpoint.save(manager, small.state(1, step=9))
    assert tiny.equal(_restored(tmp_path), small.state(1, step=9))


def test_a_damaged_run_does_not_start_from_zero(tmp_path):
    small.train(tmp_path / "run", num_steps=2)
    _flip(_largest(tmp_path / "run" / "checkpoints" / "2"), 5)
    with pytest.raises(UserError, match="all checkpoints in"):
        small.train(tmp_path / "run")
    assert runs.steps_logged(tmp_path / "run") == [1, 2]


def test_a_run_goes_on_from_the_step_before_and_ends_as_if_nothing_had_been(tmp_path, capsys):
    expected = small.train(tmp_path / "straight")
    small.train(tmp_path / "run", num_steps=4)
    _flip(_largest(tmp_path / "run" / "checkpoints" / "4"), 5)
    with pytest.raises(UserError, match="--strict_restore"):
        small.train(tmp_path / "run", strict_restore=True)
    assert tiny.equal(small.train(tmp_path / "run"), expected)
    assert "resuming after step 2" in capsys.readouterr().out
    assert runs.steps_saved(tmp_path / "run") == [2, 4, 6]
    assert runs.steps_logged(tmp_path / "run") == [1, 2, 3, 4, 5, 6]


def test_sampling_passes_over_damage_and_minds_only_its_own(folder, capsys):
    _flip(_largest(folder / "30"), 9)  # of the state: sampling does not read it
    assert checkpoint.restore_generator(folder)[0] == 30
    _flip(_largest(folder / "30", "gen_ema"), 9)
    step, variables = checkpoint.restore_generator(folder)
    assert step == 20 and tiny.equal(variables, small.state(20).gen_ema)
    assert "checkpoint 30 is skipped: gen_ema/" in capsys.readouterr().out
    with pytest.raises(UserError, match="30: gen_ema/.* has sha256"):
        checkpoint.restore_generator(folder, step=30)
    assert saver.numbered(folder) == [10, 20, 30]


def test_links_are_not_followed(tmp_path):
    folder, other = _saved(tmp_path / "a", 10), _saved(tmp_path / "b", 20)
    (folder / "20").symlink_to(other / "20")
    assert tiny.equal(_restored(folder), small.state(10, step=10))
    assert (other / "20").is_dir()


def test_records_too_large_to_read_are_not_read(tmp_path):
    folder = _saved(tmp_path, 10, 20)
    with (folder / "20" / "state" / "_METADATA").open("r+b") as file:
        file.truncate(manifest.MAX_METADATA_BYTES + 1)  # a hole: it takes no space
    (folder / "20" / manifest.NAME).unlink()
    assert tiny.equal(_restored(folder), small.state(10, step=10))


def test_a_class_named_in_a_record_is_not_looked_for(tmp_path):
    folder = _saved(tmp_path, 10)
    record = json.loads((folder / "10" / saver.METADATA).read_text())
    record["item_handlers"] = {"state": "os.system", "gen_ema": "builtins.eval"}
    (folder / "10" / saver.METADATA).write_text(json.dumps(record))
    assert tiny.equal(_restored(folder), small.state(10, step=10))


def test_an_unverified_step_that_cannot_be_read_is_one_line(tmp_path):
    folder = _saved(tmp_path, 10)
    record = json.loads((folder / "10" / saver.METADATA).read_text())
    (folder / "10" / saver.METADATA).write_text(json.dumps({**record, "custom_metadata": {}}))
    (folder / "10" / manifest.NAME).unlink()
    os.truncate(folder / "10" / "state" / "_METADATA", 50)
    with pytest.raises(UserError, match=r"10/state cannot be read: .*; move .*/10 away") as caught:
        _restored(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.replace(gen_ema={"params": {}}), "is float32.* there, nothing here"),
        (
            lambda s: s.replace(gen=s.gen.replace(opt_state=())),
            "gen.opt_state.* there, nothing here",
        ),
        (
            lambda s: s.replace(extra={**s.extra, "half": np.zeros(5, np.int32)}),
            r"extra.half is bfloat16\[5\] there, int32\[5\] here",
        ),
    ],
    ids=["average", "optimiser", "dtype"],
)
def test_nothing_is_left_out_or_cast(tmp_path, change, said):
    folder = _saved(tmp_path, 10)
    with pytest.raises(UserError, match=said):
        _restored(folder, change(small.state(0.0)))


def test_settings_that_may_change_are_printed_and_recorded_with_their_step(tmp_path, capsys):
    small.train(tmp_path / "run", num_steps=2)
    small.train(tmp_path / "run", num_steps=3, log_every=3)
    assert "settings changed: num_steps 2 -> 3, log_every 1 -> 3\n" in capsys.readouterr().out
    small.train(tmp_path / "run", num_steps=4, log_every=3)
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["changes"] == [
        {"step": 2, "num_steps": [2, 3], "log_every": [1, 3]},
        {"step": 3, "num_steps": [3, 4]},
    ]


def test_the_best_the_newest_and_the_only_good_step_stay(tmp_path, monkeypatch):
    seen = []
    describe = saver.Manager._describe
    monkeypatch.setattr(
        saver.Manager,
        "_describe",
        lambda self: (seen.append(saver.finished(self.directory)), describe(self)),
    )
    with checkpoint.manager(tmp_path, max_to_keep=1, best=min) as manager:
        for step in (1, 2, 3):
            checkpoint.save(manager, small.state(step, step=step))
    # Until the new one is whole, what there was is there.
    assert seen == [[], [1], [1, 2]] and saver.finished(tmp_path) == [1, 3]
    monkeypatch.setattr(saver.Manager, "_describe", lambda self: 1 / 0)
    with pytest.raises(saver.SaveFailed, match="step 4 was not saved .* the last good step is 3"):
        with checkpoint.manager(tmp_path, max_to_keep=1) as manager:
            checkpoint.save(manager, small.state(4, step=4))
    assert saver.finished(tmp_path) == [1, 3]


def _damage(path, moments):
    """Damages a file in one of four ways."""
    data = bytearray(path.read_bytes())
    kind = moments.choice(["flip", "zero", "truncate", "delete"])
    if kind == "delete" or not data:
        path.unlink()
    elif kind == "truncate":
        path.write_bytes(data[: moments.randrange(len(data))])
    elif kind == "zero":
        start = moments.randrange(len(data))
        end = min(start + 4096, len(data))
        path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    else:
        _flip(path, moments.randrange(8 * len(data)))
    return kind


@pytest.mark.parametrize("trials", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_damage_goes_unseen_unless_it_changes_nothing(tmp_path, trials):
    folder = _saved(tmp_path, 10, 20)
    files = sorted(path for path in (folder / "20").rglob("*") if path.is_file())
    seed = random.randrange(10**6)
    moments, harmless = random.Random(seed), 0
    for trial in range(trials):
        path = moments.choice(files)
        before = path.read_bytes()
        kind = _damage(path, moments)
        good, bad = checkpoint._newest_good(folder, saver.ITEMS)
        after = path.read_bytes() if path.exists() else None
        path.write_bytes(before)
        assert good == (10 if bad else 20), (seed, trial, kind, path)
        if not bad:
            # Nobody reads these files; or a manifest says the same in other bytes.
            harmless += 1
            same = path.name == manifest.NAME and json.loads(after) == json.loads(before)
            assert path.name in manifest.UNREAD or same or after == before, (seed, trial, path)
    assert harmless < trials / 2
    assert tiny.equal(_restored(folder), small.state(20, step=20))


def test_files_that_are_not_verified_do_not_change_what_is_restored(tmp_path):
    folder = _saved(tmp_path, 10)
    for path in [path for path in folder.rglob("*") if path.name in manifest.UNREAD]:
        path.write_bytes(os.urandom(path.stat().st_size))
    assert tiny.equal(_restored(folder), small.state(10, step=10))
    with checkpoint.manager(folder) as manager:
        checkpoint.save(manager, small.state(2, step=20))
    assert tiny.equal(jax.device_get(_restored(folder)), small.state(2, step=20))
    assert pathlib.Path(folder / "10").is_dir()
