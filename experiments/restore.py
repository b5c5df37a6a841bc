r"""Restores pictures: noise, blur, few pixels, holes, lost colours, JPEG, darkness; or any pairs.

    python -m experiments.restore --flagfile=experiments/flags/denoise.flags \
        --data_dir=FOLDER_OF_PICTURES --workdir=runs/denoise

trains on crops of the pictures in a folder, of any size, which are spoiled anew at every step, and
measures PSNR and SSIM on those that are held out. Without --data_dir it takes the two photographs
that come with scikit-learn. --task=pairs learns from a folder of images and --source, what each is
to be made from, and is also measured by retrieval: is an output nearest to its own truth of all?
`experiments.apply` restores pictures with the run, `experiments.evaluate` measures it on other
folders beside BM3D, non-local means and bicubic enlargement.

Alone, the losses of --content make what is right in the mean: the fewest decibels are lost, and
textures are smooth. --adv_weight adds a discriminator of patches, which asks for textures like
those of real pictures and costs decibels; --pretrain_steps come before it.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from experiments import _pictures, _restoration, _restored
from jaxgan import losses, steps
from jaxgan.augment import jointly
from jaxgan.data.spec import Spec
from jaxgan.nets import resample
from jaxgan.run import cli, driver, translation
from jaxgan.run.experiment import Experiment
from jaxgan.run.translation import TranslationConfig
from jaxgan.sample import Translator
from jaxgan.state import GANState, StepFn
from jaxgan.types import Batch, Key, UserError

WIDTHS = {"unet": "32,64,128", "dncnn": "64", "srresnet": "64", "pix2pix": ""}
BLOCKS = {"unet": 2, "dncnn": 17, "srresnet": 16, "pix2pix": 0}


@cli.config(batch_size=16, num_samples=16, gen_lr=1e-3, lr_final=0.01, beta1=0.9)
class Config(TranslationConfig):
    """The flags of this experiment; the flagfiles in experiments/flags set those of a recipe."""

    task: str = cli.field("denoise", "What is to be undone.", choices=tuple(_restoration.TASKS))
    data_dir: str = cli.field(
        "", "Folder of pictures; empty for two that are bundled.", changeable=True
    )
    source: str = cli.field(
        "",
        "Of pairs, what an image is made from: the left or right half of each file, a file of the "
        "same name and another suffix (.png), or of another folder.",
    )
    holdout: float = cli.field(
        0.1,
        "Share of the pictures kept out of training, where the folder has no `test`.",
        above=0,
        below=1,
    )
    eval_pictures: int = cli.field(
        20, "Held-out pictures of a score, at most.", minimum=1, changeable=True
    )
    channels: int = cli.field(
        0, "Channels of the images: 1 grey, 3 RGB, 0 for those of the data.", choices=(0, 1, 3)
    )
    image_size: int = cli.field(
        0, "Side that both pictures of a pair are brought to; 0 for as they are.", minimum=0
    )
    crop: int = cli.field(
        0,
        "Side of the parts that are trained on, in pixels; 0 for what suits the task: 64, or 24 "
        "of the smaller image, and of pairs the whole.",
        minimum=0,
    )
    max_bad_records: int = cli.field(
        -1,
        "Unreadable pictures that are skipped; -1 for 10 or 0.1 % of all.",
        minimum=-1,
        changeable=True,
    )
    noise: str = cli.field(
        "",
        "Standard deviation of Gaussian noise, on values of 0 to 255, or a range such as 0,55; "
        "empty for what is usual: 25 for denoise, 0,25 for lowlight.",
    )
    photons: str = cli.field(
        "", "Of --task=denoise, in place of Gaussian noise: photons that white counts."
    )
    blur: str = cli.field("1.6", "Standard deviation of the blur in pixels, or a range.")
    motion: str = cli.field("", "In place of it: pixels that the camera moved, or a range.")
    scale: int = cli.field(4, "Enlargement of --task=superres.", choices=(2, 3, 4))
    holes: str = cli.field("0.25", "Share of the pixels to be filled in, or a range.")
    hole_side: int = cli.field(8, "Side of the squares of holes, in pixels.", minimum=1)
    quality: str = cli.field("10,75", "JPEG's quality, 1 to 100, or a range.")
    darkness: str = cli.field("2,5", "Exponent that darkens, or a range.")
    net: str = cli.field(
        "",
        "Generator: unet (a residual one), dncnn, srresnet (superres), pix2pix (pairs); empty for "
        "the usual one of the task.",
        choices=("", *WIDTHS),
    )
    widths: str = cli.field("", "Its feature maps, at each size; empty for what is usual.")
    blocks: int = cli.field(
        0, "Its residual blocks (of unet at each size), or dncnn's depth; 0: as usual.", minimum=0
    )
    fold: int = cli.field(
        1, "Pixels a side that unet and dncnn fold into one: 2 is a quarter of the work.", minimum=1
    )
    direct: bool = cli.field(
        False, "Lets srresnet make all pixels at once from the small image: half of the work."
    )
    up: str = cli.field(
        "bilinear",
        "How pix2pix's generator doubles maps: by transposed convolutions, as published, or after "
        "enlargement, without checkerboards.",
        choices=resample.UPS,
    )
    norm: str = cli.field(
        "batch", "Norm of pix2pix's generator.", choices=("batch", "instance", "none")
    )
    content: str = cli.field(
        "l1",
        f"What is compared with the truth: of {', '.join(losses.RECONSTRUCTION)}, "
        "total_variation, features (D's activations), perceptual (a classifier's); several with "
        "weights: l1,frequency:0.1.",
    )
    perceptual_weights: str = cli.field(
        "", "File of the classifier that --content=perceptual looks through.", changeable=True
    )
    disc: str = cli.field(
        "patch", "Discriminator: of patches, or a U-Net with a logit a pixel.",
        choices=("patch", "unet"),
    )  # fmt: skip
    disc_widths: str = cli.field("64,128,256", "Its feature maps, from the image on.")
    disc_strides: str = cli.field(
        "",
        "Strides of the one of patches, one for each width; empty for 2,...,2,1. With 1,2,2 its "
        "first layer sees every pixel by itself: for fine textures.",
    )
    disc_norm: str = cli.field(
        "none", "Norm of the one of patches.", choices=("batch", "instance", "none")
    )
    spectral: bool = cli.field(False, "Normalises its kernels by their spectral norm.")
    remat: bool = cli.field(
        False, "Computes blocks anew in the backward pass: less memory, more time.", changeable=True
    )

    def __post_init__(self):
        """Checks every field, and fills in what is usual for the task."""
        task = _restoration.TASKS.get(self.task)
        if task:
            self._fill("net", task.net)
            self._fill("noise", _restoration.NOISE.get(self.task, "0"))
        if self.net in WIDTHS:
            self._fill("widths", WIDTHS[self.net])
            self._fill("blocks", BLOCKS[self.net])
        if task and task.degrade:
            self._fill("crop", 24 * self.scale if self.task == "superres" else 64)
        super().__post_init__()
        _, of_disc = _restoration.terms(self.content, self.perceptual_weights)
        if of_disc and not self.adv_weight:
            raise UserError(
                f"--content={self.content}: features are D's, which --adv_weight=0 leaves out; "
                "give a weight such as 0.01"
            )
        self._check_net()
        if task and task.degrade:
            task.degrade(self)  # what it cannot read is said now
        if self.penalty != "none" and self.disc_norm == "batch":
            raise UserError(
                f"--penalty={self.penalty} needs each image's own gradient, which "
                "--disc_norm=batch mixes; use --disc_norm=instance or none"
            )

    def _fill(self, name: str, value: str | int) -> None:
        if not getattr(self, name):
            object.__setattr__(self, name, value)

    def _check_net(self) -> None:
        if (self.net == "srresnet") != (self.task == "superres"):
            raise UserError(
                f"--net={self.net} is not for --task={self.task}; use "
                f"--net={_restoration.TASKS[self.task].net}"
            )
        if self.task == "superres" and self.crop % self.scale:
            raise UserError(
                f"--crop={self.crop} is not a multiple of --scale={self.scale}; use "
                f"{self.crop - self.crop % self.scale or self.scale}"
            )
        if self.net == "pix2pix" and not self.widths:
            side = self.crop or self.image_size or 256
            n = max(2, int(math.log2(side)))
            object.__setattr__(self, "widths", ",".join(str(min(512, 64 * 2**i)) for i in range(n)))
        for name in ("widths", "disc_widths", *(["disc_strides"] if self.disc_strides else [])):
            cli.integers(self, name)
        if self.disc_strides:
            self._check_strides()

    def _check_strides(self) -> None:
        if self.disc == "unet":
            raise UserError(
                f"--disc_strides={self.disc_strides} is for --disc=patch; leave it out with "
                "--disc=unet"
            )
        strides, widths = (cli.integers(self, f"disc_{name}") for name in ("strides", "widths"))
        if len(strides) != len(widths):
            raise UserError(
                f"--disc_strides={self.disc_strides} is not one stride for each of "
                f"--disc_widths={self.disc_widths}"
            )

    def resolved(self, spec: Spec) -> "Config":
        """The config with the channels of the data."""
        return dataclasses.replace(self, channels=spec.shapes["image"][-1])


def build(config: Config, spec: Spec) -> Experiment:
    """Makes the experiment of a config and its data."""
    task = _restoration.TASKS[config.task]
    *_, channels = spec.shapes["image"]
    content, of_disc = _restoration.terms(config.content, config.perceptual_weights)
    if config.task == "pairs":
        seen = spec.shapes["source"][-1]
    else:
        seen = 1 if config.task == "colorize" else channels
    translator = Translator(
        _restoration.generator(config, channels),
        source_channels=seen,
        channels=channels,
        scale=config.scale if config.task == "superres" else 1,
        masked=config.task == "inpaint",
    )
    held = functools.lru_cache(maxsize=1)(lambda: _pictures.held_out(config))

    def prepare(key: Key, batch: Batch) -> Batch:
        if task.degrade is None:
            return jointly.crop_and_mirror(key, batch, crop=config.crop)
        return {**batch, "source": task.degrade(config)(key, batch["image"])}

    def wrap(step: StepFn) -> StepFn:
        mirror = task.upright and task.degrade is not None
        return steps.mirrored(step, axis_name=config.axis_name) if mirror else step

    shapes = jax.eval_shape(
        prepare,
        jax.random.key(0),
        {
            name: jax.ShapeDtypeStruct((1, *shape), jnp.float32)
            for name, shape in spec.shapes.items()
        },
    )
    return translation.translation_experiment(
        config,
        translator.gen,
        _restoration.discriminator(config, with_features=bool(of_disc)),
        shape=shapes["image"].shape[1:],
        source_shape=shapes["source"].shape[1:],
        content=content,
        disc_content=of_disc,
        sees_source=task.sees_source,
        prepare=prepare,
        wrap=wrap,
        sample=_restored.Restored(config, translator, held),
        show=_restored.show,
        score=_restored.score(config, translator, held, num=config.eval_pictures),
        translator=translator,
    )


def run(config: Config) -> GANState | None:
    """Trains; returns the final state, or None after a dry run."""
    return driver.train(config, build=build, source=_pictures.training)


if __name__ == "__main__":
    cli.main(Config, run)
