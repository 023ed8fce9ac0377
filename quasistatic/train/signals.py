"""Interruptions turned into a wish that the training loop grants at the end of a chunk."""

import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Turns Ctrl-C and SIGTERM into a request to stop at the next chunk end; a second one stops at once."""

    def __init__(self) -> None:
        self.is_asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
