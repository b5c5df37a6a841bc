"""What a run directory may hold, or lack, when a process takes it up: temporary files, no states.

A process that is killed as it writes leaves the temporary file. A directory without checkpoints is
one that was killed before its first, or one whose checkpoints somebody has moved.
"""

import contextlib
import pathlib
import re
import stat

from jaxgan.run import disk, logfile, saver
from jaxgan.run.trouble import tell
from jaxgan.types import UserError

SAVED = ".saved"  # made when the first checkpoint is complete
TEMPORARY = {
    ".": r"\.(config\.json|run\.flags|metrics\.jsonl|results\.json|\.saved)\.\d+\.tmp",
    "samples": r"\.(step_\d{8,}|real)\.png\.\d+\.tmp",
    "tensorboard": r"\.curves\.\d+\.tmp",
}
STEP = r"\d+(\.(damaged|unfinished)\.\d+)?"  # a checkpoint, or one that was set aside


def remove(path: pathlib.Path) -> None:
    """Removes the temporary files that killed processes left; other files stay.

    Args:
      path: of the run directory, which this process has locked.
    """
    for folder, pattern in TEMPORARY.items():
        with contextlib.suppress(OSError):  # there is no such folder
            for file in sorted((path / folder).iterdir()):
                if re.fullmatch(pattern, file.name) and stat.S_ISREG(file.lstat().st_mode):
                    file.unlink()
                    tell(f"removed {file}, which a killed process left")


def check_checkpoints(path: pathlib.Path) -> None:
    """Refuses a run whose checkpoints are gone: it would begin anew and drop its log.

    Args:
      path: of the run directory.

    Raises:
      UserError: a checkpoint was completed there, and there is none.
    """
    folder = path / "checkpoints"
    try:
        if any(re.fullmatch(STEP, place.name) for place in folder.iterdir()):
            return
        gone = (path / SAVED).exists()
    except OSError:  # the folder is made before anything is logged
        gone = (path / SAVED).exists() or bool(logfile.read(path / "metrics.jsonl"))
    if gone:
        raise UserError(
            f"{path} holds the log of a run that has saved checkpoints, but {folder} has none; "
            "put that folder back, or use another workdir"
        )


def note_checkpoint(path: pathlib.Path) -> bool:
    """Notes once that a checkpoint was completed, for `check_checkpoints`.

    Args:
      path: of the run directory.

    Returns:
      Whether that is noted.
    """
    note = path / SAVED
    with contextlib.suppress(OSError):
        if not note.exists() and saver.finished(path / "checkpoints"):
            disk.replace(note, "a checkpoint was completed here\n")
        return note.exists()
    return False
