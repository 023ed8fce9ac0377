"""How healthy a run is and in which regime its model lives.

`files` judges the recorded numbers one by one; `recorded` and `simulated` collect evidence about the regime, which
`verdict` turns into one word and advice:

* `equilibrium`: the walkers that made the gradient, long chains, and chains of any start show one law;
* `out_of_equilibrium`: they do not: the model is what its short dynamics makes of it;
* `frozen`: chains hardly change anything;
* `diverging`: learning goes away from the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quasistatic.diagnose.evidence import REGIMES as REGIMES
from quasistatic.diagnose.evidence import Evidence as Evidence
from quasistatic.diagnose.evidence import Probe as Probe
from quasistatic.diagnose.evidence import Source as Source
from quasistatic.diagnose.files import Check as Check
from quasistatic.diagnose.files import Diagnosis as Diagnosis
from quasistatic.diagnose.files import diagnose_files
from quasistatic.diagnose.recorded import recorded_evidence
from quasistatic.diagnose.simulated import simulated_evidence
from quasistatic.diagnose.verdict import verdict
from quasistatic.run import Run
from quasistatic.train.probe import probe_evidence

SOURCES: tuple[Source, ...] = (
    recorded_evidence,
    lambda run, probe: [Evidence(**found) for found in probe_evidence(run.path)],
    simulated_evidence,
)
"""Where evidence comes from; a further quantity is one more function here (or in `more`)."""


def diagnose(run: Run, probe: Probe | None = None, *, more: Sequence[Source] = ()) -> Diagnosis:
    """Verdicts on a run, finished or not.

    Args:
        run: the run folder.
        probe: the final model and where chains of it may start; None looks at the files alone.
        more: further sources of evidence.

    Raises:
        InputError: a file of the run is damaged.
    """
    evidence = tuple(item for source in (*SOURCES, *more) for item in source(run, probe))
    regime, reason, advice = verdict(evidence, has_chains=probe is not None)
    return replace(diagnose_files(run), regime=regime, reason=reason, evidence=evidence, advice=advice)
