"""The data set that needs no file: 8x8 digits shipped with scikit-learn."""

from __future__ import annotations

import numpy as np

from quasistatic.datasets.base import Dataset, sha256, split_rows

_THRESHOLD = 8
_N_HELDOUT = 360


def digits() -> Dataset:
    """Handwritten digits, 8x8 pixels, binary where the grey value (0 to 16) is at least 8.

    The 1,797 images are split 1,437 / 360 by a fixed permutation, the same for every seed. There is no test
    set.

    Reference:
        E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), the part of 1,797
        images.
    """
    # Imported here: scikit-learn takes a second to load, and only this data set needs it.
    from sklearn.datasets import load_digits

    grey = np.asarray(load_digits(return_X_y=True)[0]).astype(np.uint8)
    binary = (grey >= _THRESHOLD).astype(np.float32)
    train, heldout = split_rows(len(binary), _N_HELDOUT)
    return Dataset(
        name="digits",
        train=binary[train],
        heldout=binary[heldout],
        test=None,
        event_shape=(8, 8),
        kind="binary",
        provenance={
            "source": "scikit-learn, load_digits",
            "rule": f"1 where grey >= {_THRESHOLD}; fixed permutation",
            "sha256": {"grey": sha256(grey.tobytes())},
        },
    )
