"""The settings of what watches a run."""

from __future__ import annotations

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from runyoro_ssl.setting import Probability, Section, setting


class HealthConfig(Section):
    """When `train` raises an alarm, and what it then does: note it, go back to a healthy checkpoint, or stop."""

    enabled: bool = setting(default=True, decides="nothing")
    """False: only updates that are no numbers raise an alarm, and end the run at once."""
    max_skipped_updates: NonNegativeInt = setting(5, decides="nothing")
    """Updates in a row without numbers: each is skipped; after one more, the run goes back."""
    max_skipped_share: Probability = setting(0.2, decides="nothing")
    """Share of the last `skip_window` updates that may be skipped before the run goes back."""
    skip_window: PositiveInt = setting(50, decides="nothing")
    """Updates in which skipped ones are counted."""
    max_rollbacks: NonNegativeInt = setting(2, decides="nothing")
    """Times that the run goes back to a healthy checkpoint, each time with half the learning rate, before it stops."""
    patience: PositiveInt = setting(10, decides="nothing")
    """Updates in a row for which a collapse, a trivial task, or a loss fallen back to chance must be seen; and for
    which a codebook must be in use, or a loss under chance, to be believed."""
    min_group_perplexity: NonNegativeFloat = setting(3.0, decides="nothing")
    """Codes in use, in either codebook, under which it has collapsed: 1 is a single code, XLS-R uses hundreds. Random
    weights often start under it: a codebook that was never at twice this has `chance_patience` updates. A validation
    with fewer, over all codebooks, is never the best."""
    max_lost_codes: Probability = setting(0.65, decides="nothing")
    """Share of the codes held in use, by a codebook or all together, that may be lost again before it is a collapse."""
    min_contrastive_loss: NonNegativeFloat = setting(0.05, decides="nothing")
    """Nats. Under this, with an accuracy over `max_accuracy` or hardly a negative that differs, the task has become
    trivial."""
    max_accuracy: Probability = setting(0.99, decides="nothing")
    """Share of masked frames picked right."""
    chance_margin: NonNegativeFloat = setting(0.02, decides="nothing")
    """Nats. A contrastive loss not this far under guessing has learned nothing; a model is believed to be better than
    guessing at twice this in updates, or when it came with five times this in validation."""
    max_lost_share: Probability = setting(0.5, decides="nothing")
    """Share of what was held below guessing that may be lost at once, or with 0.3 nats slowly; more in the warm-up."""
    chance_patience: PositiveInt = setting(1000, decides="nothing")
    """Updates after which a model that never left chance, or whose codebook was never in use, is given up."""
    spike_factor: float = setting(10.0, decides="nothing", gt=1.0)
    """A gradient norm this many times the median of the last 100 is a spike."""
    max_spikes: PositiveInt = setting(5, decides="nothing")
    """Spikes within `spike_window` updates that make the run go back; fewer are noted."""
    spike_window: PositiveInt = setting(20, decides="nothing")
    """Updates. One note at most in so many."""
    early_stop_patience: NonNegativeInt = setting(5, decides="nothing")
    """Validations in a row without a new best after which the run ends with its best model; 0: never. The model as it
    came is no best, and nothing ends while the best is no better than guessing."""
    max_memory_growth: PositiveFloat = setting(0.25, decides="nothing")
    """Share by which memory may grow after warm-up before it is noted."""
