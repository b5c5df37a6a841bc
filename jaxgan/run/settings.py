"""The settings of a run beside those that it is resumed with: what may differ, and what did."""

import pathlib
from typing import Any

from jaxgan.types import UserError


def changes(stored: dict, settings: dict, step: int) -> list[dict]:
    """Adds the changes of settings made now to those recorded; prints them.

    Args:
      stored: the record of the run.
      settings: by name, as they are now.
      step: the step that training resumes from.

    Returns:
      {"step": step, setting: [old, new]} for each time that some were changed, oldest first.
    """
    then = stored["config"]
    changed = {
        name: [then[name], value]
        for name, value in settings.items()
        if name != "workdir" and name in then and then[name] != value
    }
    before = stored.get("changes")
    before = before[-99:] if isinstance(before, list) else []
    if not changed:
        return before
    said = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
    print(f"settings changed: {said}", flush=True)
    return [*before, {"step": step, **changed}]


def check_same(stored: dict, record: dict, fixed: dict[str, Any], path: pathlib.Path) -> None:
    """Refuses settings that may not change in a run, and names them.

    A setting that the version of the run did not have yet counts as its default in `fixed`, which
    is what that version did.

    Args:
      stored: the record of the run.
      record: that of what is asked for.
      fixed: defaults of the settings that may not change, by name.
      path: of the run directory.

    Raises:
      UserError: the experiment, a setting in `fixed`, or the training data are others.
    """
    if stored["experiment"] != record["experiment"]:
        raise UserError(f"{path} holds a run of {stored['experiment']}; use another workdir")
    then, settings = {**fixed, **stored["config"]}, record["config"]
    different = [
        f"{name} is {then[name]} there, {settings[name]} here"
        for name in fixed
        if then[name] != settings[name]
    ]
    if stored["data"]["fingerprint"] != record["data"]["fingerprint"] and not different:
        different = ["the training data have changed"]
    if different:
        raise UserError(
            f"{path} holds a run with other settings: {'; '.join(different[:6])}; "
            "use another workdir, or the settings in its run.flags"
        )
