"""Where real examples come from.

A *source* is anything with `__len__` and `__getitem__`: an int gives one example, an array of ints
a whole batch, both as a dict of NumPy arrays, `"image"` uint8 [H, W, C] and, where there are
labels, `"label"` int32. It also says its `name`, `image_shape` (H, W, C), `num_classes` (0 without
labels) and `fingerprint`, a short digest of its content that is saved beside a run, so that changed
data is noticed. Optional are `class_names`, one text a class, and `labels`, int32 [N], where they
can be had without decoding the examples; `distinct` says how many different examples there are,
where its order has each several times; `spec.describe` uses them.

To add a dataset, write `jaxgan/data/<name>.py` with a function that takes `data_dir` and `split`
and returns a source. A set that fits in memory needs no class of its own: read the files and return
`arrays.ArraySource({"image": ..., "label": ...}, name=..., num_classes=...)`. Then add one row to
the table `LOADERS` in `registry.py`. Everything else follows: resizing, the order of the examples,
the modes of reading, sharing between processes, resuming.

For editing images: `crops` makes a dataset of random crops of pictures of any size, `pairs` one of
pictures in twos, and `degrade` makes a restorer's input of clean images inside the compiled step. A
source whose examples are in memory, but not as arrays, says so by `in_host_memory = True`.

Texts are opened by `text.load`: their sources have no images but `"text"` int32 [T] and `"length"`,
and a `vocabulary`, which `spec.describe` keeps.

Importing this package reads nothing and imports neither Pillow, scikit-learn, Grain nor
TensorFlow Datasets: each is imported by the function that needs it.
"""

from jaxgan.data.registry import load as load
from jaxgan.data.registry import needs_tfds as needs_tfds
from jaxgan.data.subsets import choose as choose
from jaxgan.data.subsets import hold_out as hold_out
