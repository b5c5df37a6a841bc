"""Names shared by every file: arrays, keys, batches, critics, and the error a person is shown."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

Array = jax.Array
Key = jax.Array
PyTree = Any
Batch = Mapping[str, Array]  # {"image": [B, H, W, C] float32 in [-1, 1], "label": [B] int32, ...}
Outputs = Mapping[str, Any]  # what D says: {"logits": [B] or [B, h, w] or a pytree of them, ...}
Metrics = dict[str, Array]  # {"player/quantity": []}
Critic = Callable[[Array], Array]  # inputs [B, ...] -> logits [B] or [B, h, w]
Penalty = Callable[[Key, Critic, Array, Array], Array]  # key, critic, real, fake -> [B]
Prior = Callable[[Key, int, int], Array]  # key, num, dim -> latents [num, dim]
Augment = Callable[[Key, Array], Array]  # key, images [B, H, W, C] -> images [B, H, W, C]

T = TypeVar("T")


class UserError(ValueError):
    """A mistake in what a person asked for: the message is the one line they are shown.

    It names the value received and what to do instead. `cli.main` prints it without a traceback.

    Attributes:
      exit_code: of the process that it ends.
      everywhere: whether all processes of a run meet it, not this one alone.
    """

    exit_code = 2
    everywhere = False


def one_line(text: object, *, limit: int = 300) -> str:
    """Makes one printable line of text that a file or another library may have chosen.

    Args:
      text: anything; its `str` is taken.
      limit: characters kept.

    Returns:
      The text without line breaks and control characters, cut off after `limit` characters.
    """
    line = " ".join(part.strip() for part in str(text).splitlines())
    cut = line if len(line) <= limit else line[:limit] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns `table[name]`, or raises an error that names the nearest valid names.

    Args:
      table: the valid names and what they stand for.
      name: the name asked for.
      what: what the name is a name of ("loss", "dataset"), for the message.

    Returns:
      The entry of the table.

    Raises:
      UserError: the name is not in the table.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    raise UserError(f'{what} "{name}" is not one of {", ".join(table)}{hint}')
