"""The experiment of text: every method, its sentences, scores and mistakes."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _written, sample, text
from jaxgan.data import spec as specs
from jaxgan.run import load
from jaxgan.steps import text as text_steps
from jaxgan.types import UserError
from tests.helpers import runs, tiny

SMALL = {
    "dataset": "lines",
    "batch_size": 8,
    "hidden": 4,
    "embedding": 3,
    "rollouts": 2,
    "eval_sentences": 20,
    "num_samples": 4,
    "log_every": 1,
    "keep_memory": False,
}


@functools.cache
def file():
    """60 different sentences of four words of eight."""
    path, random = runs.folder() / "lines.txt", np.random.default_rng(0)
    found = {" ".join(random.choice(list("abcdefgh"), 4)) for _ in range(60)}
    path.write_text("\n".join(sorted(found)) + "\n")
    return str(path)


@functools.cache
def table():
    """40 rows of two classes, of the words a to d and e to h."""
    path, random = runs.folder() / "news.csv", np.random.default_rng(1)
    rows = [
        f"{' '.join(random.choice(list(('abcd', 'efgh')[n % 2]), 4))},{'xy'[n % 2]}"
        for n in range(40)
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return str(path)


def config(method, **settings):
    return text.Config(**{**SMALL, "data_dir": file(), "method": method, **settings})


@pytest.mark.parametrize("method", text.METHODS)
def test_every_method_has_stages_and_tells_its_losses(method):
    stages = {} if method == "mle" else {"pretrain_steps": 2, "pretrain_disc": 1}
    settings = config(method, num_steps=5, **stages)
    spec = specs.describe(_written.load(settings, "train"))
    experiment = text.build(settings, spec)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(experiment.init, key)
    batch = {
        name: jax.ShapeDtypeStruct((8, *shape), jnp.int32) for name, shape in spec.shapes.items()
    }
    seen = []
    for until, step in experiment.stages(5):
        after, metrics = jax.eval_shape(step, key, state, batch)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        seen.append((until, "gen/loss" in metrics, "disc/loss" in metrics))
    if method == "mle":
        assert seen == [(5, True, False)]
    else:
        assert seen == [(2, True, False), (3, False, True), (5, True, True)]


def test_a_run_writes_lines_is_scored_and_sampled_as_asked(tmp_path, capsys):
    place = str(tmp_path / "run")
    settings = {"num_steps": 2, "sample_every": 2, "save_every": 2, "eval_every": 2}
    assert text.run(config("mle", workdir=place, **settings)) is not None
    written = (tmp_path / "run" / "samples" / "step_00000002.txt").read_text().splitlines()
    assert len(written) == 4 and set(" ".join(written).split()) <= {*"abcdefgh", "<unk>"}
    printed = capsys.readouterr().out
    assert f"    {written[0]}" in printed.splitlines() and "images/s" not in printed
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scored = next(line for line in lines if "eval/nll" in line)
    np.testing.assert_allclose(scored["eval/perplexity"], np.exp(scored["eval/nll"]))
    # Hardly trained: about as unlikely as one of the eight words, the end and what never comes.
    assert 1.5 < scored["eval/nll"] < 3 and 0 <= scored["eval/bleu2"] <= 1
    out = tmp_path / "samples.txt"
    options = {"workdir": place, "num": 5, "out": str(out)}
    sample.run(sample.Config(**options, prompt="h a", top_k=2, temperature=0.5))
    assert [line[:3] for line in out.read_text().splitlines()] == ["h a"] * 5
    for wrong, said in (
        ({"prompt": "h z"}, "the run does not know z"),
        ({"prompt": "a b c d e f"}, "has 6 words; samples have 5 at most"),
        ({"truncation": 1.0}, "--truncation: not a generator of latents"),
        ({"label": "x"}, "--label=x: the run has no labels"),
        ({"out": str(tmp_path / "a.png")}, "these are sentences"),
    ):
        with pytest.raises(UserError, match=said):
            sample.run(sample.Config(**{**options, **wrong}))


def test_characters_are_scored_in_bits_and_sums_are_checked():
    settings = config("mle", dataset="grammar", data_dir="")
    train = _written.load(settings, "train")
    score = text.build(settings, specs.describe(train)).score
    found = score.measure({**train[np.arange(20)], "nll": np.log([4.0])})
    assert found["bits"] == pytest.approx(2) and found["perplexity"] == pytest.approx(4)
    assert found["correct"] == found["copied"] == 1 and found["new"] == 0


@pytest.mark.slow  # compiles the step of a discriminator
def test_roll_outs_begin_with_a_copy_of_the_generator_that_another_run_gave():
    settings = config("seqgan", num_steps=5, pretrain_disc=1)
    data = _written.load(settings, "train")
    experiment = text.build(settings, specs.describe(data))
    ((_, disc_only),) = experiment.pretraining
    state = experiment.init(jax.random.key(0))
    given = jax.tree.map(lambda x: x + 1, state.gen.params)
    state = state.replace(gen=state.gen.replace(params=given))
    batch = {name: jnp.asarray(array[:8]) for name, array in data.arrays.items()}
    after, _ = jax.jit(disc_only)(jax.random.key(1), state, batch)
    assert tiny.equal(after.extra[text_steps.ROLLOUT]["params"], given)


@pytest.mark.slow  # compiles three steps, twice
def test_a_run_that_is_stopped_in_any_stage_ends_as_one_that_is_not(tmp_path):
    options = {"pretrain_steps": 2, "pretrain_disc": 2, "save_every": 1, "sample_every": 8}
    ours = text.run(config("seqgan", workdir=str(tmp_path / "ours"), num_steps=6, **options))
    for num in (1, 3, 5, 6):
        theirs = text.run(
            config("seqgan", workdir=str(tmp_path / "theirs"), num_steps=num, **options)
        )
    assert ours is not None and tiny.equal(ours, theirs)


def test_sentences_are_of_the_class_asked_for_and_say_so(tmp_path):
    settings = config("mle", dataset="csv", data_dir=table(), workdir=str(tmp_path / "run"))
    every = {"num_steps": 1, "sample_every": 1, "save_every": 1, "eval_every": 1}
    text.run(text.Config(**{**vars(settings), **every}))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    scored = next(line for line in map(json.loads, lines) if "eval/nll" in line)
    assert 0 < scored["eval/agreement"] < 1 == scored["eval/floor_agreement"]
    train = _written.load(settings, "train")
    score, real = text.build(settings, specs.describe(train)).score, train[np.arange(20)]
    for label, share in ((real["label"], 1), (1 - real["label"], 0)):
        assert score.measure({**real, "label": label, "nll": np.ones(1)})["agreement"] == share
    shown = (tmp_path / "run" / "samples" / "step_00000001.txt").read_text().splitlines()
    assert [line[:3] for line in shown] == ["[x]", "[y]"] * 2
    out = tmp_path / "y.txt"
    sample.run(sample.Config(workdir=str(tmp_path / "run"), num=3, label="y", out=str(out)))
    assert all(line.startswith("[y] ") for line in out.read_text().splitlines())
    assert load.load(tmp_path / "run").spec.class_names == ("x", "y")


@pytest.mark.slow  # trains; a run of two steps is above
def test_the_language_model_learns_which_word_follows(tmp_path):
    path = tmp_path / "abc.txt"
    path.write_text("".join(f"{x} b c {x}\n" for x in "adefghijklmnopqrstuvwxyz"))
    settings = {"num_steps": 60, "gen_lr": 0.05, "hidden": 16, "embedding": 8, "log_every": 60}
    state = text.run(config("mle", data_dir=str(path), workdir=str(tmp_path / "run"), **settings))
    assert state is not None
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    # Of five tokens the first is free and the fourth repeats it: 2 log 24 / 5 = 1.27.
    assert line["step"] == 60 and line["gen/loss"] < 1.6 < np.log(27) / 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "mle", "pretrain_steps": 5}, "--method=mle has none of"),
        ({"method": "seqgan", "penalty": "r1"}, "--penalty=r1 needs images"),
        ({"method": "seqgan", "accumulate": 2}, "--accumulate=2 is for --method=mle and relgan"),
        ({"method": "relgan", "representations": 3}, "--representations=3 does not divide 64"),
        ({"method": "gan"}, "gan"),
    ],
)
def test_a_mistake_is_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        config(**settings)
