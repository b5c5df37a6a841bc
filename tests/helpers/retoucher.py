"""A run whose translator needs no training, so that what becomes of photos can be told by hand."""

import dataclasses
import functools
import json
import pathlib
import shutil

import jax.numpy as jnp
from flax import linen as nn

from experiments import mixture
from jaxgan.run import cli
from jaxgan.translate import Translator
from tests.helpers import runs

MODULE = "tests.helpers.retoucher"
STORED = pathlib.Path(__file__).parents[1] / "fixtures" / "run_0_1_mixture"


class Echo(nn.Module):
    """Gives back the image it sees, each of its pixels as many times a side as asked for."""

    scale: int = 1
    multiple: int = 2
    reach: int = 3

    def __call__(self, x, *, train):
        assert not train
        return x.repeat(self.scale, 1).repeat(self.scale, 2)


class Negative(Echo):
    def __call__(self, x, *, train):
        return -x


class Tint(Echo):
    """Makes red of grey."""

    def __call__(self, x, *, train):
        return jnp.concatenate([x, 0 * x - 1, 0 * x - 1], -1)


class White(Echo):
    """Makes all white, wherever there is a hole or not; it sees no image in a hole."""

    def __call__(self, x, *, train):
        image, mask = x[..., :3], x[..., 3:]
        return jnp.where(mask > 0, 1.0 + image, 1.0 + 0 * image)


class Whole(nn.Module):
    """Sees the whole image: each becomes its mean."""

    def __call__(self, x, *, train):
        return jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)


TRANSLATORS = {
    "echo": Translator(Echo()),
    "negative": Translator(Negative()),
    "grey": Translator(Negative(), source_channels=1, channels=1),
    "grey echo": Translator(Echo(), source_channels=1, channels=1),
    "tint": Translator(Tint(), source_channels=1),
    "twice": Translator(Echo(2), scale=2),
    "twice grey": Translator(Echo(2), source_channels=1, channels=1, scale=2),
    "white": Translator(White(), masked=True),
    "whole": Translator(Whole()),
    "large": Translator(Echo(), least=8),
    "none": None,
}


@dataclasses.dataclass(frozen=True)
class Config(mixture.Config):
    kind: str = cli.field("echo", "Which translator.")


def build(config, spec):
    return mixture.build(config, spec)._replace(translator=TRANSLATORS[config.kind])


@functools.cache
def run(kind: str) -> pathlib.Path:
    """The directory of a run that applies a translator: a stored one of two seeds, with another."""
    shutil.copytree(STORED, workdir := runs.folder() / "run")
    record = json.loads((workdir / "config.json").read_text())
    record["config"]["kind"] = kind
    (workdir / "config.json").write_text(json.dumps(record))
    return workdir
