"""Weights and inputs that published networks were run on, and the script that ran them.

    python -m tests.nets.references r3gan FOLDER
    python -m tests.nets.references stylegan2 FOLDER
    python -m tests.nets.references resnet FOLDER

need torch and, as FOLDER, the code published with the paper (github.com/brownvc/R3GAN,
github.com/NVlabs/stylegan2-ada-pytorch, github.com/ajbrock/BigGAN-PyTorch). They write what the
networks made to `NAME.json` beside this file. The tests need neither.
"""

import json
import math
import pathlib
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent
BATCH, LATENT = 3, 5
# One net without and one with labels, both with stages of two widths and with groups.
CASES = {"plain": 0, "conditional": 4}
WIDTHS, GROUPS, BLOCKS, SIDE = (16, 8), (4, 2), 2, 8
GAMMA = 0.7
STYLEGAN2_CHANNELS, TRUNCATION = (32, 6), 0.7  # feature maps: base and largest
# Published settings: labels, side, feature maps, size of latents, mapping layers.
STYLEGAN2_FULL = {
    "cifar10": (10, 32, (32768, 512), 512, 2),
    "ffhq256": (0, 256, (16384, 512), 512, 8),
}
# BigGAN's networks at 32 pixels: with a table of gains and biases in each norm of G, and with a
# shared embedding, hierarchical latents and attention.
RESNET_CASES: dict[str, dict] = {
    "table": {"shared": 0, "hierarchical": False, "attention": 0},
    "shared": {"shared": 6, "hierarchical": True, "attention": 16},
}
RESNET_WIDTH, RESNET_SIDE, RESNET_CLASSES, RESNET_LATENT = 8, 32, 4, 8
# Published settings: side, channels, labels, latents, shared embedding, attention.
RESNET_FULL = {"cifar10": (32, 64, 10, 128, 0, 0), "imagenet128": (128, 96, 1000, 120, 128, 64)}
# Published settings: widths, groups, number of labels.
FULL = {
    "cifar10": ((768,) * 4, (96,) * 4, 10),
    "imagenet32": ((1536,) * 4, (96,) * 4, 1000),
    "ffhq256": ((768, 768, 768, 768, 384, 192, 96), (96, 96, 96, 96, 48, 24, 12), 0),
}


def inputs(channels=3, side=SIDE, latent=LATENT):
    """Latents, images and labels."""
    random = np.random.default_rng(3)
    z = random.standard_normal((BATCH, latent)).astype(np.float32)
    image = random.uniform(-1, 1, (BATCH, side, side, channels)).astype(np.float32)
    return z, image, np.array([2, 0, 3])


def weight(name, shape):
    """The array that a parameter of this name holds: of order one over the root of its inputs."""
    random = np.random.default_rng(list(name.encode()))
    inputs = math.prod(shape[1:]) if len(shape) > 1 else 16
    return (random.standard_normal(shape) / math.sqrt(inputs)).astype(np.float32)


def projected(name, array):
    """Two numbers that stand for a gradient: its norm, and its product with a random array."""
    array = np.asarray(array, np.float64)
    direction = np.random.default_rng(list(name.encode())).standard_normal(array.shape)
    return [float(f"{value:.8g}") for value in (np.linalg.norm(array), (array * direction).sum())]


def _count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def unit(name, shape):
    """The same for weights that are scaled where they are used, those of the mapping by .01."""
    random = np.random.default_rng(list(name.encode()))
    scale = 100 if ".mapping.fc" in name else 1
    return (scale * random.standard_normal(shape)).astype(np.float32)


def _stylegan2(folder):
    """Runs the published networks with fixed noise, and R1 and its gradient as published."""
    sys.path.insert(0, folder)
    import torch
    from training import networks

    def players(classes, side, channels, size, layers):
        options = {"channel_base": channels[0], "channel_max": channels[1]}
        gen = networks.Generator(
            size,
            classes,
            size,
            side,
            3,
            mapping_kwargs={"num_layers": layers},
            synthesis_kwargs=options,
        )
        disc = networks.Discriminator(
            classes, side, 3, **options, mapping_kwargs={"num_layers": layers}
        )
        return gen, disc

    full = {name: players(*settings) for name, settings in STYLEGAN2_FULL.items()}
    results = {"parameters": {name: [*map(_count, both)] for name, both in full.items()}}
    for case, classes in CASES.items():
        gen, disc = players(classes, SIDE, STYLEGAN2_CHANNELS, LATENT, 2)
        for player, net in (("gen", gen), ("disc", disc)):
            named = [*net.named_parameters(), *net.named_buffers()]
            for name, value in named:
                if not name.endswith("resample_filter"):
                    value.data = torch.tensor(unit(f"{player}.{name}", tuple(value.shape)))
        z, image, label = inputs()
        z, image = torch.tensor(z), torch.tensor(image.transpose(0, 3, 1, 2))
        label = torch.nn.functional.one_hot(torch.tensor(label), 4).float() if classes else None
        gen.eval()
        fake = gen(z, label, truncation_psi=TRUNCATION, noise_mode="const", fused_modconv=False)
        torch.nn.functional.softplus(-disc(fake, label)).mean().backward()
        gen_grads = {name: projected(name, p.grad) for name, p in gen.named_parameters()}
        disc.zero_grad()
        image.requires_grad_(True)
        logits = disc(image, label)
        (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        r1 = slope.square().sum([1, 2, 3])
        (torch.nn.functional.softplus(-logits[:, 0]) + GAMMA / 2 * r1).mean().backward()
        results[case] = {
            "image": fake.detach().permute(0, 2, 3, 1).numpy().ravel()[::7].tolist(),
            "logits": logits[:, 0].tolist(),
            "r1": r1.tolist(),
            "gen": gen_grads,
            "disc": {name: projected(name, p.grad) for name, p in disc.named_parameters()},
        }
    return results


def _r3gan(folder):
    """Runs the published networks and their training code."""
    sys.path.insert(0, folder)
    import torch
    from R3GAN import Networks, Trainer

    def players(latent, widths, groups, classes):
        blocks, condition = [BLOCKS] * len(widths), {"ConditionDimension": classes or None}
        sizes = (latent, widths[0]) if classes else (0, 0)
        gen, disc = (
            make(*arguments, blocks, 2, ConditionEmbeddingDimension=size, **condition)
            for make, size, arguments in (
                (Networks.Generator, sizes[0], (latent, widths, groups)),
                (Networks.Discriminator, sizes[1], (widths[::-1], groups[::-1])),
            )
        )
        return gen, disc

    with torch.device("meta"):
        full = {name: players(64, *settings) for name, settings in FULL.items()}
    results = {"parameters": {name: [*map(_count, both)] for name, both in full.items()}}
    for case, classes in CASES.items():
        gen, disc = players(LATENT, WIDTHS, GROUPS, classes)
        for player, net in (("gen", gen), ("disc", disc)):
            for name, parameter in net.named_parameters():
                value = weight(f"{player}.{name}", tuple(parameter.shape))
                parameter.data = torch.tensor(value)
        z, image, label = inputs()
        z, image = torch.tensor(z), torch.tensor(image.transpose(0, 3, 1, 2))
        label = torch.nn.functional.one_hot(torch.tensor(label), 4).float() if classes else None
        training = Trainer.AdversarialTraining(gen, disc)
        fake = gen(z, label)
        training.AccumulateGeneratorGradients(z, image, label)
        gen_grads = {name: projected(name, p.grad) for name, p in gen.named_parameters()}
        disc.zero_grad()
        _, _, r1, r2 = training.AccumulateDiscriminatorGradients(z, image, label, GAMMA)
        results[case] = {
            "image": fake.detach().permute(0, 2, 3, 1).numpy().ravel()[::7].tolist(),
            "logits": disc(image, label).detach().numpy().tolist(),
            "r1": r1.numpy().tolist(),
            "r2": r2.numpy().tolist(),
            "gen": gen_grads,
            "disc": {name: projected(name, p.grad) for name, p in disc.named_parameters()},
        }
    return results


def _resnet(folder):
    """Runs BigGAN's published networks; vectors of the spectral norms are exact."""
    sys.path.insert(0, folder)
    import BigGAN
    import torch

    # In the published table D has attention after each block at 32 pixels, not once.
    published = BigGAN.D_arch

    def arch(*args):
        table = published(*args)
        table[32]["resolution"] = [16, 8, 8, 8]
        return table

    BigGAN.D_arch = arch

    def players(side, channels, classes, latent, shared, attention, hierarchical):
        options = {"n_classes": classes, "resolution": side, "skip_init": True}
        gen = BigGAN.Generator(
            G_ch=channels,
            dim_z=latent,
            G_attn=str(attention),
            G_shared=shared > 0,
            shared_dim=shared,
            hier=hierarchical,
            no_optim=True,
            **options,
        )
        return gen, BigGAN.Discriminator(D_ch=channels, D_attn=str(attention), **options)

    full = {name: players(*known, known[4] > 0) for name, known in RESNET_FULL.items()}
    results = {"parameters": {name: [*map(_count, both)] for name, both in full.items()}}
    for case, known in RESNET_CASES.items():
        sizes = (RESNET_SIDE, RESNET_WIDTH // 4, RESNET_CLASSES, RESNET_LATENT)
        gen, disc = players(*sizes, known["shared"], known["attention"], known["hierarchical"])
        for player, net in (("gen", gen), ("disc", disc)):
            for name, parameter in net.named_parameters():
                value = weight(f"{player}.{name}", tuple(parameter.shape))
                parameter.data = torch.tensor(value)
            for module in net.modules():
                if hasattr(module, "u0"):
                    matrix = module.weight.data.flatten(1)
                    module.u0.data = torch.linalg.svd(matrix)[0][:, :1].T
        z, image, label = inputs(side=RESNET_SIDE, latent=RESNET_LATENT)
        z, image = torch.tensor(z), torch.tensor(image.transpose(0, 3, 1, 2))
        label = torch.tensor(label)
        fake = gen(z, gen.shared(label))
        torch.nn.functional.softplus(-disc(fake, label)).mean().backward()
        gen_grads = {name: projected(name, p.grad) for name, p in gen.named_parameters()}
        disc.zero_grad()
        image.requires_grad_(True)
        logits = disc(image, label)
        (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        r1 = slope.square().sum([1, 2, 3])
        (torch.nn.functional.softplus(-logits[:, 0]) + GAMMA / 2 * r1).mean().backward()
        results[case] = {
            "image": fake.detach().permute(0, 2, 3, 1).numpy().ravel()[::97].tolist(),
            "logits": logits[:, 0].tolist(),
            "r1": r1.tolist(),
            "gen": gen_grads,
            "disc": {name: projected(name, p.grad) for name, p in disc.named_parameters()},
        }
    return results


if __name__ == "__main__":
    made = {"r3gan": _r3gan, "stylegan2": _stylegan2, "resnet": _resnet}[sys.argv[1]](sys.argv[2])
    (FOLDER / f"{sys.argv[1]}.json").write_text(json.dumps(made) + "\n")
