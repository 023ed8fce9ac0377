"""Least dissipation: closed forms, schedules, learning-rate matrices, bounds and estimators of excess work."""

from quasistatic.dissipation.anisotropic import AnisotropicTrap as AnisotropicTrap
from quasistatic.dissipation.geometry import line_metric as line_metric
from quasistatic.dissipation.schedules import continuous as continuous
from quasistatic.dissipation.schedules import discontinuous as discontinuous
from quasistatic.dissipation.schedules import endless as endless
from quasistatic.dissipation.schedules import friction_of as friction_of
from quasistatic.dissipation.schedules import weighted as weighted
from quasistatic.dissipation.steering import steer as steer
from quasistatic.dissipation.stiffness import StiffnessChange as StiffnessChange
from quasistatic.dissipation.trap import SteppedTrap as SteppedTrap
from quasistatic.dissipation.trap import Trap as Trap
