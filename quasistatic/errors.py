"""The three ways a run can end badly, one exception each.

They differ in who has to act: the caller (`InputError`), the run (`RunFailure`), or the claim that was
checked (`CheckFailed`). The command line turns them into exit codes 2, 3 and 1 through `exit_code`.
"""

from __future__ import annotations

from typing import ClassVar


class InputError(ValueError):
    """Something the caller gave cannot be used; nothing was changed.

    The message is one line: what is wrong, what was given, what to do.

    Example:
        >>> raise InputError("batch_size must be at least 1, got -3; use 0 for the full data")
        Traceback (most recent call last):
        quasistatic.errors.InputError: batch_size must be at least 1, got -3; use 0 for the full data
    """

    exit_code: ClassVar[int] = 2


class RunFailure(RuntimeError):
    """A run that stopped itself for a named reason; its last good checkpoint is kept.

    Args:
        message: One line: what happened, at which step, what to do.
        result: Name of the failure, usually that of a member of `quasistatic._results.RESULTS`.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, result: str):
        super().__init__(message)
        self.result = result


class CheckFailed(RuntimeError):
    """A measured number disagrees with the number that was expected."""

    exit_code: ClassVar[int] = 1
