"""Which law walkers may start from, and which box holds them: settings that have to fit together."""

from typing import Any

from quasistatic.errors import InputError

GAUSSIAN = ("gaussian", "covariance", "isotropic")
CONFINED = ("custom", "mlp", "convnet")
"""Kinds of model whose base law is chosen by `model.base`."""


def check_base(config: Any) -> None:
    """Checks base law, kernel and box.

    Args:
        config: the whole configuration (`cli.config.Config`, which imports this module).

    Raises:
        InputError: settings that do not fit.
    """
    if config.model.kind not in CONFINED:
        return
    base, kernel = config.model.base, config.kernel.kind
    if kernel == "gibbs" and base in GAUSSIAN:
        raise InputError(
            f"model.base = {base!r} is for continuous samples; with kernel.kind = 'gibbs' use 'frequencies' "
            "or 'uniform'"
        )
    if kernel != "gibbs" and base == "frequencies":
        raise InputError(
            "model.base = 'frequencies' is for two-state samples (kernel.kind = 'gibbs'); use 'gaussian' or 'uniform'"
        )
    has_box = box_of(config) is not None
    if config.model.kind != "custom" and not (base in GAUSSIAN or (base == "uniform" and has_box)):
        raise InputError(
            f"a network lives inside model.base = 'gaussian', 'covariance' or 'isotropic', or inside the box of "
            f"kernel.low and kernel.high ('uniform'), not {base!r}"
        )
    if kernel == "ula" and base == "uniform" and not has_box:
        raise InputError(
            "unadjusted Langevin walkers leave a box: with model.base = 'uniform' use kernel.kind = 'mala', or give "
            "the box as kernel.low and kernel.high"
        )
    if kernel != "gibbs" and base == "uniform" and not has_box and config.model.base_scale <= 1:
        raise InputError(
            f"model.base_scale must exceed 1 for a box that holds the data, got {config.model.base_scale:g}"
        )
    if has_box and base != "uniform" and config.training.method not in ("short-run", "cd"):
        raise InputError(
            f"walkers of {config.training.method} start from model.base = {base!r}, which reaches out of the box from "
            f"kernel.low = {config.kernel.low:g} to kernel.high = {config.kernel.high:g}, where they could never "
            "move; set model.base = 'uniform' (then it is that box)"
        )
    if has_box and config.auditor.n_groups and config.auditor.n_walkers and base != "uniform":
        raise InputError(
            f"the auditor's walkers start from model.base = {base!r}, out of the box of the kernel; set model.base = "
            "'uniform' or auditor.n_groups = 0"
        )


def box_of(config: Any) -> tuple[float, float] | None:
    """Box of the kernel, None without one. Args: the whole configuration."""
    low, high = config.kernel.low, config.kernel.high
    return None if low is None or high is None else (low, high)
