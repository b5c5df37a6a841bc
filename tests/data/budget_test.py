"""Large images one at a time, small ones together, and none of it seen in what is decoded."""

import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from jaxgan.data import budget, folder, pixels
from tests.helpers import command

RNG = np.random.default_rng(0)


def test_whoever_finds_too_few_waits_and_all_come_through():
    units, taken, most = budget.Budget(10), [0], []
    lock = threading.Lock()

    def work(n):
        with units.of(n):
            with lock:
                taken[0] += min(n, 10)
                most.append(taken[0])
            threading.Event().wait(0.001)
            with lock:
                taken[0] -= min(n, 10)

    threads = [threading.Thread(target=work, args=(n,)) for n in (3, 4, 50, 1, 10, 2, 7, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == len(threads) and max(most) == 10


def test_units_come_back_after_an_error():
    units = budget.Budget(1)
    with pytest.raises(ZeroDivisionError), units.of(1):
        raise ZeroDivisionError
    with units.of(1):
        pass


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    for n in range(6):
        PIL.Image.new("RGB", (40, 40), (n, n, n)).save(tmp_path / f"{n}.png")
    monkeypatch.setattr(pixels, "AT_ONCE", budget.Budget(1000))  # less than one of them
    flat, inside, most = pixels._flat, [], []

    def watched(picture):
        inside.append(picture)
        threading.Event().wait(0.01)
        most.append(len(inside))
        inside.remove(picture)
        return flat(picture)

    monkeypatch.setattr(pixels, "_flat", watched)
    source = folder.load(tmp_path, image_size=8)
    assert source.arrays["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5] and max(most) == 1


def _whole(path):
    """What was made of a picture as a whole."""
    with PIL.Image.open(path) as picture:
        picture = PIL.ImageOps.exif_transpose(picture)
        mode = "L" if pixels.is_grey(picture) else "RGB"
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            white = PIL.Image.new("RGBA", picture.size, "white")
            picture = PIL.Image.alpha_composite(white, picture)
        picture = picture.convert(mode)
        return np.asarray(picture).reshape(picture.height, picture.width, -1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("rotation", [1, 6])
def test_strips_are_what_the_whole_would_be(tmp_path, monkeypatch, mode, rotation):
    monkeypatch.setattr(pixels, "STRIP", 4)
    noise = RNG.integers(0, 256, (11, 7, 4), dtype=np.uint8)
    picture = PIL.Image.fromarray(noise, "CMYK" if mode == "CMYK" else "RGBA").convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    exif = PIL.Image.Exif()
    exif[pixels.EXIF_ORIENTATION] = rotation
    picture.save(path, exif=exif, **({"transparency": 3} if mode == "P" else {}))
    np.testing.assert_array_equal(pixels.decode(path), _whole(path))


PEAK = """
import sys
from jaxgan import data
from tests.helpers import memory
print(len(data.load("folder", data_dir=sys.argv[1], image_size=32)))
print(memory.peak())
"""


@pytest.mark.slow  # half a gigabyte of pixels, six times
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_six_of_the_largest_images_take_less_than_a_gigabyte(tmp_path, mode):
    colours = np.kron(RNG.integers(0, 256, (94, 94, 4), np.uint8), np.ones((100, 100, 1), np.uint8))
    PIL.Image.fromarray(colours, "RGBA").convert(mode).save(tmp_path / "0.png", compress_level=1)
    for n in range(1, 6):
        (tmp_path / f"{n}.png").hardlink_to(tmp_path / "0.png")
    out = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path], cwd=command.ROOT, capture_output=True, text=True
    )
    count, peak = map(int, out.stdout.split())
    assert count == 6 and peak < 10**9, peak
