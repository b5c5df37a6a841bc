"""Records of event files are those that tensorboardX writes."""

import numpy as np
import pytest
from tensorboardX import record_writer

from jaxgan.run import tfrecord


@pytest.mark.parametrize("sizes", [(), (4,), (40, 9000, 300)])
def test_records_stand_in_a_file_as_the_library_writes_them(tmp_path, sizes):
    random = np.random.default_rng(0)
    records = [random.bytes(size) for size in sizes]
    writer = record_writer.RecordWriter(str(tmp_path / "file"))
    for record in records:
        writer.write(record)
    writer.close()
    assert tfrecord.frame(records) == (tmp_path / "file").read_bytes()
