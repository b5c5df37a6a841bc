"""Applying a run to photos: files and folders, what is kept of them, and mistakes."""

import numpy as np
import PIL.Image
import pytest

from experiments import _files, apply
from jaxgan.data import photos
from jaxgan.types import UserError
from tests.helpers import command, retoucher

RANDOM = np.random.default_rng(0)


def photo_of(channels=3, dtype=np.uint8, *, alpha=False, size=(11, 17), **rest):
    values = RANDOM.integers(0, np.iinfo(dtype).max + 1, (*size, channels + 1), dtype)
    return photos.Photo(values[..., :channels], values[..., channels:] if alpha else None, **rest)


def run(kind, source, out, **settings):
    given = {"tile": 0 if kind == "whole" else 4, "module": retoucher.MODULE, **settings}
    given = {name: value if isinstance(value, int) else str(value) for name, value in given.items()}
    workdir = given.pop("workdir", str(retoucher.run(kind)))
    config = apply.Config(workdir=workdir, input=str(source), out=str(out), **given)
    return apply.run(config)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint16)]
)
def test_where_nothing_changes_no_bit_does(tmp_path, suffix, dtype, channels, alpha):
    tags = PIL.Image.Exif()
    tags[0x010F] = "A maker"
    icc = bytes(16) + (b"RGB " if channels == 3 else b"GRAY") + bytes(108)
    photo = photo_of(channels, dtype, alpha=alpha, icc=icc, exif=tags.tobytes()[6:])
    photos.write(source := tmp_path / f"a{suffix}", photo)
    assert run("echo", source, tmp_path / f"b{suffix}") == [tmp_path / f"b{suffix}"]
    assert source.read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_the_kind_of_file_is_that_of_its_name(tmp_path, capsys):
    photos.write(tmp_path / "a.png", photo_of())
    run("negative", tmp_path / "a.png", tmp_path / "b.jpg")
    with PIL.Image.open(tmp_path / "b.jpg") as made:
        assert made.format == "JPEG" and made.size == (17, 11)
    (tmp_path / "folder").mkdir()
    assert run("negative", tmp_path / "a.png", tmp_path / "folder")[0].name == "a.png"
    told = capsys.readouterr().out
    assert f"wrote {tmp_path / 'b.jpg'}: 0.00 megapixels in" in told and "megapixels/s" in told


def test_a_folder_is_mirrored_and_taken_up_again(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep" / "er").mkdir(parents=True)
    names = ["a.png", "deep/b.tif", "deep/er/c.JPG"]
    for name in names:
        photos.write(source / name, photo_of())
    frame = PIL.Image.fromarray(photo_of().pixels)
    for name in ("d.gif", "a.gif"):
        frame.save(source / name)
    (source / "notes.txt").write_text("no photo")
    made = run("negative", source, out)
    expected = ["a.gif.png", "a.png", "d.png", "deep/b.tif", "deep/er/c.JPG"]
    assert sorted(path.relative_to(out).as_posix() for path in made) == expected
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == expected
    (out / "a.png").unlink()
    kept = (out / "d.png").stat().st_mtime_ns
    assert run("negative", source, out) == [out / "a.png"]
    assert (out / "d.png").stat().st_mtime_ns == kept
    assert "wrote 1 of 5 photos; 4 were there already: 0.00 meg" in capsys.readouterr().out
    assert run("negative", source, out) == []


def test_a_damaged_file_among_many_is_named_and_skipped(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        photos.write(source / name, photo_of())
    (source / "b.png").write_bytes((source / "b.png").read_bytes()[:100])
    with pytest.raises(UserError, match="1 of 3 photos could not be done: b.png") as caught:
        run("negative", source, out)
    assert caught.value.exit_code == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png"]
    told = capsys.readouterr()
    assert "wrote 2 of 3 photos" in told.out
    assert f"skipped: {source / 'b.png'}: cannot be read (" in told.err


def test_a_full_disk_ends_a_folder_and_says_how_to_go_on(tmp_path, monkeypatch):
    (source := tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        photos.write(source / name, photo_of())
    real = photos.write

    def write(path, photo):
        if path.name == "b.png":
            raise OSError(28, "No space left on device")
        real(path, photo)

    monkeypatch.setattr(photos, "write", write)
    said = "b.png: cannot be written .No space left on device.; 1 of 3 photos are done; the same"
    with pytest.raises(UserError, match=said):
        run("echo", source, tmp_path / "out")


def test_an_interrupt_says_how_to_go_on(tmp_path, monkeypatch):
    (source := tmp_path / "in").mkdir()
    photos.write(source / "a.png", photo_of())

    def write(path, photo):
        raise KeyboardInterrupt

    monkeypatch.setattr(photos, "write", write)
    for given, said in [
        (source, "0 of 1 photos are done; the same"),
        (source / "a.png", "nothing"),
    ]:
        with pytest.raises(UserError, match=f"interrupted; {said}") as caught:
            run("echo", given, tmp_path / "out")
        assert caught.value.exit_code == 130


def test_before_and_after_are_compared(tmp_path):
    photo = photo_of(alpha=True)
    photos.write(tmp_path / "a.png", photo)
    run("negative", tmp_path / "a.png", tmp_path / "b.png", compare=True)
    both = photos.read(tmp_path / "b.png")
    assert both.alpha is not None
    np.testing.assert_array_equal(both.pixels[:, :17], photo.pixels)
    np.testing.assert_array_equal(both.pixels[:, 17:], 255 - photo.pixels)


def test_holes_are_white_in_a_mask_and_all_else_stays(tmp_path):
    (source := tmp_path / "in").mkdir()
    (masks := tmp_path / "masks").mkdir()
    photo = photo_of()
    photos.write(source / "a.png", photo)
    hole = np.zeros((11, 17), np.uint8)
    hole[2:5, 3:9] = 255
    PIL.Image.fromarray(hole).save(masks / "a.bmp")
    run("white", source / "a.png", tmp_path / "b.png", mask=masks / "a.bmp")
    run("white", source, tmp_path / "out", mask=masks)
    for path in (tmp_path / "b.png", tmp_path / "out" / "a.png"):
        made = photos.read(path).pixels
        assert (made[hole > 0] == 255).all()
        np.testing.assert_array_equal(made[hole == 0], photo.pixels[hole == 0])
    # White strokes on nothing, as a program for drawing saves them: the rest is no hole.
    photos.write(masks / "b.png", photos.Photo(hole[..., None] * 0 + 255, hole[..., None]))
    run("white", source / "a.png", tmp_path / "c.png", mask=masks / "b.png")
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_may_surprise_is_said_once(tmp_path, capsys):
    (source := tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        photos.write(source / name, photo_of())
    run("grey", source, tmp_path / "grey")
    assert capsys.readouterr().out.count("changes the luminance and keeps the colours") == 1
    run("whole", source, tmp_path / "whole")
    assert capsys.readouterr().out.count("the network sees whole photos, not tiles") == 1


def test_mistakes_are_one_line_and_nothing_is_written(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    source = tmp_path / "in" / "a.png"
    photos.write(source, photo_of())
    photos.write(tmp_path / "mask.png", photo_of(1, size=(11, 16)))
    for kind, given, out, settings, match in [
        ("echo", "", "b.png", {}, "--input is empty; name a photo"),
        ("echo", source, "", {}, "--out is empty"),
        ("echo", tmp_path / "none.png", "b.png", {}, "--input=.*none.png: there is no such file"),
        ("echo", source, source, {}, "--out=.*a.png is --input itself; name another file"),
        ("echo", source, tmp_path / "b.gif", {}, "--out=.*b.gif is neither a folder nor one of"),
        ("echo", source, tmp_path / "x/b.png", {}, "/x is not a folder that can be written"),
        ("echo", source.parent, source.parent, {}, "are one folder or one in the other"),
        ("echo", source.parent, source.parent / "sub", {}, "are one folder or one in the other"),
        ("echo", source.parent, tmp_path, {}, "are one folder or one in the other"),
        ("echo", source.parent, source, {}, "--out=.*a.png is a file; --input=.* is a folder"),
        ("echo", source.parent, tmp_path / "b.png", {}, "--out=.*b.png looks like a file"),
        ("echo", tmp_path / "empty", tmp_path / "out", {}, "empty: no images in it"),
        ("none", source, tmp_path / "b.png", {}, "makes no images from images; this is for runs"),
        ("echo", source, tmp_path / "b.png", {"workdir": ""}, "--workdir is empty"),
        ("echo", source, tmp_path / "b.png", {"member": 2}, "--member=2: the run has 2"),
        ("echo", source, tmp_path / "b.png", {"checkpoint": "7"}, "7.*8"),
        ("white", source, tmp_path / "b.png", {}, "--mask is empty; this run fills in holes"),
        ("echo", source, tmp_path / "b.png", {"mask": source}, "this run fills in no holes"),
        ("white", source, tmp_path / "b.png", {"mask": tmp_path}, "--mask=.*: give a file"),
        ("white", source, tmp_path / "b.png", {"mask": tmp_path / "no"}, "--mask=.*/no: there is"),
        (
            "white",
            source,
            tmp_path / "b.png",
            {"mask": tmp_path / "mask.png"},
            r"a.png: the mask is 11 x 16 pixels \(height x width\), the photo 11 x 17; make them",
        ),
        ("whole", source, tmp_path / "b.png", {"tile": 8}, "--tile=8: the network of this run"),
    ]:
        before = command.tree(tmp_path)
        with pytest.raises(UserError, match=match):
            run(kind, given, out, **settings)
        assert command.tree(tmp_path) == before


def test_photos_that_cannot_be_done_are_one_line(tmp_path):
    photos.write(tmp_path / "a.png", photo_of(size=(11, 5)))
    photos.write(tmp_path / "deep.png", photo_of(dtype=np.uint16, alpha=True))
    out = tmp_path / "b.jpg"
    with pytest.raises(UserError, match="a.png: 11 x 5 pixels .* needs 8 or more a side"):
        run("large", tmp_path / "a.png", out)
    with pytest.raises(UserError, match="b.jpg: JPEG has no 16 bits a channel .*; use .png"):
        run("echo", tmp_path / "deep.png", out)
    (tmp_path / "text.png").write_text("no photo")
    with pytest.raises(UserError, match="text.png: cannot be read"):
        run("echo", tmp_path / "text.png", out)
    assert not out.exists()


def test_a_folder_of_masks_holds_one_for_each_photo(tmp_path):
    (source := tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    photos.write(source / "a.jpg", photo_of())
    with pytest.raises(UserError, match="1 of 1 photos could not be done: a.jpg"):
        run("white", source, tmp_path / "out", mask=tmp_path / "masks")
    job = _files.jobs(str(source), str(tmp_path / "masks"), str(tmp_path / "out"))[0]
    assert job.mask == tmp_path / "masks" / "a.jpg"


def test_as_a_command_a_skipped_photo_is_exit_code_1(tmp_path):
    (source := tmp_path / "in").mkdir()
    photos.write(source / "a.png", photo_of())
    (source / "b.png").write_text("no photo")
    flags = [f"--workdir={retoucher.run('negative')}", f"--module={retoucher.MODULE}"]
    flags += [f"--input={source}", f"--out={tmp_path / 'out'}"]
    result = command.run("experiments.apply", *flags)
    assert result.code == 1 and result.out.startswith("wrote 1 of 2 photos: "), result
    skipped, summary = result.err.splitlines()[-2:]
    assert skipped.startswith("skipped: ") and summary.startswith("error: 1 of 2 photos")
    assert (tmp_path / "out" / "a.png").exists()
