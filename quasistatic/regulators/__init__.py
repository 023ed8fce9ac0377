"""Regulators: resampling, restarts, schedules, gentleness, temperature."""

from quasistatic.regulators.base import AbstractRegulator as AbstractRegulator
from quasistatic.regulators.base import Reading as Reading
from quasistatic.regulators.endogenous import EndogenousTemperature as EndogenousTemperature
from quasistatic.regulators.gentle import KeepESS as KeepESS
from quasistatic.regulators.gentle import Sweeps as Sweeps
from quasistatic.regulators.pace import KeepPace as KeepPace
from quasistatic.regulators.resample import Resample as Resample
from quasistatic.regulators.restart import Restart as Restart
from quasistatic.regulators.restart import ShortRun as ShortRun
from quasistatic.regulators.scheduled import Scheduled as Scheduled
from quasistatic.regulators.spend import SpendWork as SpendWork
from quasistatic.regulators.thermostat import Thermostat as Thermostat
