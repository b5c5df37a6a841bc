"""A folder like that of MNIST, of forty random images."""

import struct

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.metrics import classifiers, weights


def mnist(folder):
    """Writes both splits, and an untrained classifier of digits as net.npz; returns the folder."""
    random = np.random.default_rng(0)
    for split in ("train", "t10k"):
        _write(
            folder / f"{split}-images-idx3-ubyte", random.integers(0, 256, (20, 28, 28), np.uint8)
        )
        _write(folder / f"{split}-labels-idx1-ubyte", np.arange(20, dtype=np.uint8) % 10)
    net = classifiers.DigitClassifier(width=2, features=4)
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    weights.save(folder / "net.npz", params, {"dataset": "mnist"})
    return folder


def _write(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())
