"""What a run is doing, in words: "warm-up", "settling: 11 of 100 carry information", "curve: size 7"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aldvae.compression.rules.limits import informative_above
from aldvae.config.run_config import RunConfig

if TYPE_CHECKING:
    from aldvae.compression.steps import Step


class Phases:
    """Follows a run from epoch to epoch. `name` is the first word of its phase, such as ``"settling"``.

    `n_informative` is the number of dimensions that carry information, None where the rule has not told yet.
    """

    def __init__(self, config: RunConfig, first_epoch: int = 1) -> None:
        """Start before the first epoch of a session; what an earlier session decided is not known."""
        self._config, self._decided = config, first_epoch == 1
        self._stopped = self._settled = False
        self.n_informative: int | None = None
        self.name = ""

    def describe(self, epoch: int, latent_dim: int, step: Step | None) -> str:
        """Return what the run was doing in `epoch`, at a size of `latent_dim`; `step` is what its compressor did."""
        if step is not None:
            latent_dim = step.latent_dim
            self._take_in(step)
        self.name = self._phase(epoch)
        if self.n_informative is None:
            return f"{self.name}: size {latent_dim}"
        verb = "carries" if self.n_informative == 1 else "carry"
        return f"{self.name}: {self.n_informative} of {latent_dim} {verb} information"

    def _take_in(self, step: Step) -> None:
        decision, beta = step.decision, self._config.model.beta
        if step.directions is not None:
            self.n_informative = sum(own >= informative_above(beta) for own in step.directions.own(beta))
        if decision is not None:
            self._decided = True
            self._stopped |= decision.stop
            if decision.n_informative is not None:
                self.n_informative = decision.n_informative
                self._settled = decision.settled_epoch is not None

    def _phase(self, epoch: int) -> str:
        compression = self._config.compression
        if self._config.training.warmed_up(epoch) < 1:
            return "warm-up"
        if compression is None or not self._decided:
            return "training"
        if self._settled:
            return "settled"
        if self._stopped and compression.stop:
            return "final"
        return "compressing" if self.n_informative is None else "settling"
