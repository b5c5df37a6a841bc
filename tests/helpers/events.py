"""Reads event files as TensorBoard does, and fails where a record is not whole."""

import pathlib
import struct

from tensorboardX import record_writer
from tensorboardX.proto import event_pb2


def files(workdir):
    """The event files of a run, in the order in which TensorBoard reads them."""
    folder = pathlib.Path(workdir) / "tensorboard"
    return sorted(path for path in folder.iterdir() if "tfevents" in path.name)


def of_file(path):
    """The events of a file; each checksum is compared."""
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        size, check = struct.unpack_from("<QI", data, place)
        record = data[place + 12 : place + 12 + size]
        assert check == record_writer.masked_crc32c(data[place : place + 8]), place
        (check,) = struct.unpack_from("<I", data, place + 12 + size)
        assert check == record_writer.masked_crc32c(record), place
        found.append(event_pb2.Event.FromString(record))
        place += size + 16
    return found


def points(workdir):
    """(step, value) of each tag, as TensorBoard shows them; a picture's value is its file."""
    shown = {}
    for path in files(workdir):
        for event in of_file(path):
            if event.session_log.status == event_pb2.SessionLog.START:
                kept = {tag: [p for p in all_ if p[0] < event.step] for tag, all_ in shown.items()}
                shown = {tag: all_ for tag, all_ in kept.items() if all_}
            for value in event.summary.value:
                is_picture = value.HasField("image")
                shown.setdefault(value.tag, []).append(
                    (
                        event.step,
                        value.image.encoded_image_string if is_picture else value.simple_value,
                    )
                )
    return shown
