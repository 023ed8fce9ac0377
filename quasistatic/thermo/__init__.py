"""Books: switch, relax, accounts, ensembles, free-energy estimators."""

from quasistatic.thermo.account import Account as Account
from quasistatic.thermo.bridge import open_at_law as open_at_law
from quasistatic.thermo.controls import Controls as Controls
from quasistatic.thermo.ensemble import Ensemble as Ensemble
from quasistatic.thermo.ledger import Ledger as Ledger
from quasistatic.thermo.process import advance as advance
from quasistatic.thermo.process import advance_some as advance_some
from quasistatic.thermo.process import as_samples as as_samples
from quasistatic.thermo.process import relax as relax
from quasistatic.thermo.process import switch as switch
