"""Times the metrics in turn with torch-fidelity and prdc, on the same features.

    python -m tests.metrics.peers

needs torch, torch-fidelity 0.4 and prdc 0.2 beside jaxgan; 10,000 by 10,000 features, each line the
medians of three rounds in turn.
"""

import contextlib
import io
import statistics
import sys
import time
from unittest import mock

import jax
import numpy as np

from jaxgan.metrics import frechet, kernel, prdc

NUM, ROUNDS = 10_000, 3


def pairs(dim):
    """{metric: (ours, theirs)}, each to be called without arguments."""
    for name in ("", ".transforms", ".datasets", ".transforms.functional"):
        # torch-fidelity imports it for networks that are not used here.
        sys.modules.setdefault(f"torchvision{name}", mock.MagicMock())
    import prdc as their_prdc
    import torch
    from torch_fidelity import metric_fid, metric_kid

    random = np.random.default_rng(dim)
    real, fake = (
        (random.standard_normal((NUM, dim)) + shift).astype(np.float32) for shift in (0, 0.1)
    )
    real_t, fake_t = torch.from_numpy(real), torch.from_numpy(fake)
    subsets = {"kid_subsets": 100, "kid_subset_size": 1000, "verbose": False}

    def their_fid():
        stats = [metric_fid.fid_features_to_statistics(x) for x in (real_t, fake_t)]
        return metric_fid.fid_statistics_to_metric(*stats, verbose=False)

    return {
        "frechet": (lambda: float(frechet.frechet_distance(real, fake)), their_fid),
        "kid": (
            lambda: kernel.kernel_distance(jax.random.key(0), real, fake),
            lambda: metric_kid.kid_features_to_metric(real_t, fake_t, **subsets),
        ),
        "prdc": (
            lambda: prdc.prdc(real, fake, k=5),
            lambda: their_prdc.compute_prdc(real, fake, nearest_k=5),
        ),
    }


def seconds(function):
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        function()
    return time.perf_counter() - begin


def main():
    for dim in (128, 2048):
        for name, pair in pairs(dim).items():
            rounds = [[seconds(function) for function in pair] for _ in range(ROUNDS)]
            ours, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
            print(f"{name:8} {dim:5}  {ours:6.2f} s  {theirs:6.2f} s  ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
