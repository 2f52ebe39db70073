"""The curve: what fewer dimensions cost, found by letting a trained model go on down, size by size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aldvae.compression.neurons import LatentNeurons
from aldvae.compression.principal_directions import LatentStatistics
from aldvae.compression.resizing import Resizable
from aldvae.compression.rules.base import SMALLEST_DIM, AnyRule
from aldvae.compression.selection import select_kl
from aldvae.compression.support import check_scale, consolidates
from aldvae.compression.watch import Posterior, Scale, Watch
from aldvae.utils.errors import ArgumentError


@dataclass(frozen=True)
class CurvePoint:
    """A size of the curve: its `metrics`, as the caller measured them, after so many further `epochs` of training."""

    latent_dim: int
    epochs: int
    metrics: Mapping[str, float]


def curve_sizes(start: int, most: int, smallest: int = SMALLEST_DIM) -> list[int]:
    """Return at most `most` sizes below `start` down to `smallest`, largest first.

    They are all of these sizes or, if there are more, half of `start`, sizes in steps of one ratio above it, and about
    as many below it; if there may be only one, it is `smallest`.
    """
    if start - smallest <= most:
        return list(range(start - 1, smallest - 1, -1))
    half, below = max(smallest, -(-start // 2)), max(1, most // 2)
    return _ladder(start, half, most - below) + _ladder(half if most > 1 else start, smallest, below)[:most]


def _ladder(start: int, end: int, most: int) -> list[int]:
    """Return at most `most` sizes from below `start` down to `end`, in steps of one ratio and of 1 or more."""
    if most < 1:
        return []
    # In percent. With the first ratio all sizes are taken, with the last one `end` alone.
    ladders = (_steps(start, end, ratio / 100) for ratio in range(100, -1, -1))
    return next(sizes for sizes in ladders if len(sizes) <= most)


def _steps(start: int, end: int, ratio: float) -> list[int]:
    sizes, size = list[int](), start
    while size > end:
        size = max(end, min(size - 1, round(size * ratio)))
        sizes.append(size)
    return sizes


def narrow(model: Resizable, size: int, posterior: Posterior, *, consolidates: bool) -> list[int]:
    """Reduce the latent space of `model` to `size` dimensions in place; return the positions that are left.

    Those with the least information go: if the latent space `consolidates`, which needs samples in `posterior`, it is
    rewritten in its `size` strongest principal directions (positions 0 to `size` - 1); otherwise the dimensions with
    the lowest KL divergence are removed. Raises `ArgumentError` if the posterior lacks what is needed, and `ValueError`
    for a `size` below 2 or above the present one.
    """
    present = model.space.size
    if consolidates:
        if posterior.mu is None or posterior.log_var is None:
            raise ArgumentError("mu", "and log_var are needed to find the principal directions")
        model.rewrite(LatentStatistics.measure(posterior.mu, posterior.log_var), range(size), posterior.power)
        return list(range(size))
    removed = select_kl(latent_dim=present, n=present - size, kl=posterior.kl)
    model.shrink(removed)
    return [position for position in range(present) if position not in removed]


class Descending:
    """The part of `Compressor` that goes on down without asking the rule."""

    _model: Resizable
    _rule: AnyRule
    _neurons: LatentNeurons

    def narrow(self, size: int, posterior: Posterior) -> None:
        """Reduce the model to `size` dimensions without asking the rule; see `compression.curve.narrow`."""
        kept = narrow(self._model, size, posterior, consolidates=consolidates(self._rule))
        left = self._neurons.left
        self._neurons.left = kept if consolidates(self._rule) else [left[position] for position in kept]
        self._model.notify()

    def curve(
        self,
        train_epoch: Callable[[], object],
        validate: Callable[[], Mapping[str, float]],
        *,
        epochs: int = 1,
        sizes: Sequence[int] | None = None,
        scale: Scale = "log_var",
    ) -> list[CurvePoint]:
        """Let the trained model go on down, to see what fewer dimensions cost; then put it back as it was.

        At each of `sizes` (default: all below the present one, down to 2) the least informative dimensions go, then
        `train_epoch` is called `epochs` times and `validate` once. `validate` runs validation samples through the
        model and returns any metrics by name; its heads are watched, see `watch` for `scale`. The first of the points
        is the model as it is. Model and optimiser are restored bit for bit, also after an exception.

        Raises `ArgumentError` for sizes that do not fall, without an optimiser, with `freeze`, and as `watch` does.
        """
        sizes = curve_sizes(self._model.space.size, self._model.space.size) if sizes is None else sizes
        _check(self._model, sizes, epochs)
        check_scale(self._rule, scale)
        return list(self._trace(train_epoch, validate, sizes, epochs, scale))

    def _trace(
        self,
        train_epoch: Callable[[], object],
        validate: Callable[[], Mapping[str, float]],
        sizes: Sequence[int],
        epochs: int,
        scale: Scale,
    ) -> Iterator[CurvePoint]:
        """Yield the points; whatever happens, the model is put back in the end."""
        start, snapshot, neurons = self._model.space.size, self._model.snapshot(), self._neurons.left
        try:
            metrics, posterior = _watched(self._model, validate, scale)
            yield CurvePoint(start, 0, metrics)
            for step, size in enumerate(sizes, start=1):
                self.narrow(size, posterior)
                for _ in range(epochs):
                    train_epoch()
                metrics, posterior = _watched(self._model, validate, scale)
                yield CurvePoint(size, step * epochs, metrics)
        finally:
            self._model.restore(snapshot, start)
            self._neurons.left = neurons
            self._model.notify()


def _watched(
    model: Resizable, validate: Callable[[], Mapping[str, float]], scale: Scale
) -> tuple[Mapping[str, float], Posterior]:
    watch = Watch(model.space, scale, keep_samples=True)
    with watch.hooks():
        metrics = validate()
    return dict(metrics), watch.posterior()


def _check(model: Resizable, sizes: Sequence[int], epochs: int) -> None:
    """Raise `ArgumentError` for sizes or epochs that make no curve, and for a model that could not be put back."""
    if not model.optimizers:
        raise ArgumentError("optimizer", "must be given for a curve: what it trains is put back afterwards")
    if model.freezes:
        raise ArgumentError("freeze", "must be False for a curve: the layers must go on training")
    if epochs < 1:
        raise ArgumentError("epochs", f"must be 1 or more, not {epochs}")
    steps = zip([model.space.size, *sizes], sizes, strict=False)
    if any(size < SMALLEST_DIM or size >= before for before, size in steps):
        problem = f"must fall from below {model.space.size} to {SMALLEST_DIM} or more, not {list(sizes)}"
        raise ArgumentError("sizes", problem)
