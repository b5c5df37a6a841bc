import functools
import gzip
import hashlib
import io
import pickle
import shutil
import socket
import struct
import tarfile
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets
from tensorflow_datasets.core.download import checksums

from jaxgan import data
from jaxgan.data import builders, cifar, pipeline, tfds
from jaxgan.types import UserError

SIZES = {"train": 30, "test": 12}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nobody answers, and TFDS, which would try for minutes, must not even ask."""

    def refuse(*args, **kwargs):
        raise socket.gaierror("no network in tests")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)


@functools.cache
def archive():
    """CIFAR-10's, with two images a file, each filled with its number."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for number, name in enumerate(cifar.BINARY.files["train"] + cifar.BINARY.files["test"]):
            rows = [[i % 10] + [i] * cifar.PIXELS for i in (2 * number, 2 * number + 1)]
            info = tarfile.TarInfo(f"{cifar.BINARY.folder}/{name}")
            info.size = 2 * (1 + cifar.PIXELS)
            tar.addfile(info, io.BytesIO(np.array(rows, np.uint8).tobytes()))
    return packed.getvalue()


def content(name, split, key):
    """A small idx file: every image is filled with its number, every label its last figure."""
    if name == "cifar10":
        return archive()
    num = SIZES[split]
    shade = np.arange(num, dtype=np.uint8) + (100 if name == "fashion_mnist" else 0)
    array = np.repeat(shade, 784).reshape(num, 28, 28) if key == "image" else shade % 10
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


@pytest.fixture
def registered(monkeypatch):
    """Registers small files with TFDS in place of the real ones."""
    infos = {}
    for name, own in builders.OWN.items():
        for split, files in own.files.items():
            for key, file in files.items():
                found = content(name, split, key)
                infos[own.url + file] = checksums.UrlInfo(
                    size=len(found), checksum=hashlib.sha256(found).hexdigest(), filename=file
                )
    monkeypatch.setattr(checksums, "get_all_url_infos", lambda: dict(infos))
    return infos


@pytest.fixture
def manual(tmp_path, registered):
    """A data folder with the four files of MNIST where a person would put them."""
    folder = tmp_path / "downloads" / "manual"
    folder.mkdir(parents=True)
    for name in ("mnist", "cifar10"):
        for split, files in builders.OWN[name].files.items():
            for key, file in files.items():
                (folder / file).write_bytes(content(name, split, key))
    return tmp_path


def check(source, split="train"):
    image, label = source.arrays["image"], source.arrays["label"]
    np.testing.assert_array_equal(np.sort(image[:, 3, 3, 0]), np.arange(SIZES[split]))
    np.testing.assert_array_equal(image[:, 3, 3, 0] % 10, label)
    assert source.image_shape == (28, 28, 1) and source.num_classes == 10


def test_files_put_there_by_hand_are_prepared_without_network(manual):
    check(data.load("mnist", data_dir=str(manual)))
    check(data.load("mnist", data_dir=str(manual), split="test"), "test")


def test_the_mnist_family_has_the_names_of_its_classes(manual):
    from jaxgan.data import idx

    assert data.load("mnist", data_dir=str(manual)).class_names == idx.CLASS_NAMES["mnist"]


def test_cifar10_is_prepared_from_its_archive_without_tensorflow(manual, monkeypatch):
    monkeypatch.setattr(cifar, "RECORDS", 2)
    source = data.load("cifar10", data_dir=str(manual))
    image, label = source.arrays["image"], source.arrays["label"]
    assert image.shape == (10, 32, 32, 3) and source.class_names == cifar.CLASS_NAMES
    np.testing.assert_array_equal(np.sort(image[:, 5, 5, 1]), np.arange(10))
    np.testing.assert_array_equal(image[:, 0, 31, 2], label)
    shutil.rmtree(manual / "downloads")
    test = data.load("cifar10", data_dir=str(manual), split="test")
    assert sorted(test.arrays["image"][:, 0, 0, 0]) == [10, 11]


def test_prepared_set_is_used_again_without_its_files(manual):
    first = data.load("mnist", data_dir=str(manual))
    shutil.rmtree(manual / "downloads")
    second = data.load("mnist", data_dir=str(manual))
    check(second)
    assert second.fingerprint == first.fingerprint


def test_files_that_tfds_fetched_before_are_used(tmp_path, registered):
    from tensorflow_datasets.core.download import resource

    folder = tmp_path / "downloads" / "kmnist"
    folder.mkdir(parents=True)
    own = builders.OWN["kmnist"]
    for split, files in own.files.items():
        for key, file in files.items():
            url = own.url + file
            path = folder / resource.get_dl_fname(url, registered[url].checksum)
            path.write_bytes(content("kmnist", split, key))
            path.with_name(path.name + ".INFO").write_text('{"urls": [], "dataset_names": []}')
    check(data.load("kmnist", data_dir=str(tmp_path)))


def test_files_of_another_set_fail_their_checksum(manual):
    with pytest.raises(UserError, match="downloads/manual/.* has wrong checksum: delete") as error:
        data.load("fashion_mnist", data_dir=str(manual))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [b"", b"<html>403</html>", content("mnist", "train", "image")[:-9]])
def test_damaged_file_fails_its_checksum_and_prepares_nothing(manual, bad):
    (manual / "downloads/manual/train-images-idx3-ubyte.gz").write_bytes(bad)
    for _ in range(2):
        with pytest.raises(UserError, match="wrong checksum"):
            data.load("mnist", data_dir=str(manual))


@pytest.mark.parametrize("name", builders.OWN)
def test_without_network_and_data_both_remedies_are_named_at_once(tmp_path, name):
    before, file = time.monotonic(), builders.files(name)[0]
    with pytest.raises(UserError, match=f"connect to the network, or put {file}") as error:
        data.load(name, data_dir=str(tmp_path / "nowhere"))
    assert time.monotonic() - before < 10
    assert str(tmp_path / "nowhere/downloads/manual") in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "nowhere").exists()


def test_other_set_without_network_names_what_to_do(tmp_path):
    with pytest.raises(UserError, match="cifar100: not found at .* array_record"):
        data.load("cifar100", data_dir=str(tmp_path))


def test_network_that_swallows_everything_is_given_up(tmp_path, monkeypatch):
    def swallow(*args, **kwargs):
        time.sleep(3)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", swallow)
    monkeypatch.setattr(tfds, "PROBE_SECONDS", 0.1)
    before = time.monotonic()
    with pytest.raises(UserError, match="cannot be reached"):
        data.load("mnist", data_dir=str(tmp_path))
    assert time.monotonic() - before < 2.5


def test_proxy_is_asked_where_there_is_one(tmp_path, monkeypatch):
    asked = []

    def refuse(where, **kwargs):
        asked.append(where)
        raise ConnectionRefusedError

    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(UserError, match="proxy.invalid cannot be reached"):
        data.load("mnist", data_dir=str(tmp_path))
    assert asked == [("proxy.invalid", 3128)]


@pytest.mark.parametrize(
    "wrong, near", [("mnisst", "mnist"), ("cifar_10", "cifar10"), ("folde", "folder")]
)
def test_unknown_name_gets_the_nearest(wrong, near):
    with pytest.raises(UserError, match=f'dataset "{wrong}" .* did you mean "{near}"'):
        data.load(wrong)


def test_name_like_no_other_gets_the_list():
    with pytest.raises(UserError, match="is not one of digits, mnist, .* tensorflow.org"):
        data.load("zzzzzzzz")


class Fake:
    """A builder of TFDS that fails in a chosen way."""

    data_dir = "/data/name/1.0.0"

    def __init__(self, error):
        self.error = error

    def is_prepared(self):
        return False

    def download_and_prepare(self, **kwargs):
        raise self.error


@pytest.mark.parametrize(
    "error, words",
    [
        (ModuleNotFoundError("No module named 'tensorflow'"), "needs TensorFlow to prepare"),
        (PermissionError(13, "Permission denied", "/data"), "PermissionError: .*Permission denied"),
        (RuntimeError("one\n\n  two\nthree"), "RuntimeError: one two three"),
    ],
)
def test_what_tfds_raises_becomes_one_line(monkeypatch, error, words):
    monkeypatch.setattr(tfds, "_stock_builder", lambda name, root: Fake(error))
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: socket.socket())
    with pytest.raises(UserError, match=f"cifar100: .*{words}") as raised:
        data.load("cifar100")
    assert "\n" not in str(raised.value)


def test_truncated_prepared_set_is_refused(manual):
    data.load("mnist", data_dir=str(manual))
    [path] = manual.glob("mnist/uint8/*/mnist-train*")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot provide it"):
        data.load("mnist", data_dir=str(manual))


def test_streamed_and_kept_set_give_the_same(manual, monkeypatch):
    form = {"data_dir": str(manual), "image_size": 10, "channels": 3}
    kept = data.load("mnist", **form)
    monkeypatch.setattr(tfds, "MEMORY_BYTES", 0)
    streamed = data.load("mnist", **form)
    assert isinstance(streamed, tfds.TfdsSource)
    assert streamed.image_shape == kept.image_shape == (10, 10, 3)
    copy = pickle.loads(pickle.dumps(streamed))  # as a worker process gets it
    assert copy.fingerprint == streamed.fingerprint and len(copy) == len(kept) == 30
    options = {"batch_size": 7, "seed": 0}
    batches = [pipeline.batches(kept, **options)]
    batches += [pipeline.batches(source, workers=0, **options) for source in (streamed, copy)]
    for _ in range(6):
        ours, *others = (next(iterator) for iterator in batches)
        for other in others:
            np.testing.assert_array_equal(ours["image"], other["image"])
            np.testing.assert_array_equal(ours["label"], other["label"])
    for iterator in batches:
        iterator.close()
    np.testing.assert_array_equal(streamed.labels, kept.labels)
    assert streamed.class_names == kept.class_names
    assert streamed[3]["image"].shape == (10, 10, 3) and streamed[3]["label"].shape == ()


def build(root, features, examples):
    """Prepares a small set with given features; returns its folder."""

    class Builder(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        """Made for a test."""

        name = "small"
        VERSION = tensorflow_datasets.core.Version("1.0.0")

        def _info(self):
            found = tensorflow_datasets.features.FeaturesDict(features)
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=found)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(examples)

    builder = Builder(data_dir=root, file_format="array_record")
    builder.download_and_prepare()
    return builder.data_dir


def png(*size):
    stream = io.BytesIO()
    PIL.Image.new("RGB", size, (9, 8, 7)).save(stream, "PNG")
    stream.seek(0)
    return stream


def test_images_of_several_sizes_need_a_size(tmp_path):
    feature = {"image": tensorflow_datasets.features.Image(shape=(None, None, 3))}
    folder = build(tmp_path, feature, [{"image": png(9, 5)}, {"image": png(4, 8)}])
    with pytest.raises(UserError, match="set image_size"):
        tfds.TfdsSource(folder, "train")
    source = tfds.TfdsSource(folder, "train", image_size=6).in_memory()
    assert source.arrays["image"].shape == (2, 6, 6, 3) and source.num_classes == 0
    np.testing.assert_array_equal(source.arrays["image"][:, 3, 3], [[9, 8, 7]] * 2)


def test_labels_are_read_without_decoding_images_and_classes_have_names(tmp_path, monkeypatch):
    features = tensorflow_datasets.features
    both = {
        "image": features.Image(shape=(5, 9, 3)),
        "label": features.ClassLabel(names=["a", "b"]),
    }
    folder = build(tmp_path, both, [{"image": png(9, 5), "label": i % 2} for i in range(5)])
    source = tfds.TfdsSource(folder, "train")
    monkeypatch.setattr(features.Image, "decode_example_np", lambda *args: pytest.fail("decoded"))
    np.testing.assert_array_equal(np.bincount(source.labels), [3, 2])
    assert source.class_names == ("a", "b")
    monkeypatch.setattr(tfds, "LABEL_BYTES", 1)
    assert tfds.TfdsSource(folder, "train").labels is None


def test_set_without_split_or_images_is_refused(tmp_path):
    folder = build(tmp_path, {"number": np.int64}, [{"number": 1}])
    with pytest.raises(UserError, match="has no images, only number"):
        tfds.TfdsSource(folder, "train")
    with pytest.raises(UserError, match='no split "test", only train'):
        tfds.TfdsSource(folder, "test")
