"""Which images were used: numbers, digests, and a ledger that lets no held-out image through."""

import hashlib

import numpy as np
import pytest

from jaxgan.data import digests
from jaxgan.types import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1), np.uint8)
NUMBERS = digests.of_images(IMAGES)


def test_a_number_is_of_shape_and_pixels():
    expected = hashlib.sha256(b"(2, 2, 1)" + IMAGES[3].tobytes()).digest()[:8]
    assert int(NUMBERS[3]) == int.from_bytes(expected, "little")
    assert len(set(NUMBERS.tolist())) == 6
    assert digests.of_images(IMAGES.reshape(6, 4, 1, 1))[0] != NUMBERS[0]
    np.testing.assert_array_equal(digests.of_images(IMAGES[::-1]), NUMBERS[::-1])


def test_the_digest_of_a_set_knows_no_order_and_no_repetition():
    whole = digests.of_set(NUMBERS)
    assert whole == digests.of_set(np.concatenate([NUMBERS[::-1], NUMBERS[:2]]))
    assert whole != digests.of_set(NUMBERS[:5])


def test_the_record_tells_what_each_phase_used():
    ledger = digests.Ledger(NUMBERS[4:])
    ledger.use("generator", NUMBERS[:2])
    ledger.use("generator", NUMBERS[1:3])
    record = ledger.record()
    assert record["generator"] == {"images": 3, "sha256": digests.of_set(NUMBERS[:3])}
    assert record["test"] == {"images": 2, "sha256": digests.of_set(NUMBERS[4:])}


def test_a_held_out_image_is_let_through_by_no_phase():
    ledger = digests.Ledger(NUMBERS[4:])
    with pytest.raises(UserError, match="1 of 3 images of the phase choice are test images"):
        ledger.use("choice", NUMBERS[2:5])
    assert "choice" not in ledger.record()
