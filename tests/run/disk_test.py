"""Files and folders that are synced: in which order, and what happens where that is refused."""

import errno
import os
import pathlib

import pytest

from jaxgan.run import disk


def _synced(monkeypatch):
    """The names of files and folders that are synced from here on, in order."""
    names, real = [], os.fsync

    def seen(descriptor):
        names.append(pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    return names


def _refuse(monkeypatch, number):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_tree_is_synced_from_its_leaves_to_its_root(tmp_path, monkeypatch):
    (tmp_path / "root" / "inner").mkdir(parents=True)
    for name in ("root/a", "root/inner/b"):
        (tmp_path / name).write_text("x")
    (tmp_path / "root" / "link").symlink_to("/etc/passwd")
    names = _synced(monkeypatch)
    disk.sync_tree(tmp_path / "root")
    assert names == ["b", "inner", "a", "root"]
    with pytest.raises(FileNotFoundError):
        disk.sync_tree(tmp_path / "nowhere")


def test_a_file_is_replaced_by_a_whole_one_and_its_name_synced_after(tmp_path, monkeypatch):
    path = tmp_path / "record"
    path.write_text("old")
    names = _synced(monkeypatch)
    disk.replace(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["record"]
    assert names == [f".record.{os.getpid()}.tmp", tmp_path.name]


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "record"
    path.write_text("old")
    _refuse(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        disk.replace(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["record"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_is_no_error(tmp_path, monkeypatch, number):
    _refuse(monkeypatch, number)
    disk.make_folder(tmp_path / "a" / "b")
    disk.replace(tmp_path / "a" / "b" / "record", "new")
    disk.sync_tree(tmp_path)
    assert (tmp_path / "a" / "b" / "record").read_text() == "new"


def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    _refuse(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        disk.sync_folder(tmp_path)


def test_new_folders_are_synced_where_their_names_are(tmp_path, monkeypatch):
    names = _synced(monkeypatch)
    disk.make_folder(tmp_path / "a" / "b")
    assert names == ["a", tmp_path.name]
    disk.make_folder(tmp_path / "a" / "b")  # made before, by a process killed before it synced
    assert names[2:] == ["a"]


def test_a_removal_that_was_killed_leaves_another_name_and_can_be_repeated(tmp_path, monkeypatch):
    for name in ("7", "7.gone"):
        (tmp_path / name).mkdir()
    names = _synced(monkeypatch)
    disk.remove_tree(tmp_path / "7", removed=".gone")
    assert names == [tmp_path.name] and os.listdir(tmp_path) == []
