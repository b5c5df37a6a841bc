"""Labels of image folders: from files anybody may have written, each mistake one line."""

import json

import numpy as np
import pytest

from jaxgan.data import labels
from jaxgan.types import UserError

PATHS = ["a/x.png", "a/y.png", "b/z.png"]


def write(folder, name, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text)
    return labels.find(folder, PATHS)


def stylegan(*entries):
    return {"labels": [list(entry) for entry in zip(PATHS, entries, strict=True)]}


def table(*rows, header="file_name,label"):
    return "\n".join([header, *rows]) + "\n"


def test_folders_are_classes_and_images_in_the_folder_itself_have_none(tmp_path):
    found = labels.find(tmp_path, PATHS)
    np.testing.assert_array_equal(found.label, [0, 0, 1])
    assert found.class_names == ("a", "b") and found.num_classes == 2
    assert labels.find(tmp_path, ["x.png", "y.png"]) == labels.NONE


def test_labels_of_stylegans_dataset_json_take_the_place_of_folders(tmp_path):
    found = write(tmp_path, "dataset.json", stylegan(2, 0, 2))
    np.testing.assert_array_equal(found.label, [2, 0, 2])
    assert found.label.dtype == np.int32 and found.num_classes == 3 and found.class_names == ()


def test_dataset_json_may_say_that_there_are_no_labels(tmp_path):
    assert write(tmp_path, "dataset.json", {"labels": None}) == labels.NONE


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv"])
def test_a_csv_has_names_or_integers_in_any_order_and_other_columns(tmp_path, name):
    rows = ['3,./b/z.png,"big, dog"', "1,a/x.png,cat", "2,a/y.png, cat "]
    found = write(tmp_path, name, "\ufeff" + table(*rows, header="id,File_Name,Label"))
    np.testing.assert_array_equal(found.label, [1, 1, 0])
    assert found.class_names == ("big, dog", "cat")
    found = write(tmp_path, name, table("b/z.png,0", "a/x.png,1", "", "a/y.png,02"))
    np.testing.assert_array_equal(found.label, [1, 2, 0])
    assert found.class_names == ()


def test_a_metadata_csv_about_something_else_is_passed_over_and_named(tmp_path, caplog):
    found = write(tmp_path, "metadata.csv", table("a/x.png,a cat", header="file_name,text"))
    assert found.class_names == ("a", "b")
    assert "has the columns (file_name, text) where" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("dataset.json", "[1, 2", "is not JSON"),
        ("dataset.json", "[" * 100_000, "is not JSON"),
        ("dataset.json", [1], 'has no "labels"'),
        ("dataset.json", {"labels": {"a": 1}}, '"labels" is no list'),
        ("dataset.json", {"labels": [["a/x.png"]]}, r"\['a/x.png'\] is no pair"),
        ("dataset.json", {"labels": [[1, 2]]}, r"\[1, 2\] is no pair"),
        ("dataset.json", stylegan(0, "cat", 1), "label cat of a/y.png is not an integer"),
        ("dataset.json", stylegan(0, 1.5, 1), "label 1.5 of a/y.png is not an integer"),
        ("dataset.json", stylegan(0, True, 1), "label True of a/y.png is not an integer"),
        ("dataset.json", stylegan(0, [0, 1], 1), r"label \[0, 1\] of a/y.png is not an integer"),
        ("dataset.json", stylegan(0, -1, 1), r"label -1 of a/y.png is outside 0..2"),
        ("dataset.json", stylegan(0, 10**12, 1), r"label 1000000000000 of a/y.png is outside"),
        ("dataset.json", {"labels": []}, r"no label for a/x.png \(3 of 3 images\)"),
        ("labels.csv", "", r"has the columns \(\) where file_name and label are needed"),
        ("labels.csv", table(header="file_name,text"), r"has the columns \(file_name, text\)"),
        ("labels.csv", table("a/x.png,1"), r"no label for a/y.png \(2 of 3 images\)"),
        (
            "labels.csv",
            table("a/x.png,1", "gone.png,1"),
            r"lists gone.png, which is no image .*1 s",
        ),
        ("labels.csv", table("../x.png,1"), "lists ../x.png, which is no image"),
        ("labels.csv", table("a/x.png,1", "./a/x.png,1"), "lists ./a/x.png twice"),
        ("labels.csv", table("a/x.png"), "row of a/x.png has no label"),
        ("labels.csv", table("a/x.png, "), "row of a/x.png has no label"),
        (
            "labels.csv",
            table("a/x.png,1", "a/y.png,1", "b/z.png,c"),
            "label c of b/z.png is no int",
        ),
        ("labels.csv", table("a/x.png,1", "a/y.png,1", "b/z.png,-2"), "label -2 of b/z.png is out"),
        ("labels.csv", table('"a/x.png,1'), "is not CSV"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_value(tmp_path, name, content, words):
    with pytest.raises(UserError, match=f"{name}: .*{words}") as error:
        write(tmp_path, name, content)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_text_of_another_encoding_and_files_too_large_are_refused(tmp_path, monkeypatch):
    (tmp_path / "labels.csv").write_bytes("file,label\nä.png,1".encode("latin-1"))
    with pytest.raises(UserError, match="not text in UTF-8"):
        labels.find(tmp_path, PATHS)
    monkeypatch.setattr(labels, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="too large for labels"):
        labels.find(tmp_path, PATHS)


def test_two_files_of_labels_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(UserError, match="holds dataset.json and labels.csv; keep one"):
        write(tmp_path, "dataset.json", {})


def test_labels_beside_the_splits_are_of_the_split_asked_for(tmp_path):
    (tmp_path / "labels.csv").write_text(table("train/x.png,0", "test/x.png,1", "test/y.png,0"))
    found = labels.find(tmp_path / "test", ["x.png", "y.png"], split="test")
    np.testing.assert_array_equal(found.label, [1, 0])
