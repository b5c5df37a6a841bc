"""Reads image files one by one; damaged ones are skipped, up to a number of them."""

import pathlib

import numpy as np
from absl import logging

from jaxgan import types
from jaxgan.data import pixels
from jaxgan.types import UserError


class Reader:
    """Decodes image files, skipping those that cannot be read, up to a number of them."""

    def __init__(self, root: pathlib.Path, num_files: int, *, max_bad_records: int = -1):
        """Reads nothing.

        Args:
          root: the folder of the files.
          num_files: how many there are.
          max_bad_records: unreadable files skipped before it is an error; -1 for 10 or 0.1 % of
            all, whichever is more.
        """
        self.root, self.num_files, self.max_bad_records = root, num_files, max_bad_records
        self.bad: dict[str, str] = {}  # path -> why it cannot be read

    def read(
        self, path: str, *, image_size: pixels.Size = 0, channels: int = 0
    ) -> np.ndarray | None:
        """Decodes one file.

        Args:
          path: of the file, below the folder.
          image_size: as for `pixels.decode`.
          channels: as for `pixels.decode`.

        Returns:
          uint8 [H, W, C]; None, and a warning the first time, for one that cannot be read.

        Raises:
          UserError: too many that cannot.
        """
        if path in self.bad:
            self._check_bad()  # raises again when asked again, or by another thread
            return None
        try:
            return pixels.decode(self.root / path, image_size=image_size, channels=channels)
        except Exception as error:
            # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and others.
            self._skip(path, types.one_line(f"{type(error).__name__}: {error}"))
            return None

    def _skip(self, path: str, why: str) -> None:
        self.bad[path] = why
        self._check_bad()
        logging.warning(
            "%s: skipped, %s (%d unreadable so far)", self.root / path, why, len(self.bad)
        )

    def _check_bad(self) -> None:
        num = self.num_files
        limit = self.max_bad_records if self.max_bad_records >= 0 else max(10, num // 1000)
        count = len(self.bad)
        if count > limit or count == num:
            path, why = list(self.bad.items())[-1]
            raise UserError(
                f"{self.root}: {count} of {num} image files cannot be read, where at most"
                f" {limit} are skipped; the last is {path} ({why}); replace or remove them, or"
                " raise max_bad_records"
            )
