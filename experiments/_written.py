"""The texts of `experiments.text`, what its generators write, and how that is measured."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgan import sample, sentences
from jaxgan.data import arrays, grammar, subsets, text
from jaxgan.data.spec import Spec
from jaxgan.data.vocabulary import UNKNOWN, Vocabulary
from jaxgan.losses import text as losses
from jaxgan.metrics import text as metrics
from jaxgan.nets import rnn
from jaxgan.run.experiment import Score
from jaxgan.types import Key, PyTree, UserError

ORACLE = "oracle"
ORACLE_SENTENCES = 10_000  # of the oracle, to train on and to test with
BATCH = 500
Entries = dict[str, np.ndarray]


@functools.lru_cache(maxsize=2)
def oracle(data_dir: str) -> tuple[nn.Module, PyTree]:
    """Opens SeqGAN's teacher.

    Args:
      data_dir: its file, target_params.npz.

    Returns:
      The generator, and its variables.

    Raises:
      UserError: no file is named.
    """
    if not data_dir:
        raise UserError("--dataset=oracle needs --data_dir=FILE, the teacher's target_params.npz")
    return rnn.oracle(arrays.read_npz(data_dir))


@functools.lru_cache(maxsize=4)
def load(config: Any, split: str) -> text.TextSource:
    """Opens the texts of a run.

    Args:
      config: the flags of `experiments.text`.
      split: "train" or "test".

    Returns:
      The source.
    """
    if config.dataset == ORACLE:
        teacher, variables = oracle(config.data_dir)
        length = config.max_length or 20
        key = jax.random.key(("train", "test").index(split))
        tokens = write(teacher, variables, key, ORACLE_SENTENCES, length)["text"]
        return text.from_tokens(tokens, num_tokens=teacher.vocabulary)  # pyright: ignore
    return text.load(
        config.dataset,
        data_dir=config.data_dir,
        split=split,
        lower=config.lower,
        max_length=config.max_length,
        too_long=config.too_long,
        vocabulary_size=config.vocabulary_size,
        min_count=config.min_count,
        holdout=config.holdout,
        text_column=config.text_column,
        label_column=config.label_column,
        separator=config.separator,
    )


def held_out(config: Any, num: int) -> Entries:
    """Sentences that a run does not learn from, chosen at random, always the same.

    Args:
      config: the flags of `experiments.text`.
      num: how many at most.

    Returns:
      "text" [N, T], "length" [N] and what they are about.
    """
    test = load(config, "test")
    return test[subsets.choose(test, num)]


def write(
    module: nn.Module,
    variables: PyTree,
    key: Key,
    num: int,
    length: int,
    *,
    about: Mapping[str, np.ndarray] | None = None,
    top_k: int | None = None,
    **options: Any,
) -> Entries:
    """Writes sentences, some at a time, without the word that stands for unknown ones.

    Args:
      module: the generator.
      variables: its variables.
      key: consumed.
      num: how many.
      length: tokens of each at most.
      about: what each is about, [num, ...]: "label", or "source" and "source_length".
      top_k: tokens that may be drawn, the most likely ones; None for all.
      **options: "temperature" and "prompt" of `sentences.generate`.

    Returns:
      "text" [num, length] and "length" [num].
    """
    size, parts = min(BATCH, num), []
    run = _generate(module, size, length, top_k)
    for number, each in enumerate(jax.random.split(key, -(-num // size))):
        first = min(number * size, num - size)  # the last batch reaches back: one shape
        some = {name: value[first : first + size] for name, value in (about or {}).items()}
        made = run(each, variables, **some, **options)
        new = slice(number * size - first, None)
        parts.append([np.asarray(x)[new] for x in (made.text, made.length)])
    words, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    return {"text": words, "length": lengths}


def never_drawn(module: nn.Module) -> tuple[int, ...]:
    """Tokens that samples do not hold: the one that stands for words the vocabulary lacks.

    Args:
      module: the generator.

    Returns:
      The tokens; none where they are numbers and nothing else, as the oracle's.
    """
    return () if sentences.module_end(module) is None else (UNKNOWN,)


@functools.lru_cache(maxsize=16)
def _generate(module: nn.Module, num: int, length: int, top_k: int | None) -> Callable[..., Any]:
    def run(key: Key, variables: PyTree, **options: Any) -> sentences.Sentences:
        options |= {"top_k": top_k, "without": never_drawn(module)}
        return sentences.generate(key, module, variables, num, length, **options)

    return jax.jit(run)


@functools.partial(jax.jit, static_argnums=0)
def _nll(
    module: nn.Module, variables: PyTree, batch: Mapping[str, Any], temperature: float
) -> jax.Array:
    logits = module.apply(variables, batch["text"], **_about(batch), train=False)
    return losses.token_cross_entropy(logits / temperature, batch["text"], batch["length"]).sum(1)


@functools.partial(jax.jit, static_argnums=0)
def _embedded(module: nn.Module, variables: PyTree, batch: Mapping[str, Any]) -> jax.Array:
    features = module.apply(
        variables, batch["text"], **_about(batch), train=False, method="features"
    )
    length = batch["length"][:, None]
    read = jnp.arange(features.shape[1])[None] < length
    return jnp.where(read[..., None], features, 0).sum(1) / length


def _about(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in ("label", "source", "source_length") if name in batch}


def nll(
    module: nn.Module,
    variables: PyTree,
    entries: Mapping[str, np.ndarray],
    *,
    temperature: float = 1.0,
) -> np.ndarray:
    """How unlikely a generator finds sentences.

    Args:
      module: the generator.
      variables: its variables.
      entries: "text" [N, T], "length" [N] and what the generator sees beside them.
      temperature: that its logits are divided by.

    Returns:
      [N] nats.
    """
    read = functools.partial(_nll, module, variables, temperature=temperature)
    return _in_batches(read, entries)


def embedded(module: nn.Module, variables: PyTree, entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a language model has in mind while it reads sentences, for the Frechet distance of text.

    See "On Accurate Evaluation of GANs for Language Generation" by Semeniuta et al.
    (https://arxiv.org/abs/1806.04936), whose embedding is of another network.

    Args:
      module: a generator of text.
      variables: its variables.
      entries: "text" [N, T], "length" [N] and what the generator sees beside them.

    Returns:
      [N, F], the mean of its features over the tokens of each sentence.
    """
    return _in_batches(functools.partial(_embedded, module, variables), entries)


def _in_batches(
    read: Callable[[Mapping[str, np.ndarray]], jax.Array], entries: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Applies a function to entries [N, ...], some at a time in one shape."""
    num = len(entries["text"])
    size, parts = min(BATCH, num), []
    for start in range(0, num, size):
        first = min(start, num - size)
        batch = {name: x[first : first + size] for name, x in entries.items()}
        parts.append(np.asarray(read(batch))[start - first :])
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Sentences of a generator.

    Attributes:
      gen: the generator.
      length: tokens of each at most.
      label_counts: how often each class occurs, where sentences are of classes.
      sources: opens lines to be answered, where the generator answers lines.
    """

    gen: nn.Module
    length: int
    label_counts: Sequence[int] = ()
    sources: Callable[[], Mapping[str, np.ndarray]] | None = None

    def __call__(
        self,
        variables: PyTree,
        key: Key,
        num: int,
        *,
        label: np.ndarray | None = None,
        **options: Any,
    ) -> Entries:
        """Writes sentences about what the data are about, class by class as often as there.

        Args:
          variables: of the generator.
          key: consumed.
          num: how many.
          label: [num] int32, classes that one chooses.
          **options: "temperature", "top_k" and "prompt" of `write`.

        Returns:
          "text" [num, T], "length" [num], and "label" or "source" and "source_length" where they
          are about something.
        """
        about: dict[str, Any] = {}
        if self.label_counts:
            chosen = sample.spread_labels(self.label_counts, num) if label is None else label
            about["label"] = chosen
        if self.sources is not None:
            lines = self.sources()
            rows = np.arange(num) % len(lines["source"])
            about |= {name: x[rows] for name, x in lines.items()}
        made = write(self.gen, variables, key, num, self.length, about=about, **options)
        return {**about, **made}


def lines(entries: Mapping[str, np.ndarray], spec: Spec) -> list[str]:
    """Writes sentences out.

    Args:
      entries: "text", and "source" or "label" where there are.
      spec: of the data: the vocabulary and the names of the classes.

    Returns:
      One line each, after its class or the line it answers.
    """
    texts = _decoded(entries["text"], entries.get("length"), spec)
    if "source" in entries:
        sources = _decoded(entries["source"], entries["source_length"], spec)
        return [f"{before} -> {line}" for before, line in zip(sources, texts, strict=True)]
    if "label" in entries and spec.class_names:
        return [
            f"[{spec.class_names[label]}] {line}"
            for label, line in zip(entries["label"], texts, strict=True)
        ]
    return texts


def _decoded(tokens: np.ndarray, length: np.ndarray | None, spec: Spec) -> list[str]:
    if not spec.vocabulary:
        lengths = [tokens.shape[1]] * len(tokens) if length is None else length
        return [" ".join(map(str, row[:n])) for row, n in zip(tokens, lengths, strict=True)]
    return Vocabulary(spec.vocabulary, spec.unit).decode(tokens)


def score(config: Any, gen: nn.Module, sampler: Sampler, spec: Spec) -> Score:
    """Makes the measure of a run.

    Args:
      config: the flags of the run.
      gen: the generator.
      sampler: of its sentences.
      spec: of the data.

    Returns:
      The measure: "nll" of held-out text, in nats a token, "perplexity", and "bits" of each where
      they are characters; what `metrics.text.compare` says of samples; of the oracle "oracle"
      instead, its mean nats a token of samples; of the grammar also "correct" and "new", shares of
      the samples; of classes "agreement", the share of samples that a classifier of the training
      text finds in the class asked for, and "floor_agreement", that of held-out text.
    """

    def draw(variables: PyTree, key: Key, num: int, *, temperature: float = 1.0) -> Entries:
        test = held_out(config, num)
        made = sampler(variables, key, num, temperature=temperature)
        found = nll(gen, variables, test, temperature=temperature).sum() / test["length"].sum()
        return {**made, "nll": np.asarray([found])}

    def measure(entries: Mapping[str, np.ndarray]) -> dict[str, float]:
        held = float(entries["nll"][0])
        found = {"nll": held, "perplexity": float(np.exp(min(held, 100.0)))}
        if spec.unit == "characters":
            found["bits"] = held / math.log(2)
        if config.dataset == ORACLE:
            teacher, variables = oracle(config.data_dir)
            own = {name: entries[name] for name in ("text", "length")}
            return {
                "oracle": float(nll(teacher, variables, own).sum() / entries["length"].sum()),
                **found,
            }
        train, test = load(config, "train"), load(config, "test")
        vocabulary = Vocabulary(spec.vocabulary, spec.unit)
        samples = vocabulary.decode_tokens(entries["text"])
        split = [[vocabulary.tokenize(line) for line in part.lines] for part in (test, train)]
        found |= metrics.compare(samples, split[0], training=split[1])
        if config.dataset == "grammar":
            written = [vocabulary.join(tokens) for tokens in samples]
            known = set(train.lines)
            found |= metrics.correctness(written, grammar.is_correct, known)
        if train.labels is not None and len(set(train.labels)) > 1:
            classes = metrics.classifier(split[1], train.labels)
            found["agreement"] = float(np.mean(classes(samples) == entries["label"]))
            found["floor_agreement"] = float(np.mean(classes(split[0]) == test.labels))
        return found

    return Score(
        protocol=f"{config.method} on {config.dataset}",
        num=config.eval_sentences,
        measure=measure,
        floor={},
        best="oracle" if config.dataset == ORACLE else "nll",
        draw=draw,
    )
