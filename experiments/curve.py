r"""Is a GAN of text better than a language model at a lower temperature? A table and a picture.

    python -m experiments.curve --workdir=runs/mle --beside=runs/seqgan,runs/relgan --out=curve.png

samples the language model of --workdir at several temperatures, which trade quality for diversity,
and puts each run of --beside next to that curve: how much better its samples are than those of the
language model that are as diverse. Only what lies beyond the curve is a gain ("Language GANs
Falling Short" by Caccia et al., https://arxiv.org/abs/1811.02549, section 4).

Quality is BLEU against held-out sentences, diversity self-BLEU, lower for more; of the oracle
the nats a token it finds in samples, and the run finds in held-out text. The Frechet distance is
between samples and held-out text as the language model of --workdir reads them.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import _plots, _written
from jaxgan import parallel
from jaxgan.data import subsets
from jaxgan.metrics import bleu, frechet
from jaxgan.run import cli, load
from jaxgan.types import UserError

Row = dict[str, float]


class Trade(NamedTuple):
    """A measure of quality against one of diversity.

    Attributes:
      quality: its name.
      higher: whether more of it is better; else less.
      diversity: the name of the other; less is more diverse.
    """

    quality: str
    higher: bool
    diversity: str

    def gain(self, curve: Sequence[Row], row: Row) -> float:
        """Tells how much better samples are than those of the curve that are as diverse.

        Args:
          curve: the language model's rows.
          row: of the other run.

        Returns:
          The difference in quality to the best that the curve, joined by lines, has at that
          diversity; above 0 is better. NaN where the curve does not reach so far.
        """
        points = np.asarray([(each[self.diversity], each[self.quality]) for each in curve])
        sign, at = (1 if self.higher else -1), row[self.diversity]
        found = []
        for (x, y), (next_x, next_y) in zip(points[:-1], points[1:], strict=True):
            if min(x, next_x) <= at <= max(x, next_x):
                share = 0.0 if x == next_x else (at - x) / (next_x - x)
                found.append(sign * (y + share * (next_y - y)))
        return float(sign * row[self.quality] - max(found)) if found else float("nan")


ORACLE = (Trade("oracle", False, "nll"),)
TEXT = tuple(Trade(f"bleu{n}", True, f"self_bleu{n}") for n in bleu.ORDERS)


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of a curve."""

    workdir: str = cli.field(
        "", "Directory of the run of a language model (--method=mle); of several seeds the first."
    )
    beside: str = cli.field("", "Runs to put beside it, with commas.")
    checkpoint: str = cli.field("newest", "Of the language model: newest, best, or a step.")
    beside_checkpoint: str = cli.field("newest", "The same, of each run of --beside.")
    temperatures: str = cli.field(
        "0.3,0.5,0.6,0.7,0.8,0.9,1,1.1,1.25,1.5", "Temperatures of the language model."
    )
    num: int = cli.field(2000, "Sentences sampled of each, and held-out ones at most.", minimum=2)
    seed: int = cli.field(0, "Seed of the samples.", minimum=0)
    out: str = cli.field("curve.png", "Picture to write; the numbers go into a .json beside it.")

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)
        if not self.workdir:
            raise UserError("--workdir is empty; name the run of a language model")
        if len(cli.floats(self, "temperatures")) < 2:
            raise UserError(f"--temperatures={self.temperatures}: a curve has two or more")
        if pathlib.Path(self.out).suffix not in (".png", ".svg", ".pdf"):
            raise UserError(f"--out={self.out} ends in none of .png, .svg and .pdf")
        if not pathlib.Path(self.out).expanduser().absolute().parent.is_dir():
            raise UserError(f"--out={self.out}: there is no such folder")


def run(config: Config) -> dict[str, Any]:
    """Measures, prints and draws; returns what the .json file holds."""
    _plots.check()
    parallel.initialize(compilation_cache="~/.cache/jaxgan")
    model = _open(config.workdir, config.checkpoint)
    if model.config.method != "mle":
        raise UserError(f"{config.workdir} is a run of {model.config.method}; the curve is of mle")
    beside = filter(None, config.beside.split(","))
    others = {name: _open(name, config.beside_checkpoint) for name in beside}
    for name, other in others.items():
        if other.spec.fingerprint != model.spec.fingerprint:
            raise UserError(f"{name} learnt from other text than {config.workdir}")
    temperatures = cli.floats(config, "temperatures")
    curve = [
        {"temperature": t, **_measured(config, model, model, temperature=t)} for t in temperatures
    ]
    rows = {name: _measured(config, other, model) for name, other in others.items()}
    trades = ORACLE if "oracle" in curve[0] else TEXT
    gains = {name: {t.quality: t.gain(curve, row) for t in trades} for name, row in rows.items()}
    result = {
        "workdir": config.workdir,
        "step": model.step,
        "num": config.num,
        "seed": config.seed,
        "curve": curve,
        "beside": rows,
        "gain": gains,
        "floor": _floor(config, model),
    }
    out = pathlib.Path(config.out).expanduser()
    out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    _plots.draw(out, [_chart(trade, curve, rows) for trade in trades[:3]])
    print(table(result, trades))
    print(f"wrote {out} and {out.with_suffix('.json')}")
    return result


def _open(workdir: str, checkpoint: str) -> load.Trained:
    try:
        trained = load.load(workdir, which=checkpoint)
    except UserError as err:
        raise UserError(f"{workdir}: {err}" if workdir not in str(err) else str(err)) from err
    if "text" not in trained.spec.shapes:
        raise UserError(f"{workdir} is no run of text")
    return trained


def _measured(config: Config, trained: load.Trained, model: load.Trained, **options: float) -> Row:
    """What the run's own score says of its samples, and their Frechet distance."""
    score, key = trained.experiment.score, jax.random.key(config.seed)
    draw: Any = score.draw  # pyright: ignore[reportOptionalMemberAccess]
    entries = draw(trained.members()[0], key, config.num, **options)
    found = score.measure(entries)  # pyright: ignore[reportOptionalMemberAccess]
    held = _written.held_out(model.config, config.num)
    return {**found, "frechet": _distance(model, entries, held)}


def _floor(config: Config, model: load.Trained) -> Row:
    """What as many sentences of the training text get."""
    train = _written.load(model.config, "train")
    real = train[subsets.choose(train, config.num)]
    return {"frechet": _distance(model, real, _written.held_out(model.config, config.num))}


def _distance(
    model: load.Trained, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]
) -> float:
    sampler: Any = model.experiment.sample
    features = (_written.embedded(sampler.gen, model.members()[0], each) for each in (a, b))
    return frechet.frechet_distance(*features)


def _chart(trade: Trade, curve: Sequence[Row], rows: Mapping[str, Row]) -> _plots.Chart:
    def line(each: Sequence[Row], **options: Any) -> _plots.Line:
        points = [(row[trade.diversity], row[trade.quality]) for row in each]
        return _plots.Line(*zip(*points, strict=True), **options)

    names = [f"{row['temperature']:g}" for row in curve]
    lines = {"language model, by temperature": line(curve, names=names)}
    lines |= {pathlib.Path(name).name: line([row], joined=False) for name, row in rows.items()}
    better = "higher" if trade.higher else "lower"
    return _plots.Chart(
        f"{trade.diversity} (lower: more diverse)", f"{trade.quality} ({better}: better)", lines
    )


def table(result: Mapping[str, Any], trades: Sequence[Trade]) -> str:
    """Lays out the curve, the runs beside it, and on which side of it they lie.

    Args:
      result: what `run` returns.
      trades: of quality for diversity.

    Returns:
      Lines of text.
    """
    names = [name for t in trades for name in (t.quality, t.diversity)]
    names += [name for name in ("nll", "frechet", "copied") if name not in names]
    names = [name for name in names if name in result["curve"][0]]
    lines = [" ".join([f"{'':24}", *(f"{name:>10}" for name in names)])]
    rows = {f"temperature {row['temperature']:g}": row for row in result["curve"]}
    for name, row in (rows | result["beside"]).items():
        lines.append(" ".join([f"{name[-24:]:24}", *(f"{row[each]:10.4f}" for each in names)]))
    lines.append(f"frechet of as much training text: {result['floor']['frechet']:.4f}")
    for name, gains in result["gain"].items():
        lines += [f"{name}: {verdict(trade, gains[trade.quality])}" for trade in trades]
    return "\n".join(lines)


def verdict(trade: Trade, gain: float) -> str:
    """Says on which side of the curve a run lies.

    Args:
      trade: of quality for diversity.
      gain: see `Trade.gain`.

    Returns:
      A line of text.
    """
    if np.isnan(gain):
        return f"its {trade.diversity} is beyond the curve's ends; try other --temperatures"
    side = "better" if gain > 0 else "worse"
    return (
        f"{trade.quality} {abs(gain):.4f} {side} than the language model's of the same "
        f"{trade.diversity}"
    )


if __name__ == "__main__":
    cli.main(Config, run)
