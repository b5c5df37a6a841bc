"""What bounds a stored item: the blocks of packed streams, and sizes of arrays against files.

That other items are refused is in tests/run/checkpoint_test.py and tests/faults/hostile_test.py.
"""

import os

import jax
import numpy as np
import pytest
import tensorstore as ts

from jaxgan.run import stored, zstd
from jaxgan.types import UserError
from tests.faults import hostile


@pytest.mark.parametrize("size", [0, 1, 1000, 2**17, 300_000, 3_000_000])
def test_a_packed_stream_is_bounded_by_its_blocks(size):
    """The streams are tensorstore's own, of zeros and of noise."""
    for content in (np.zeros(size, np.uint8), np.random.default_rng(0).bytes(size)):
        content = np.frombuffer(bytes(content), np.uint8)
        context = ts.Context()
        kvstore = {"driver": "memory", "path": "x/"}
        form = {"shape": [size], "chunks": [max(1, size)], "dtype": "|u1"}
        spec = {"metadata": {**form, "compressor": {"id": "zstd"}}, "kvstore": kvstore}
        made = ts.open({"driver": "zarr", **spec}, create=True, context=context).result()
        made.write(content).result()
        packed = ts.KvStore.open(kvstore, context=context).result().read("0").result().value
        if packed:
            assert size <= zstd.bound(packed) <= size + 10 * zstd.MAX_BLOCK
            with pytest.raises(ValueError, match="cut off"):
                zstd.bound(packed[:-1])
    assert zstd.bound(hostile.zeros(size)) == size


def test_another_stream_is_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        zstd.bound(b"PK\3\4" + bytes(9))


def test_large_arrays_need_large_files(tmp_path):
    (tmp_path / "d").write_bytes(bytes(1000))
    few = {"w": jax.ShapeDtypeStruct((2**20,), np.float32)}
    stored.check_size(tmp_path, few)  # 4 MB may be zeros
    many = {"w": jax.ShapeDtypeStruct((2**30,), np.float32)}
    with pytest.raises(UserError, match="its files have 0.0 MB, its arrays would have 4,295.0 MB"):
        stored.check_size(tmp_path, many)
    os.truncate(tmp_path / "d", 2**32)
    stored.check_size(tmp_path, many)
    with pytest.raises(UserError, match="its files have 4,295.0 MB, its arrays would have 4.2 MB"):
        stored.check_size(tmp_path, few)
