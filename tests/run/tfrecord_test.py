"""Records of event files: the checksums are those that tensorboardX computes byte by byte."""

import numpy as np
import pytest
from tensorboardX import record_writer

from jaxgan.run import tfrecord


def _records(*sizes):
    random = np.random.default_rng(0)
    return [random.bytes(size) for size in sizes]


@pytest.mark.parametrize("size", [4, 5, 255, 256, 257, 511, 512, 5000])
def test_a_checksum_of_any_length_is_that_of_the_library(size):
    (record,) = _records(size)
    assert tfrecord.checksums([record]) == [record_writer.masked_crc32c(record)]


def test_records_do_not_mix_and_may_be_all_zeros_or_ones():
    records = [*_records(7, 300, 9), bytes(600), b"\xff" * 600, bytes(4)]
    expected = [record_writer.masked_crc32c(record) for record in records]
    assert tfrecord.checksums(records) == expected


@pytest.mark.parametrize("sizes", [(), (40,), (40, 9000, 300)])
def test_records_stand_in_a_file_as_the_library_writes_them(tmp_path, sizes):
    records = _records(*sizes)
    writer = record_writer.RecordWriter(str(tmp_path / "file"))
    for record in records:
        writer.write(record)
    writer.close()
    assert tfrecord.frame(records) == (tmp_path / "file").read_bytes()
