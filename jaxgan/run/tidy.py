"""What a killed process leaves in a folder of checkpoints, and the paths that cannot hold any."""

import pathlib
import shutil

from jaxgan.parallel import processes
from jaxgan.types import UserError

REMOVED = ".removed"  # ends the name of a step that is being removed


def check_path(directory: pathlib.Path) -> None:
    """Refuses a path that Orbax would take for another one.

    Args:
      directory: the folder of checkpoints.

    Raises:
      UserError: there are wildcards in it, backslashes, or what begins an address in a cloud.
    """
    misread = [part for part in ("[", "*", "?", "\\", "gs:/") if part in str(directory)]
    if misread:
        raise UserError(
            f"{directory} cannot hold checkpoints: with {misread[0]} in its path, no file in it "
            "would be found again; rename that folder, or use another workdir"
        )


def unfinished(directory: pathlib.Path, *, step: int | None = None) -> list[pathlib.Path]:
    """Lists the temporary folders of steps that are not finished.

    Args:
      directory: the folder of checkpoints.
      step: the only one of interest.

    Returns:
      Their paths.
    """
    number = "[0-9]*" if step is None else str(step)
    return sorted(directory.glob(f"{number}.orbax-checkpoint-tmp*"))


def remove_leftovers(directory: pathlib.Path) -> list[pathlib.Path]:
    """Removes what interrupted saves and removals left; only process 0 does.

    Args:
      directory: the folder of checkpoints, in which nothing is being saved.

    Returns:
      The folders that there were.
    """
    if not processes.is_main():
        return []
    folders = [*unfinished(directory), *sorted(directory.glob(f"[0-9]*{REMOVED}"))]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return folders
