"""Texts as sources: what is read, split, numbered, cut, and refused in one line."""

import logging
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data import arrays, grammar, pipeline, subsets, text
from jaxgan.data.vocabulary import END, SPECIAL, UNKNOWN, Vocabulary
from jaxgan.types import UserError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def notes(caplog):
    """What is logged."""
    caplog.set_level(logging.INFO, logger="absl")
    return lambda: [record.getMessage() for record in caplog.records]


def numbered(num):
    return "".join(f"line {i} of many .\n" for i in range(num))


def both(kind, **options):
    return [text.load(kind, split=split, **options) for split in text.SPLITS]


def test_the_grammar_needs_no_files_and_is_in_characters():
    train, test = both("grammar")
    assert (len(train), len(test)) == (grammar.NUM_TRAIN, grammar.NUM_TEST)
    assert train.vocabulary.words == test.vocabulary.words and train.num_tokens == 19
    assert train.arrays["text"].shape == (10_000, 12) and train.arrays["text"].dtype == np.int32
    lines = train.vocabulary.decode(train.arrays["text"])
    assert tuple(lines) == train.lines and all(map(grammar.is_correct, lines[::50]))
    assert not set(train.lines) & set(test.lines)


def test_a_length_counts_the_end():
    source = text.load("grammar")
    example = source[7]
    assert example["text"].shape == (12,) and example["length"].shape == ()
    assert example["text"][example["length"] - 1] == END
    assert example["length"] == len(source.lines[7]) + 1


def test_lines_of_one_file_are_split_at_random_but_equal_ones_never(write):
    content = numbered(40) + "line  3 of many.\n" * 30 + "\n  \n"
    train, test = both("lines", data_dir=write("a.txt", content))
    assert len(train) + len(test) == 70 and len({*train.lines, *test.lines}) == 40
    assert not set(train.lines) & set(test.lines) and len(set(test.lines)) == 4
    assert len({train.fingerprint, test.fingerprint}) == 2
    again = text.load("lines", data_dir=write("a.txt", content), split="test")
    assert again.fingerprint == test.fingerprint
    other = text.load("lines", data_dir=write("a.txt", content), split="test", seed=1)
    assert set(other.lines) != set(test.lines)


def test_equal_but_for_case_is_equal_in_lower_case(write):
    file = write("a.txt", "One two\none two\nONE TWO\nthree\n")
    train, test = both("lines", data_dir=file, lower=True, holdout=0.5)
    assert {*train.lines, *test.lines} == {"one two", "three"}
    assert not set(train.lines) & set(test.lines)


def test_the_vocabulary_is_the_training_splits_alone(write, tmp_path):
    write("train.txt", "a b c\na b\n")
    write("test.txt", "a b\nc d\n")
    train, test = both("lines", data_dir=str(tmp_path))
    assert train.vocabulary.words == test.vocabulary.words == (*SPECIAL, "a", "b", "c")
    assert test.vocabulary.decode(test.arrays["text"]) == ["a b", "c <unk>"]
    assert test.lines == ("a b", "c d") and train.max_length == test.max_length == 4
    small = text.load("lines", data_dir=str(tmp_path), vocabulary_size=5, min_count=2)
    assert (small.arrays["text"] == UNKNOWN).sum() == 1 and small.num_tokens == 5


def test_what_both_files_hold_is_told(write, tmp_path, notes):
    write("train.txt", "a b\nc\n")
    write("test.txt", "a  b\nd\n")
    text.load("lines", data_dir=str(tmp_path), split="test")
    assert any("1 of 2 texts of the test split are in the training split too" in x for x in notes())


@pytest.mark.parametrize(("too_long", "num"), [("cut", 3), ("drop", 2)])
def test_longer_texts_are_cut_or_dropped_as_told_and_counted(write, notes, too_long, num):
    file = write("a.txt", "a b c d e\na b\nc\n")
    source = text.load("lines", data_dir=file, holdout=0, max_length=3, too_long=too_long)
    assert len(source) == len(source.lines) == num and source.max_length == 3
    what = "cut" if too_long == "cut" else "dropped"
    told = f"1 of 3 texts are longer than max_length 3 (the longest 6) and are {what}"
    assert sum(told in x for x in notes()) == 1
    if too_long == "cut":
        assert source.lines[0] == "a b c d e" and END not in source.arrays["text"][0]


def test_a_known_vocabulary_is_used_as_it_is(write):
    table = Vocabulary((*SPECIAL, "b", "a"), "characters")
    source = text.load("lines", data_dir=write("a.txt", "ab\nbb\nac\n"), known=table, holdout=0)
    np.testing.assert_array_equal(source.arrays["text"], [[4, 3, 2], [3, 3, 2], [4, 1, 2]])
    assert source.vocabulary is table


def test_a_running_text_is_windows_without_an_end_split_by_position(write):
    content = "\n".join("abcdefghij" for _ in range(20))  # 219 characters
    train, test = both("characters", data_dir=write("a.txt", content), max_length=10)
    assert train.arrays["text"].shape == (20, 10) and test.arrays["text"].shape == (3, 10)
    assert "".join(train.lines + test.lines) == content
    assert END not in train.arrays["text"]
    assert (train.arrays["length"] == [10] * 19 + [7]).all()  # the last one is shorter


def test_a_running_text_may_be_windows_of_words(write):
    content = "to be , or not to be .\n" * 20
    options = {"unit": "words", "max_length": 8, "holdout": 0.5}
    train, _ = both("characters", data_dir=write("a.txt", content), **options)
    assert train.lines[0] == "to be , or not to be ." and len(train) == 10


def test_a_table_has_texts_and_classes(write):
    rows = "".join(f'"Text {i}, \\of #39;{i}",x,{"bA"[i % 2]}\n' for i in range(20))
    train, test = both("csv", data_dir=write("a.csv", "Title,other,Class\n" + rows))
    assert train.class_names == test.class_names == ("A", "b") and train.num_classes == 2
    assert len(train) == 18 and len(test) == 2
    number = int(train.lines[0].split()[1])
    assert train.lines[0] == f"Text {number} , of'{number}"
    assert train.labels is not None and train.labels.dtype == np.int32
    assert train.labels[0] == train.class_names.index("bA"[number % 2])


def test_classes_that_are_numbers_are_in_their_order(write):
    file = write("a.csv", "text,label\n" + "".join(f"t {i},{i}\n" for i in range(12)))
    assert text.load("csv", data_dir=file, holdout=0).class_names == tuple(map(str, range(12)))
    source = text.load("csv", data_dir=file, text_column="label", holdout=0)
    assert source.lines == tuple(map(str, range(12)))


def test_a_turn_answers_the_one_before_and_dialogues_stay_together(write):
    content = "".join(f"Hi {i} . __eou__ And you ? __eou__ Fine {i} .\n" for i in range(10))
    train, test = both("dialogue", data_dir=write("a.txt", content), separator="__eou__")
    assert (len(train), len(test)) == (18, 2)
    assert train.lines[:2] == ("And you ?", "Fine 0 .")
    source = train.vocabulary.decode(train.arrays["source"])
    assert source[:2] == ["Hi 0 .", "And you ?"]
    np.testing.assert_array_equal(train.arrays["source_length"][:2], [4, 4])


def test_an_exchange_of_the_test_part_is_not_in_the_training_part(write, notes):
    content = "".join(f"Yes? No. {i}.\n" for i in range(10))
    train, test = both("dialogue", data_dir=write("a.txt", content), holdout=0.2)
    assert test.lines[0] == "No ." and "No ." not in train.lines and len(train) == 8
    assert any(
        "8 are left out of the training part as the test part has them" in x for x in notes()
    )


def test_a_play_is_one_dialogue_without_the_speakers_names(write):
    content = "".join(f"FIRST {i}:\nSpeech {i}\nof two lines.\n\n" for i in range(21))
    train, test = both("dialogue", data_dir=write("a.txt", content), separator="\\n\\n")
    assert train.lines[0] == "Speech 1 of two lines ." and len(train) == 18
    assert test.lines == ("Speech 20 of two lines .",)  # 19 answers the last of the training part


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("coco", ("image_coco.txt", "test_coco.txt")),
        ("emnlp_news", ("emnlp_news.txt", "test_emnlp.txt")),
    ],
)
def test_published_sets_are_read_by_their_files_names(write, tmp_path, kind, names):
    write(names[0], "a dog .\na cat .\n")
    with pytest.raises(UserError, match=f"has no {names[1]}; .* --dataset=lines"):
        text.load(kind, data_dir=str(tmp_path))
    write(names[1], "a bird .\n")
    train, test = both(kind, data_dir=str(tmp_path))
    assert (len(train), test.lines) == (2, ("a bird .",))


def test_an_oracles_numbers_have_no_vocabulary():
    tokens = np.array([[3, 0, 4999], [1, 2, 2]], np.uint16)
    source = text.from_tokens(tokens, num_tokens=5000)
    np.testing.assert_array_equal(source.arrays["text"], tokens)
    assert source.arrays["text"].dtype == np.int32 and source.vocabulary is None
    np.testing.assert_array_equal(source.arrays["length"], [3, 3])
    with pytest.raises(UserError, match="oracle: token 4999 is outside 0..4998"):
        text.from_tokens(tokens, num_tokens=4999)
    with pytest.raises(UserError, match="need integers"):
        text.from_tokens(np.zeros((0, 3), int), num_tokens=5)
    with pytest.raises(UserError, match="lengths must be in 1..3"):
        text.from_tokens(tokens, num_tokens=5000, length=np.array([1, 4]))


def test_batches_of_texts_come_in_every_mode_as_int32():
    source = text.from_tokens(np.arange(24, dtype=np.uint8).reshape(8, 3), num_tokens=24)
    expected = source[pipeline.batch_indices(0, 0, num_examples=8, batch_size=4)]
    for mode in ("host", "resident", "stream"):
        batches = pipeline.batches(source, batch_size=4, seed=0, mode=mode, workers=0)
        batch = pipeline.prepare(next(batches))
        batches.close()
        assert batch["text"].dtype == batch["length"].dtype == jnp.int32
        np.testing.assert_array_equal(batch["text"], expected["text"])


def test_a_part_of_a_text_stays_in_memory_and_can_be_pickled():
    source = text.load("grammar", split="test")
    rest, held_out = subsets.hold_out(source)
    assert isinstance(rest, text.TextSource) and len(rest) + len(held_out) == len(source)
    assert set(rest.lines) | set(held_out.lines) == set(source.lines)
    copy = pickle.loads(pickle.dumps(rest))
    assert copy.fingerprint == rest.fingerprint != source.fingerprint


@pytest.mark.parametrize(
    ("kind", "content", "match"),
    [
        ("lines", "", "a.txt: is empty"),
        ("lines", "\n \n", "a.txt: is empty"),
        ("lines", "only one\n", "a.txt: holds one sentence to train on; need at least two"),
        ("lines", "same\n" * 5, "all its lines are the same"),
        ("lines", b"fine\r\nfine too\r\nna\xefve\r\n", "line 3 is not UTF-8 .byte 0xef.; convert"),
        ("characters", " \n", "a.txt: is empty; need a running text"),
        ("characters", "ab", "2 characters are too few"),
        ("csv", "", "a.txt: is empty"),
        ("csv", "a,b\n1,2\n", "has no column text or sentence or .*, only a, b; set --text_column"),
        ("csv", "text,b\n1,2\n", "has no column label or .*, only text, b; set --label_column"),
        ("csv", "text,label\na,x\nb\n", "row 3 has 1 fields where the header has 2"),
        ("csv", 'text,label\n"a,x\n', "is not CSV, or damaged"),
        ("csv", "text,label\n", "a.txt: is empty"),
        ("dialogue", "", "no turn of it follows another"),
        ("dialogue", "Hello there\nNobody\n", "separated by 'the end of a sentence'"),
        ("coco", "a\nb\n", "has no image_coco.txt"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_line_that_names_it(write, kind, content, match):
    with pytest.raises(UserError, match=match) as error:
        text.load(kind, data_dir=write("a.txt", content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"split": "valid"}, 'split "valid" is not one of train, test'),
        ({"too_long": "cutt"}, 'did you mean "cut"'),
        ({"unit": "word"}, 'did you mean "words"'),
        ({"max_length": -1}, "max_length -1 must be 0 or more"),
        ({"min_count": 0}, "min_count 0"),
        ({"min_count": 9}, "occurs 9 times, the most frequent 4; lower min_count"),
        ({"vocabulary_size": 3}, "vocabulary_size 3 leaves no place"),
        ({"holdout": 1.0}, "holdout 1 is not possible"),
        ({"max_length": 2, "too_long": "drop"}, "every text is longer than max_length 2"),
        ({"data_dir": ""}, "dataset lines needs --data_dir"),
        ({"data_dir": "/nowhere"}, "/nowhere: does not exist"),
    ],
)
def test_an_impossible_wish_is_one_line(write, options, match):
    file = write("a.txt", "a b c\na b d\na b e\na b f\n")
    with pytest.raises(UserError, match=match):
        text.load("lines", **{"data_dir": file, "holdout": 0.0, **options})


def test_without_a_holdout_there_is_no_test_split(write):
    for kind in ("lines", "characters"):
        file = write("a.txt", "a b\nc d\n")
        with pytest.raises(arrays.MissingSplit, match="has no split test"):
            text.load(kind, data_dir=file, split="test", holdout=0)
    with pytest.raises(UserError, match='did you mean "lines"'):
        text.load("line")


def test_a_folder_without_train_txt_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no train.txt; give the file itself"):
        text.load("lines", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="cannot be read"):
        text.load("csv", data_dir=str(tmp_path))


def test_arrays_that_do_not_belong_together_are_refused():
    good = {"text": np.ones((2, 3), int), "length": np.array([3, 1])}
    for change, match in [
        ({"label": np.array([0, 5])}, "label 5 of example 1 is outside 0..1"),
        ({"label": np.array([0])}, '2 texts but 1 of "label"'),
        ({"length": np.array([3])}, "need one a text"),
        ({"source": np.full((2, 2), 9), "source_length": np.array([1, 2])}, "token 9 is outside"),
    ]:
        with pytest.raises(UserError, match=match):
            text.TextSource({**good, **change}, name="own", num_tokens=4, num_classes=2)
