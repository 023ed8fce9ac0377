"""The words of the page, for a reader who meets them for the first time."""

TERMS = {
    "nat": ("Unit of every logarithm here: natural logarithms. 1 nat is 1.4427 bits."),
    "log-likelihood": (
        "Mean of log p(x) over the examples, higher is better. Training examples are learnt from, held- "
        "out examples are not."
    ),
    "live": ("Measured while training, from the work done on the walkers, without a separate evaluation."),
    "exact": ("Computed by summing over all states: possible for small models only, and the judge of the live number."),
    "s.e.": (
        "Standard error: one sigma of the estimate, from the spread of independent groups of walkers. "
        "Intervals use Student's distribution."
    ),
    "withheld": ("A number that could not be given honestly. The reason stands beside it."),
    "raw and averaged parameters": (
        "Raw parameters are those of the step itself; averaged ones are their running mean (EMA), often "
        "better. A likelihood belongs to one or the other, live ones to the raw."
    ),
    "log Z": ("Logarithm of the partition function, the number that makes probabilities sum to one."),
    "driver": (
        "The walkers whose statistics drive the parameters. Their own log Z is biased low by that "
        "feedback, so their log-likelihood looks better than it is."
    ),
    "feedback bias": (
        "How far the driver's own log Z is off because its walkers steer the parameters and weigh the same step. "
        "Estimated from the difference of two halves of them; the auditor's number does not need it."
    ),
    "auditor": (
        "Independent walkers that are moved and weighed along the same path but never used for any "
        "decision. Their Z is unbiased; their log Z is low by about half the squared standard error."
    ),
    "walker": ("One Markov chain. Many of them make a population."),
    "effective sample size (ESS)": (
        "Share of the walkers that still count once they are weighted: 1 when all weigh the same, near 0 "
        "when a few carry everything."
    ),
    "weight": ("Importance of a walker, exp(-(work + shadow work)) since the last resampling."),
    "work": (
        "Change of a walker's reduced energy when the parameters change and the walker stays; positive "
        "when done on the walkers."
    ),
    "heat": ("Energy that a walker takes from the bath when it moves and the parameters stay."),
    "shadow work": (
        "What a kernel without detailed balance adds: zero for Gibbs and Metropolis moves, the "
        "discretisation correction for Langevin moves."
    ),
    "excess work": (
        "Work beyond the change of free energy, of the walkers that made the gradients: what training too fast costs, "
        "and by how much a likelihood that believes these walkers is too high."
    ),
    "efficiency": "Least work for the distance travelled over excess work: a share of the work that was needed.",
    "flip rate": ("Share of the units that change when the walkers are moved. Near zero, the chains are frozen."),
    "score": (
        "Number that picks the best checkpoint, never read from the auditor. The pseudo-log-likelihood is the sum "
        "of log p(unit | all other units): exact, cheap, and not the log-likelihood."
    ),
    "beta": ("Inverse temperature; 1 unless a schedule or a regulator changes it."),
}
