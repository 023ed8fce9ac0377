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
