"""The manager of a folder of checkpoints: sizes, names that count as steps, setting aside.

What happens on full disks is in tests/faults/disk_test.py.
"""

import pathlib

import jax.numpy as jnp
import pytest

from jaxgan.run import checkpoint, disk, saver, tidy
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import tiny


def test_only_plain_numbers_are_steps(tmp_path):
    for name in ("7", "10", "007", "1e3", "-1", "²", "9.damaged.1", "8.orbax-checkpoint-tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "11").write_text("a file")
    assert saver.numbered(tmp_path) == [7, 10]
    assert saver.finished(tmp_path) == [] and saver.numbered(tmp_path / "nowhere") == []


def test_size_is_an_upper_bound_of_what_a_checkpoint_takes(tmp_path):
    state = small.state(1, step=1).replace(extra={"big": jnp.ones((300, 300))})
    with checkpoint.manager(tmp_path) as manager:
        checkpoint.save(manager, state)
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    bound = saver.size({"state": state})
    assert taken <= bound < 360_000 + saver.OVERHEAD_BYTES + 4000
    assert disk.megabytes(bound) == "0.4 MB"


def test_what_is_set_aside_keeps_its_files_and_frees_its_number(tmp_path):
    with checkpoint.manager(tmp_path) as manager:
        for number in (1, 2):
            checkpoint.save(manager, small.state(number, step=5))
            place = manager.set_aside(5, "damaged")
            assert place.name == f"5.damaged.{number}" and (place / "manifest.json").is_file()
            assert checkpoint.finished_steps(manager) == []


def test_an_old_failure_is_reported_and_not_taken_for_that_of_the_last_save(
    tmp_path, monkeypatch, capsys
):
    write = saver.manifest.write
    monkeypatch.setattr(saver.manifest, "write", lambda folder, **record: 1 / 0)
    manager = checkpoint.manager(tmp_path)
    checkpoint.save(manager, small.state(step=1))
    assert "step 1" in str(manager.failure(wait=True)) and manager.failure() is None
    checkpoint.save(manager, small.state(step=2))
    while manager.is_saving():
        pass
    monkeypatch.setattr(saver.manifest, "write", write)
    checkpoint.save(manager, small.state(step=3))
    assert "warning: step 2 was not saved" in capsys.readouterr().out
    manager.close()
    assert saver.finished(tmp_path) == [3]


def test_a_step_that_is_saved_is_not_called_lost_where_old_ones_cannot_be_removed(
    tmp_path, monkeypatch, capsys
):
    def refuse(path, **options):
        raise PermissionError(1, "Operation not permitted")

    with checkpoint.manager(tmp_path, max_to_keep=1) as manager:
        checkpoint.save(manager, small.state(step=1))
        manager.wait_until_finished()
        with monkeypatch.context() as patch:
            patch.setattr(disk, "remove_tree", refuse)
            checkpoint.save(manager, small.state(step=2))
            manager.wait_until_finished()
        assert checkpoint.finished_steps(manager) == [1, 2]
        checkpoint.save(manager, small.state(step=3))
    assert "but old steps could not be removed: " in capsys.readouterr().out and saver.finished(
        tmp_path
    ) == [3]


def test_a_failure_does_not_hide_the_error_that_ended_the_block(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(saver.manifest, "write", lambda folder, **record: 1 / 0)
    with pytest.raises(KeyError, match="mine"):
        with checkpoint.manager(tmp_path) as manager:
            checkpoint.save(manager, small.state(step=1))
            raise KeyError("mine")
    assert "warning: step 1 was not saved" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["lr=[1]", "a\\b", "a*", "who?"])
def test_a_path_under_which_nothing_would_be_found_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"cannot hold checkpoints: with .* rename that folder"):
        checkpoint.manager(tmp_path / name)
    with pytest.raises(UserError, match="cannot hold checkpoints"):
        small.train(tmp_path / name / "run", step=lambda *args: pytest.fail("a step was taken"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a]b", "a b", "50%", "ü#{x}", "~x"])
def test_other_paths_are_as_good_as_any(tmp_path, name):
    with checkpoint.manager(tmp_path / name) as manager:
        checkpoint.save(manager, small.state(1, step=1))
    with checkpoint.manager(tmp_path / name) as manager:
        assert tiny.equal(checkpoint.restore(manager, small.state(0.0)), small.state(1, step=1))


def test_a_save_that_cannot_be_read_is_a_failed_save(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tidy, "check_path", lambda directory: None)
    with pytest.raises(saver.SaveFailed, match="step 1 was not saved in .* no step is saved yet"):
        with checkpoint.manager(tmp_path / "lr=[1]") as manager:
            checkpoint.save(manager, small.state(1, step=1))
    assert "Traceback" not in capfd.readouterr().err
    assert list((tmp_path / "lr=[1]").iterdir()) == []


def test_a_save_of_which_an_array_is_missing_is_a_failed_save(tmp_path):
    with checkpoint.manager(tmp_path) as manager:
        forms = manager._check_readable
        manager._check_readable = lambda folder: (manager._forms["state"].pop(), forms(folder))
        checkpoint.save(manager, small.state(1, step=1))
        with pytest.raises(saver.SaveFailed, match="state does not hold the arrays"):
            manager.wait_until_finished()


def test_a_removal_that_was_killed_is_finished_at_the_next_start(tmp_path, monkeypatch, capsys):
    def killed(path):
        (path / "manifest.json").unlink()
        raise KeyboardInterrupt

    with checkpoint.manager(tmp_path, max_to_keep=1) as manager:
        checkpoint.save(manager, small.state(step=1))
        manager.wait_until_finished()
        with monkeypatch.context() as patch:
            patch.setattr(disk.shutil, "rmtree", killed)
            checkpoint.save(manager, small.state(step=2))
            with pytest.raises(KeyboardInterrupt):
                manager.wait_until_finished()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1.removed", "2"]
    with checkpoint.manager(tmp_path) as manager:
        assert [path.name for path in tmp_path.iterdir()] == ["2"]
        assert checkpoint.good_step(manager) == 2
    assert (
        f"removed {tmp_path / '1.removed'}, which an interrupted removal" in capsys.readouterr().out
    )


def test_a_step_that_the_disk_does_not_confirm_replaces_none(tmp_path, monkeypatch, capsys):
    sync, failing = disk.sync_file, []

    def fail(path):
        if pathlib.Path(path).parent.name == "2" and failing:
            raise OSError(5, "Input/output error")
        sync(path)

    monkeypatch.setattr(disk, "sync_file", fail)
    with checkpoint.manager(tmp_path, max_to_keep=1) as manager:
        checkpoint.save(manager, small.state(step=1))
        manager.wait_until_finished()
        failing.append(True)
        checkpoint.save(manager, small.state(step=2))
    said = capsys.readouterr().out
    assert "step 2 is saved in" in said and "but may not be on the disk: [Errno 5]" in said
    assert saver.finished(tmp_path) == [1, 2]
