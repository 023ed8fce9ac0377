"""Keys named for their use.

Every random number of a run is a pure function of (run key, absolute step, purpose). A resumed run therefore
draws exactly what the uninterrupted run would have drawn, and two purposes never share a stream.
"""

import zlib

from quasistatic._random import fold
from quasistatic._types import IntScalarLike, Key


def step_key(key: Key, step: IntScalarLike) -> Key:
    """Key of one absolute step of a run."""
    return fold(key, step)


def named(key: Key, purpose: str) -> Key:
    """Key for one purpose, such as `"relax"` or `"resample"`.

    Args:
        key: parent key, usually that of a step.
        purpose: any short name; equal names give equal keys on every machine (CRC-32 of the name).
    """
    return fold(key, zlib.crc32(purpose.encode()) & 0x7FFFFFFF)
