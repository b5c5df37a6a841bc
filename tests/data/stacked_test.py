import numpy as np

from jaxgan.data import arrays, stacked

IMAGE = np.repeat(np.arange(20, dtype=np.uint8), 4).reshape(20, 2, 2, 1)
DIGITS = arrays.ArraySource(
    {"image": IMAGE, "label": np.arange(20) % 10}, name="digits", num_classes=10
)


def test_label_is_the_number_that_the_three_digits_spell():
    source = stacked.stack(DIGITS, num_examples=500)
    assert source.image_shape == (2, 2, 3) and source.num_classes == 1000
    digit = source.arrays["image"][:, 0, 0].astype(int) % 10  # each image shows its number
    np.testing.assert_array_equal(source.arrays["label"], digit @ [100, 10, 1])


def test_channels_are_drawn_independently_and_cover_the_modes():
    label = stacked.stack(DIGITS, num_examples=20_000).arrays["label"]
    assert len(np.unique(label)) == 1000
    for digit in (label // 100, label // 10 % 10, label % 10):
        assert np.abs(np.bincount(digit) / 2000 - 1).max() < 0.1


def test_stacks_are_the_same_every_time():
    prints = {stacked.stack(DIGITS, num_examples=9, seed=s).fingerprint for s in (0, 0, 1)}
    assert len(prints) == 2


def test_joined_sources_hold_both():
    both = stacked.join(DIGITS, DIGITS)
    np.testing.assert_array_equal(both.arrays["image"], np.concatenate([IMAGE, IMAGE]))
    assert len(both) == 40 and both.num_classes == 10
