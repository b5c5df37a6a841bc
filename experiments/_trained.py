"""The flags that name a run and one of its generators, of all commands that use a trained one."""

import dataclasses

from jaxgan.run import cli, load
from jaxgan.types import PyTree, UserError


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """Flags that name a run and its checkpoint."""

    workdir: str = cli.field("", "Directory of the run.")
    checkpoint: str = cli.field(
        "newest", "Checkpoint to take: newest, best (of a run with --eval_every), or a step."
    )
    module: str = cli.field("", "Module of the run's experiment, where it is not a bundled one.")

    def __post_init__(self):
        """Checks every field."""
        cli.check(self)

    def opened(self) -> load.Trained:
        """Reads the run.

        Returns:
          Its experiment, and its generators at the checkpoint.

        Raises:
          UserError: there is no such run or checkpoint.
        """
        if not self.workdir:
            raise UserError("--workdir is empty; name the directory of a run")
        return load.load(self.workdir, which=self.checkpoint, module=self.module)


@dataclasses.dataclass(frozen=True)
class GeneratorFlags(RunFlags):
    """Flags that also tell which generator of a run with several seeds."""

    member: int = cli.field(0, "Which GAN of a run with --seeds, from 0.", minimum=0)

    def variables(self, trained: load.Trained) -> PyTree:
        """Takes the generator asked for.

        Args:
          trained: the run.

        Returns:
          Its variables.

        Raises:
          UserError: the run has fewer.
        """
        members = trained.members()
        if self.member >= len(members):
            raise UserError(f"--member={self.member}: the run has {len(members)}, counted from 0")
        return members[self.member]
