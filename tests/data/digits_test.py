import numpy as np

from jaxgan.data import digits


def test_splits_are_disjoint_and_complete():
    train, test = digits.load(split="train"), digits.load(split="test")
    assert (len(train), len(test)) == (1500, 297)
    images = np.concatenate([train.arrays["image"], test.arrays["image"]])
    assert len(np.unique(images, axis=0)) == 1797


def test_every_class_is_in_both_splits():
    for split in ("train", "test"):
        source = digits.load(split=split)
        assert np.bincount(source.arrays["label"], minlength=10).min() > 20
        assert source.num_classes == 10 and source.class_names == tuple("0123456789")


def test_images_are_as_mnist_has_them():
    source = digits.load()
    assert source.image_shape == (28, 28, 1) and source.arrays["image"].dtype == np.uint8
    assert source.arrays["image"].min() == 0 and source.arrays["image"].max() == 255


def test_enlarged_image_keeps_its_ink():
    import sklearn.datasets

    small = sklearn.datasets.load_digits().images[:50] * (255 / 16)
    large = digits.load().arrays["image"][:50, ..., 0]
    # The mean of each quarter survives, up to the width of the filter and clipping at 0 and 255.
    np.testing.assert_allclose(large.mean((1, 2)), small.mean((1, 2)), atol=6)
    for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = large[:, rows * 14 : rows * 14 + 14, columns * 14 : columns * 14 + 14].mean((1, 2))
        was = small[:, rows * 4 : rows * 4 + 4, columns * 4 : columns * 4 + 4].mean((1, 2))
        assert np.abs(part - was).max() < 20
