"""Networks that edit images, as published: the script that ran them, and what they were run on.

    python -m tests.nets.editing_references pix2pix FOLDER
    python -m tests.nets.editing_references cyclegan FOLDER
    python -m tests.nets.editing_references kair FOLDER

need torch and, as FOLDER, published code: pix2pix's and CycleGAN's networks as they are in
github.com/taesungp/contrastive-unpaired-translation, by authors of both; and
github.com/cszn/KAIR, which has DnCNN, the parts of EDSR and Real-ESRGAN's discriminator. They write
what the networks made to `NAME.json` beside this file. The tests need neither.
"""

import functools
import json
import sys

import numpy as np

from tests.nets import references

BATCH, GAMMA = 2, 0.7
# pix2pix: norms of the U-Net and of the PatchGAN; sides, widths and halvings.
UNET_NORMS, UNET_SIDE, UNET_WIDTH, HALVINGS = ("batch", "instance"), 64, 4, 6
PATCH_NORMS, PATCH_SIDE, PATCH_WIDTH = ("batch", "instance", "spectral"), 32, 4
# CycleGAN: side, width and blocks of the generator; patches and width of CUT's projections.
RESNET_SIDE, RESNET = 16, (4, 3)
PATCHES, PROJECTED = 5, 6
# KAIR: DnCNN's channels, depth and width; EDSR's enlargements, blocks and width.
DNCNN, EDSR_SCALES, EDSR = (1, 5, 6), (2, 3, 4), (2, 6)
PIXELS_SIDE, PIXELS_WIDTH, SIDE = 16, 4, 10


def image(side, channels=3):
    """Images [B, side, side, channels]."""
    random = np.random.default_rng(5)
    return random.uniform(-1, 1, (BATCH, side, side, channels)).astype(np.float32)


def _weighted(name, net):
    """The network with the weights that go by its and their names, spectral norms exact."""
    import torch

    for parameter_name, parameter in net.named_parameters():
        name_there = f"{name}.{parameter_name}".removesuffix("_orig")
        value = references.weight(name_there, tuple(parameter.shape))
        parameter.data = torch.tensor(value)
    for module in net.modules():
        if hasattr(module, "weight_u"):
            u, _, v = torch.linalg.svd(module.weight_orig.data.flatten(1))
            module.weight_u.data, module.weight_v.data = u[:, 0], v[0]
    return net


def _grads(net):
    return {
        name.removesuffix("_orig"): references.projected(name.removesuffix("_orig"), p.grad)
        for name, p in net.named_parameters()
    }


def _made(net, x):
    """What a generator makes, and the gradients of G's loss with the images as logits."""
    import torch

    y = net(torch.tensor(x.transpose(0, 3, 1, 2)))
    torch.nn.functional.softplus(-y).mean().backward()
    return {"made": _numbers(y.permute(0, 2, 3, 1)), "grads": _grads(net)}


def _judged(net, x):
    """What a discriminator says, R1, and the gradients of D's loss with it."""
    import torch

    x = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_(True)
    logits = net(x)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    r1 = slope.square().sum([1, 2, 3])
    (torch.nn.functional.softplus(-logits).mean() + GAMMA / 2 * r1.mean()).backward()
    return {"logits": _numbers(logits), "r1": r1.tolist(), "grads": _grads(net)}


def some(x):
    """About a hundred of the numbers in an array."""
    x = np.asarray(x).ravel()
    return x[:: max(1, x.size // 100) | 1]


def _numbers(x):
    return [float(f"{value:.7g}") for value in some(x.detach().numpy())]


def _count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def _pix2pix(folder):
    sys.path.insert(0, folder)
    import torch
    from models import networks
    from torch import nn

    norms = {
        "batch": nn.BatchNorm2d,
        "instance": functools.partial(nn.InstanceNorm2d, affine=False),
        "spectral": lambda features: nn.Identity(),
    }

    def disc(width, norm, channels):
        net = networks.NLayerDiscriminator(channels, width, 3, norms[norm], no_antialias=True)
        if norm == "spectral":  # biases, as with instance norm
            for at, layer in enumerate(net.model):
                if isinstance(layer, nn.Conv2d):
                    bias = nn.Parameter(torch.zeros(layer.out_channels))
                    layer.bias = bias if layer.bias is None else layer.bias
                    net.model[at] = nn.utils.spectral_norm(layer)
            net.eval()
        return net

    full = {"unet": networks.UnetGenerator(3, 3, 8, 64), "patch": disc(64, "batch", 6)}
    results = {"parameters": {name: _count(net) for name, net in full.items()}}
    for norm in UNET_NORMS:
        net = networks.UnetGenerator(3, 3, HALVINGS, UNET_WIDTH, norms[norm])
        results[f"unet {norm}"] = _made(_weighted("unet", net), image(UNET_SIDE))
    for norm in PATCH_NORMS:
        net = _weighted("patch", disc(PATCH_WIDTH, norm, 3))
        results[f"patch {norm}"] = _judged(net, image(PATCH_SIDE))
    return results


def _cyclegan(folder):
    sys.path.insert(0, folder)
    import torch
    from models import networks
    from torch import nn

    norm = functools.partial(nn.InstanceNorm2d, affine=False)

    def resnet(width, blocks):
        plain = {"no_antialias": True, "no_antialias_up": True}
        return networks.ResnetGenerator(3, 3, width, norm, n_blocks=blocks, **plain)

    disc = networks.NLayerDiscriminator(3, 64, 3, norm, no_antialias=True)
    full = {"resnet": resnet(64, 9), "patch": disc}
    results = {"parameters": {name: _count(net) for name, net in full.items()}}
    net = _weighted("resnet", resnet(*RESNET))
    results["resnet"] = _made(net, image(RESNET_SIDE))
    seen = net(torch.tensor(image(RESNET_SIDE).transpose(0, 3, 1, 2)), [4, 7, 10, 11], True)
    results["encoded"] = [_numbers(x.permute(0, 2, 3, 1)) for x in seen]
    return results


def _kair(folder):
    sys.path.insert(0, folder)
    from models import basicblock, network_discriminator, network_dncnn

    def edsr(scale, blocks, width):
        conv = functools.partial(basicblock.conv, mode="C")
        trunk = [basicblock.ResBlock(width, width, mode="CRC") for _ in range(blocks)]
        trunk = basicblock.ShortcutBlock(basicblock.sequential(*trunk, conv(width, width)))
        steps = {2: "2", 3: "3", 4: "22"}[scale]
        up = [basicblock.upsample_pixelshuffle(width, width, mode=step) for step in steps]
        return basicblock.sequential(conv(3, width), trunk, *up, conv(width, 3))

    full = {
        "dncnn": network_dncnn.DnCNN(1, 1, 64, 17, act_mode="R"),
        "edsr": edsr(4, 16, 64),
        "pixels": network_discriminator.Discriminator_UNet(3, 64),
    }
    results = {"parameters": {name: _count(net) for name, net in full.items()}}
    channels, depth, width = DNCNN
    net = _weighted("dncnn", network_dncnn.DnCNN(channels, channels, width, depth, act_mode="R"))
    results["dncnn"] = _made(net, image(SIDE, channels))
    for scale in EDSR_SCALES:
        results[f"edsr {scale}"] = _made(_weighted("edsr", edsr(scale, *EDSR)), image(SIDE))
    net = network_discriminator.Discriminator_UNet(3, PIXELS_WIDTH).eval()
    results["pixels"] = _judged(_weighted("pixels", net), image(PIXELS_SIDE))
    return results


if __name__ == "__main__":
    makers = {"pix2pix": _pix2pix, "cyclegan": _cyclegan, "kair": _kair}
    made = makers[sys.argv[1]](sys.argv[2])
    (references.FOLDER / f"{sys.argv[1]}.json").write_text(json.dumps(made) + "\n")
