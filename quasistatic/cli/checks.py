"""Checks of one section whose keys belong together."""

from __future__ import annotations

from typing import Any

from quasistatic.errors import InputError


def check_digits(data: Any) -> None:
    """Raises InputError for keys of MNIST that do not fit together or belong to another source."""
    if data.source != "mnist":
        for name in ("digits", "masses", "pool", "noise", "n_copies"):
            if getattr(data, name) != type(data).model_fields[name].default:
                raise InputError(f"data.{name} is for data.source = 'mnist', not {data.source!r}; drop it")
    if data.labels:
        if data.source not in ("digits", "mnist"):
            raise InputError(f"data.labels is for data.source = 'digits' or 'mnist', not {data.source!r}; drop it")
        if not data.binary or data.digits is not None or data.pool > 1:
            raise InputError(
                "data.labels goes with all classes of whole binary images; drop data.binary = false, digits and pool"
            )
    if data.masses is not None and data.digits is None:
        raise InputError("data.masses are proportions of data.digits; give the digits, too")
    if data.masses is not None and data.digits is not None and len(data.masses) != len(data.digits):
        raise InputError(f"data.masses has {len(data.masses)} values for {len(data.digits)} digits; give one for each")
    if data.noise and data.binary:
        raise InputError("data.noise is added to grey values; set data.binary = false or drop the noise")
    if data.n_copies > 1 and not data.noise:
        raise InputError("data.n_copies without data.noise would repeat the same images; give noise or drop it")


def check_pace(kernel: Any, training: Any) -> None:
    """Raises InputError for sweeps that shall follow the walkers' memory where there is none, or a second rule."""
    if kernel.pace is None:
        if kernel.most_sweeps != type(kernel).model_fields["most_sweeps"].default:
            raise InputError("kernel.most_sweeps is the limit of kernel.pace; set the pace, or drop it")
        return
    if training.method not in ("pcd", "jarzynski"):
        raise InputError(
            f"kernel.pace follows what persistent walkers remember; training.method = {training.method!r} restarts "
            "them in every update: drop it, or use 'pcd' or 'jarzynski'"
        )
    if kernel.n_sweeps_late is not None:
        raise InputError("kernel.pace and kernel.n_sweeps_late both say how many sweeps an update has; drop one")
    if kernel.n_sweeps > kernel.most_sweeps:
        raise InputError(
            f"kernel.n_sweeps = {kernel.n_sweeps}, the fewest sweeps of kernel.pace, exceeds kernel.most_sweeps = "
            f"{kernel.most_sweeps}; lower it"
        )
