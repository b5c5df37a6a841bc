"""Inputs that other implementations were run on, and the script that ran them.

    python -m tests.metrics.references

needs torch, torch-fidelity 0.4, prdc 0.2, scikit-image and SciPy, and writes
`references.json`, `tiny.pth` and `tiny_legacy.pth` beside itself. The tests need none of them.
"""

import json
import pathlib
import sys
from unittest import mock

import numpy as np

FOLDER = pathlib.Path(__file__).parent
CASES = {"wide": (600, 500, 64), "few": (40, 50, 96), "near": (500, 500, 32)}  # N, M, D
IMAGE_SIDES = (32, 100, 299, 400)


def random_features(name):
    """Two sets of correlated features with unlike scales, as float32."""
    num_real, num_fake, dim = CASES[name]
    random = np.random.default_rng(sorted(CASES).index(name))
    mix = random.standard_normal((dim, dim)) / dim**0.5
    real = random.standard_normal((num_real, dim)) @ mix
    shift = 0.02 if name == "near" else 0.4
    fake = random.standard_normal((num_fake, dim)) @ (mix + shift * np.eye(dim)) + shift
    return real.astype(np.float32), fake.astype(np.float32)


def random_logits():
    return (3 * np.random.default_rng(7).standard_normal((500, 10))).astype(np.float32)


def random_images(side, *, num=2, channels=3):
    """Smooth images with some noise, as uint8."""
    random = np.random.default_rng(side)
    coarse = random.uniform(0, 255, (num, 4, 4, channels))
    fine = coarse.repeat(-(-side // 4), 1).repeat(-(-side // 4), 2)[:, :side, :side]
    return np.clip(fine + random.normal(0, 12, fine.shape), 0, 255).astype(np.uint8)


def random_inception(shapes):
    """A state dict for convolutions {name: (kh, kw, C, O)}, activations of order one throughout."""
    random = np.random.default_rng(11)
    state = {}
    for name, (height, width, inputs, outputs) in sorted(shapes.items()):
        scale = (2 / (height * width * inputs)) ** 0.5
        kernel = scale * random.standard_normal((outputs, inputs, height, width), np.float32)
        state[f"{name}.conv.weight"] = kernel
        state[f"{name}.bn.weight"] = random.uniform(0.8, 1.2, outputs).astype(np.float32)
        state[f"{name}.bn.bias"] = random.uniform(-0.1, 0.1, outputs).astype(np.float32)
        state[f"{name}.bn.running_mean"] = random.uniform(-0.1, 0.1, outputs).astype(np.float32)
        state[f"{name}.bn.running_var"] = random.uniform(0.8, 1.2, outputs).astype(np.float32)
    state["fc.weight"] = random.standard_normal((1008, 2048), np.float32) / 45
    state["fc.bias"] = np.zeros(1008, np.float32)
    return {name: array.astype(np.float32) for name, array in state.items()}


def tiny_state():
    """Tensors of several types and layouts."""
    random = np.random.default_rng(3)
    return {
        "conv.weight": random.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "bn.running_var": random.uniform(size=5),
        "half": random.standard_normal(3).astype(np.float16),
        "num_batches_tracked": np.array(12, np.int64),
        "transposed": random.standard_normal((2, 3)).astype(np.float32),
    }


def main():
    """Runs the other implementations and writes what they say."""
    for name in ("", ".transforms", ".datasets", ".transforms.functional"):
        # torch-fidelity imports it for networks that are not used here.
        sys.modules.setdefault(f"torchvision{name}", mock.MagicMock())
    import prdc
    import scipy.linalg
    import torch
    from skimage.metrics import structural_similarity
    from torch_fidelity import feature_extractor_inceptionv3, metric_fid, metric_isc, metric_kid

    result = {}
    for name in CASES:
        real, fake = random_features(name)
        a, b = torch.from_numpy(real).double(), torch.from_numpy(fake).double()
        stats = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
        num = min(len(real), len(fake))
        kid = {"kid_subsets": 1, "kid_subset_size": num, "verbose": False}
        covariances = [np.cov(x.astype(np.float64).T) for x in (real, fake)]
        result[name] = {
            "torch_fidelity_fid": metric_fid.fid_statistics_to_metric(*stats, False)[
                "frechet_inception_distance"
            ],
            "scipy_trace": float(
                np.trace(scipy.linalg.sqrtm(covariances[0] @ covariances[1])).real
            ),
            "torch_fidelity_kid": metric_kid.kid_features_to_metric(a[:num], b[:num], **kid)[
                "kernel_inception_distance_mean"
            ],
            "prdc": prdc.compute_prdc(real.astype(np.float64), fake.astype(np.float64), 5),
        }
    scores = metric_isc.isc_features_to_metric(torch.from_numpy(random_logits()), 10, shuffle=False)
    result["inception_score"] = scores
    a, b = (random_images(side, num=1)[0].astype(np.float64) for side in (64, 64))
    b = np.clip(b + np.random.default_rng(5).normal(0, 20, b.shape), 0, 255)
    result["ssim"] = structural_similarity(
        a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip

    extractor = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    load = torch.load
    shapes = {}

    module_load = extractor.load_state_dict

    def load_random(module, _):
        for name, tensor in module.state_dict().items():
            if name.endswith("conv.weight"):
                outputs, inputs, height, width = tensor.shape
                shapes[name.removesuffix(".conv.weight")] = (height, width, inputs, outputs)
        state = {k: torch.from_numpy(v) for k, v in random_inception(shapes).items()}
        missing = module_load(module, state, strict=False)
        assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
        assert not missing.unexpected_keys

    extractor.load_state_dict = load_random
    torch.load = lambda *args, **kwargs: {}
    names = ["2048", "logits_unbiased"]
    torch_module = extractor("inception", names, feature_extractor_weights_path="none")
    torch.load = load
    result["inception"] = {}
    for side in IMAGE_SIDES:
        images = torch.from_numpy(random_images(side).transpose(0, 3, 1, 2).copy())
        pool3, logits = (x.double().numpy() for x in torch_module(images))
        result["inception"][str(side)] = {
            "pool3": pool3[:, ::32].tolist(),
            "pool3_norm": np.linalg.norm(pool3, axis=1).tolist(),
            "logits": logits[:, ::32].tolist(),
        }
    (FOLDER / "references.json").write_text(json.dumps(result, indent=1) + "\n")

    tiny = {name: torch.from_numpy(array) for name, array in tiny_state().items()}
    tiny["transposed"] = tiny["transposed"].T.contiguous().T  # the same numbers, another layout
    torch.save(tiny, FOLDER / "tiny.pth")
    torch.save(tiny, FOLDER / "tiny_legacy.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
