"""Networks of a configuration: `model.kind = "mlp"` and `"convnet"`."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from quasistatic._types import Key
from quasistatic.cli.config import ModelSection
from quasistatic.cli.custom import base_law
from quasistatic.energies import Inputs, Neural, convnet, mlp
from quasistatic.errors import InputError


def network(
    section: ModelSection, key: Key, x: Float[np.ndarray, "n d"], box: tuple[float, float] | None = None
) -> Neural:
    """Network, zero at first, in a Gaussian around the data or in a box.

    Args:
        section: settings of the model.
        key: random key of the weights.
        x: training samples; their moments make the confining law.
        box: box that the kernel keeps walkers in; with `base = "uniform"` it is the confining law.

    Raises:
        InputError: the samples are no image of the given or of a square shape, or the sizes are impossible.
    """
    n = x.shape[1]
    if not np.isfinite(x).all():
        raise InputError("training data holds NaN or infinite values; remove or impute them")
    law = base_law(section.base, section.base_scale, x, units_name=None, box=box)
    # a wide law says nothing about the size of a sample: the network sees it in units of the data's own spread
    inputs = Inputs(jnp.asarray(x.mean(0), float), jnp.asarray(1 / max(float(x.std(0).mean()), 1e-6), float))
    is_wide = section.base == "isotropic" or (section.base == "uniform" and box is not None)
    options = {"law": law, "activation": section.activation, "inputs": inputs if is_wide else None}
    if section.kind == "mlp":
        return mlp(key, n, section.widths or (128, 128), **options)
    return convnet(key, _image(section, n), section.architecture, widths=section.widths, **options)


def _image(section: ModelSection, n: int) -> tuple[int, int, int]:
    if section.image is not None:
        height, width, channels = section.image
        if height * width * channels != n:
            raise InputError(f"model.image = {section.image} does not hold the {n} values of a sample")
        return height, width, channels
    side = math.isqrt(n)
    if side * side != n:
        raise InputError(f"samples of {n} values are no square image; give model.image = [height, width, channels]")
    return side, side, 1
