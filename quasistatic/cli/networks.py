"""Networks of a configuration: `model.kind = "mlp"` and `"convnet"`."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from quasistatic._types import Key
from quasistatic.cli.config import ModelSection
from quasistatic.cli.custom import base_law
from quasistatic.energies import Neural, convnet, mlp
from quasistatic.errors import InputError


def network(section: ModelSection, key: Key, x: Float[np.ndarray, "n d"]) -> Neural:
    """Network, zero at first, in a Gaussian around the data.

    Args:
        section: settings of the model.
        key: random key of the weights.
        x: training samples; their moments make the confining law.

    Raises:
        InputError: the samples are no image of the given or of a square shape, or the sizes are impossible.
    """
    n = x.shape[1]
    if not np.isfinite(x).all():
        raise InputError("training data holds NaN or infinite values; remove or impute them")
    law = base_law(section.base, section.base_scale, x, units_name=None)
    if section.kind == "mlp":
        return mlp(key, n, section.widths or (128, 128), law=law, activation=section.activation)
    return convnet(
        key, _image(section, n), section.architecture, widths=section.widths, law=law, activation=section.activation
    )


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
