"""Reads the curves of a run as TensorBoard does."""

import pathlib
import struct

from tensorboardX.proto import event_pb2


def points(workdir):
    """(tag, step) of every scalar in a run's event files, in their order."""
    found = []
    for path in sorted((pathlib.Path(workdir) / "tensorboard").iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + size])
            found += [
                (value.tag, event.step)
                for value in event.summary.value
                if value.HasField("simple_value")
            ]
            place += size + 16  # two checksums
    return found
