"""What a run shows: lines that fit a terminal, and numbers with the digits their errors leave."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from quasistatic.cli.live import LiveLine, clock, numbers, with_error

ROW = {
    "step": 4000,
    "ll_train": -14.7123,
    "ll_heldout": -15.3219,
    "ll_stderr": 0.083,
    "ess_auditor": 0.83,
    "ess_driver": 0.2,
    "excess_work": 1.236,
    "flip_rate": 0.1129,
    "accept_rate": None,
}


@pytest.mark.parametrize(
    "value, error, shown",
    [
        (-15.3219, 0.083, "-15.322 ± 0.083"),
        (-15.3219, 0.43, "-15.32 ± 0.43"),
        (861.55, 12.3, "862 ± 12"),
        (1.0, None, "1.00"),
        (1.0, 0.0, "1.00 ± 0.00"),
    ],
)
def test_digits_follow_the_error(value: float, error: float | None, shown: str):
    assert with_error(value, error) == shown


def test_numbers_fit_eighty_columns():
    line = numbers(ROW)
    assert len(line) <= 80
    assert "held-out -15.322±0.083" in line and "ESS 0.83" in line and "flips 0.11" in line


def test_withheld_numbers_are_said_to_be():
    assert "withheld" in numbers({**ROW, "ll_train": None, "ll_heldout": None, "ll_stderr": None})


def test_clock():
    assert [clock(s) for s in (0, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]


def test_terminal_gets_two_lines_and_a_pipe_plain_ones():
    for is_terminal in (True, False):
        out = io.StringIO()
        live = LiveLine("digits-rbm-001", Console(file=out, force_terminal=is_terminal, width=80))
        live.start(0, 8000)
        live.update({**ROW, "step": 20})
        live.update(ROW)
        if is_terminal:
            drawn = io.StringIO()
            Console(file=drawn, width=80).print(live)
            assert len(drawn.getvalue().splitlines()) == 2
            assert "4,000/8,000" in drawn.getvalue() and "left" in drawn.getvalue()
        live.close()
        assert ("\x1b" in out.getvalue()) == is_terminal
