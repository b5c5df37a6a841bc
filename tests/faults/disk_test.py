"""Disks that are full, too small or shut: one line, nothing lost, and training continues."""

import errno
import os
import resource
import shutil
import signal
import threading
import time

import pytest

from jaxgan.run import checkpoint, hooks, manifest, saver
from jaxgan.types import UserError
from tests.faults import small
from tests.helpers import runs, tiny


def _leftovers(workdir):
    return [path.name for path in (workdir / "checkpoints").iterdir() if "tmp" in path.name]


def _free(monkeypatch, megabytes):
    """Makes the disk look so full to whom asks."""
    real = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: real(path)._replace(free=int(megabytes * 1e6))
    )


def test_a_full_disk_costs_one_checkpoint_and_a_warning(tmp_path, monkeypatch, capsys):
    at = {
        3: lambda: _free(monkeypatch, 0.03),
        5: monkeypatch.undo,
    }
    state = small.train(tmp_path / "run", at=at)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning")]
    assert line == (
        f"warning: step 4 was not saved in {tmp_path / 'run' / 'checkpoints'}: no space: it needs "
        "0.1 MB, 0.0 MB are free; the last good step is 2; training continues"
    )
    assert int(state.step) == 6 and runs.steps_saved(tmp_path / "run") == [2, 6]
    assert _leftovers(tmp_path / "run") == []


def test_a_full_disk_may_stop_training(tmp_path, monkeypatch):
    at = {3: lambda: _free(monkeypatch, 0.03)}
    with pytest.raises(saver.SaveFailed, match="step 4 was not saved.* last good step is 2"):
        small.train(tmp_path / "run", at=at, on_failed_save="stop")
    assert runs.steps_logged(tmp_path / "run")[-1] == 4
    monkeypatch.undo()
    assert int(small.train(tmp_path / "run").step) == 6


def test_a_last_step_that_is_not_saved_ends_in_an_error(tmp_path, monkeypatch, capsys):
    with pytest.raises(saver.SaveFailed, match="step 6 was not saved") as caught:
        small.train(tmp_path / "run", at={5: lambda: _free(monkeypatch, 0.03)})
    assert caught.value.exit_code == 1 and "finished" not in capsys.readouterr().out
    monkeypatch.undo()
    assert int(small.train(tmp_path / "run").step) == 6


def _fail_in_the_background(monkeypatch, steps, error):
    """Makes the write of these steps fail when most of it is on the disk."""
    write = manifest.write

    def fail(folder, **record):
        if int(folder.name.split(".")[0]) in steps:
            raise error
        write(folder, **record)

    monkeypatch.setattr(manifest, "write", fail)


def test_a_save_that_fails_in_the_background_is_reported_and_its_files_go(
    tmp_path, monkeypatch, capsys
):
    _fail_in_the_background(monkeypatch, {4}, OSError(errno.ENOSPC, "No space left on device"))
    expected = small.train(tmp_path / "straight", save_every=100)
    state = small.train(tmp_path / "run")
    out = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning")]
    assert len(out) == 1 and "step 4 was not saved" in out[0] and "no space" in out[0]
    assert "the last good step is 2" in out[0]
    assert tiny.equal(state, expected) and runs.steps_saved(tmp_path / "run") == [2, 6]
    assert _leftovers(tmp_path / "run") == []


def test_a_last_save_that_fails_in_the_background_ends_in_an_error(tmp_path, monkeypatch, capfd):
    _fail_in_the_background(monkeypatch, {6}, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(saver.SaveFailed, match="step 6 was not saved.*Input/output error.* is 4"):
        small.train(tmp_path / "run")
    said = capfd.readouterr()
    assert "finished" not in said.out and "Traceback" not in said.err, said.err
    assert runs.steps_saved(tmp_path / "run") == [2, 4] and _leftovers(tmp_path / "run") == []


def test_a_failure_is_found_without_waiting_within_one_step_of_its_end(tmp_path, monkeypatch):
    gate = threading.Event()

    def fail(folder, **record):
        gate.wait(20)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(manifest, "write", fail)
    with checkpoint.manager(tmp_path) as manager:
        hook = hooks.save_every(2, 9, manager, lambda: None, stop=True)
        hook(2, small.state(step=2), {})
        hook(3, small.state(step=3), {})  # still being written: does not wait
        gate.set()
        while manager.is_saving():
            time.sleep(0.01)
        with pytest.raises(saver.SaveFailed, match="step 2"):
            hook(3, small.state(step=3), {})


def test_a_write_that_the_system_refuses_leaves_the_steps_before(tmp_path):
    # A limit on the size of files: the write itself fails, in the library that does it.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with checkpoint.manager(tmp_path) as manager:
        checkpoint.save(manager, small.state(1, step=1))
        manager.wait_until_finished()
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
        try:
            with pytest.raises(saver.SaveFailed, match="step 2 was not saved.* good step is 1"):
                checkpoint.save(manager, small.state(2, step=2))
                manager.wait_until_finished()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        checkpoint.save(manager, small.state(3, step=3))  # there is space again
    with checkpoint.manager(tmp_path) as manager:
        assert tiny.equal(checkpoint.restore(manager, small.state(0.0)), small.state(3, step=3))


def test_a_disk_too_small_is_refused_before_the_first_step(tmp_path, monkeypatch):
    never = lambda *args: pytest.fail("a step was taken")  # noqa: E731
    _free(monkeypatch, 0.15)
    with pytest.raises(UserError, match=r"no space in .*: 3 checkpoints need 0.2 MB, 0.1 MB"):
        small.train(tmp_path / "run", step=never)
    _free(monkeypatch, 0.21)  # three are all there will be
    small.train(tmp_path / "run")


def test_a_folder_of_checkpoints_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "manager", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            small.train(tmp_path / "run")
    (tmp_path / "run" / "checkpoints").write_text("mine")
    with pytest.raises(UserError, match="checkpoints cannot be created: File exists"):
        small.train(tmp_path / "run")


@pytest.mark.slow  # needs the right to mount
def test_a_small_file_system_that_fills_up_for_real(tmp_path):
    import subprocess

    (tmp_path / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path / "small")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        folder = tmp_path / "small" / "checkpoints"
        with checkpoint.manager(folder) as manager:
            checkpoint.save(manager, small.state(1, step=1))
            manager.wait_until_finished()
            ballast = tmp_path / "small" / "ballast"
            ballast.write_bytes(bytes(shutil.disk_usage(folder).free - 70_000))
            for name in ("1", "2"):  # asked for by number of files too: Orbax makes some 20
                with pytest.raises(saver.SaveFailed, match="no space.* last good step is 1"):
                    checkpoint.save(manager, small.state(2, step=2))
                    manager.wait_until_finished()
                assert os.listdir(folder) == ["1"], name
            ballast.unlink()
            checkpoint.save(manager, small.state(2, step=2))
        assert saver.finished(folder) == [1, 2]
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)
