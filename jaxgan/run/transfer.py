"""Transfer: a new run that begins with the players of another, as they were at a checkpoint.

Each network is taken from its own counterpart: the generator, the discriminator, and the moving
average of the generator ("Training Generative Adversarial Networks with Limited Data" by Karras et
al., https://arxiv.org/abs/2006.06676, section 4.2, starts from pre-trained networks so), parameters
and statistics both. Optimisers, counters, settings, schedules and data are the new run's own.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import types
from jaxgan.run import checkpoint, rundir, saver, scoring, stored
from jaxgan.run.adversarial import AdversarialConfig
from jaxgan.run.config import RunConfig
from jaxgan.state import GANState, Player
from jaxgan.types import PyTree, UserError

GEN_PARTS = ("gen.params.", "gen.stats.", "gen_ema.")  # those taken
PARTS = (*GEN_PARTS, "disc.params.", "disc.stats.")
SHOWN = 6  # settings named in a message


class Origin(NamedTuple):
    """Players that a run can begin with.

    Attributes:
      checkpoints: the folder that they are in.
      step: at which they were saved.
      shared: whether they are those of one GAN, and the run trains several.
      only_gen: whether the discriminator is not taken.
    """

    checkpoints: pathlib.Path
    step: int
    shared: bool
    only_gen: bool


def find(config: RunConfig, state: GANState, *, module: str, metric: str) -> Origin:
    """Finds the players that a run is to begin with, and checks that they fit; reads no numbers.

    Args:
      config: names the other run and its checkpoint.
      state: a fresh state of the new run, or its shapes.
      module: of the new run's experiment.
      metric: by which the best checkpoint is chosen.

    Returns:
      Where they are.

    Raises:
      UserError: there is no such run or checkpoint, or its networks are others.
    """
    run = pathlib.Path(config.init_from).expanduser()
    record = rundir.read_config(run)
    folder = run / "checkpoints"
    step = None  # the newest that is not damaged
    if config.init_checkpoint != "newest":
        step = scoring.choose_step(
            config.init_checkpoint,
            lines=rundir.read_metrics(run),
            metric=metric,
            steps=saver.finished(folder),
            flag="--init_checkpoint",
        )
    step, arrays = checkpoint.stored_arrays(folder, step=step)
    only_gen = config.init_players == "gen"
    wanted = _players(state, only_gen=only_gen)
    parts = GEN_PARTS if only_gen else PARTS
    theirs = {name: leaf for name, leaf in arrays.items() if name.startswith(parts)}
    ours = stored.leaves(wanted)
    different = _different(theirs, ours)
    if not different:
        return Origin(folder, step, shared=False, only_gen=only_gen)
    if config.is_ensemble:
        ours = stored.leaves(_one(wanted))
        if not _different(theirs, ours):
            return Origin(folder, step, shared=True, only_gen=only_gen)
    _check_seeds(config, theirs, ours)
    remedy = "use the same network, widths, image size and conditions in both"
    if all(difference.startswith("disc.") for difference in different):
        remedy += ", or --init_players=gen for a fresh discriminator"
    raise UserError(
        f"--init_from={config.init_from} is a run of {_told(record, config, module)}, whose "
        f"players do not fit: {different[0]}; {remedy}"
    )


def start(origin: Origin, state: GANState) -> GANState:
    """Puts another run's players in the place of fresh ones.

    Args:
      origin: from `find`.
      state: a fresh state, on its devices; it is not used up.

    Returns:
      The state at step 0, its optimisers fresh.

    Raises:
      UserError: what was saved cannot be read.
    """

    def struct(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

    players = _players(state, only_gen=origin.only_gen)
    wanted = jax.tree.map(struct, _one(players) if origin.shared else players)
    taken = checkpoint.restore_parts(origin.checkpoints, wanted, step=origin.step)
    if origin.shared:
        shardings = jax.tree.map(lambda leaf: leaf.sharding, players)
        like = jax.tree.map(struct, players)
        taken = jax.jit(
            lambda tree: jax.tree.map(lambda x, y: jnp.broadcast_to(x[None], y.shape), tree, like),
            out_shardings=shardings,
        )(taken)
    gen = state.gen.replace(**taken["gen"])
    disc = state.disc if origin.only_gen else state.disc.replace(**taken["disc"])
    return state.replace(gen=gen, disc=disc, gen_ema=taken["gen_ema"])


def _players(state: GANState, *, only_gen: bool) -> dict[str, Any]:
    """What is taken, as the dicts that it is stored as."""

    def parts(player: Player) -> dict[str, PyTree]:
        return {"params": player.params, **({"stats": player.stats} if player.stats else {})}

    taken = {"gen": parts(state.gen), "gen_ema": state.gen_ema}
    return taken if only_gen else {**taken, "disc": parts(state.disc)}


def _one(players: PyTree) -> PyTree:
    """Shapes of the players of one seed, on the devices of all."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape[1:], leaf.dtype, sharding=getattr(leaf, "sharding", None)
        ),
        players,
    )


def _different(theirs: stored.Arrays, ours: stored.Arrays) -> list[str]:
    """What each array is that only one has, or that has two shapes or dtypes."""
    found = []
    for name in sorted({*theirs, *ours}):
        there, here = _form(theirs.get(name)), _form(ours.get(name))
        if there != here:
            found.append(f"{types.one_line(name, limit=200)} is {there} there, {here} here")
    return found


def _form(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _check_seeds(config: RunConfig, theirs: stored.Arrays, one: stored.Arrays) -> None:
    """Says so where only the number of seeds differs; `one` are the arrays of one seed."""
    counts = {leaf.shape[:1] for leaf in theirs.values()}
    inside = {
        name: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for name, leaf in theirs.items()
    }
    if len(counts) == 1 and not _different(inside, one):
        (seeds,) = next(iter(counts)) or (0,)
        raise UserError(
            f"--init_from={config.init_from} has {seeds} seeds, not {config.seeds}; use "
            f"--seeds={seeds}, or begin with a run of one seed"
        )


def _told(record: Mapping[str, Any], config: RunConfig, module: str) -> str:
    """Names another run's experiment, and settings of its networks that are not ours."""
    told = types.one_line(record["experiment"], limit=80)
    if told != module:
        told += f" (this is one of {module})"
    shared = {field.name for field in dataclasses.fields(AdversarialConfig)}
    different = [
        f"{field.name}={types.one_line(record['config'][field.name], limit=40)}"
        f" (here {types.one_line(getattr(config, field.name), limit=40)})"
        for field in dataclasses.fields(config)
        if field.name not in shared
        and not field.metadata["changeable"]
        and field.name in record["config"]
        and record["config"][field.name] != getattr(config, field.name)
    ]
    return f"{told} with {', '.join(different[:SHOWN])}" if different else told
