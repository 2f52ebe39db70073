"""Settings that follow the number of samples: for the user's own data under ``--protocol recommended``."""

from __future__ import annotations

from collections.abc import Mapping

from aldvae.config.options import Value
from aldvae.utils.errors import ConfigError

# A tenth is held out, but for few samples more, up to a fifth: at best as many as the metrics use, and never more than
# tell a mean precisely.
_FRACTION, _LARGEST_FRACTION, _MOST_HELD_OUT = 0.1, 0.2, 10_000
# Samples behind Fréchet distances and Silhouette score: the paper's number, or all that are held out.
_METRIC_SAMPLES = 500
_FEWEST = 10
# The limits of the epochs, and the optimiser steps that they make. The rule divides the epochs up, and needs some for
# each of its parts. Measured (docs/data.md): with more than 100 epochs, models of small tables overfit.
FEWEST_EPOCHS, _STEPS, _MOST_EPOCHS = 20, 5000, 100


def settings_from_count(n_samples: int, n_classes: int, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return held-out fraction, clusters, sample counts and epochs for `n_samples` samples in `n_classes` classes.

    Of the `settings` that are set otherwise, ``validation``, ``clusters``, ``batch_size`` and ``fid_features`` matter.
    `n_classes` is 0 without labels. There are as many clusters as classes, but none where the classes tell nothing:
    one, or about as many as samples. Raises `ConfigError` if the samples are too few, or too few are held out for the
    explicit number of clusters.
    """
    if n_samples < _FEWEST:
        raise ConfigError("limit" if "limit" in settings else "dataset", _too_few(n_samples))
    validation = float(settings.get("validation") or 0)
    # A fraction that makes no sense is refused later, by the name of its option.
    validation = validation if 0 < validation < 1 else held_out_fraction(n_samples)
    held_out = max(2, round(n_samples * validation))
    metric_samples = min(_METRIC_SAMPLES, held_out)
    clusters = _clusters(n_classes, metric_samples, settings)
    counts: dict[str, Value] = {
        "validation": validation,
        "clusters": clusters,
        "epochs": count_epochs(n_samples - held_out, int(settings["batch_size"] or 1)),
    }
    # The number of samples behind a metric that is left out keeps its default.
    if settings.get("fid_features") != "none":
        counts["fid_samples"] = metric_samples
    if clusters is not None:
        counts["silhouette_samples"] = metric_samples
    return counts


def _clusters(n_classes: int, metric_samples: int, settings: Mapping[str, Value]) -> Value:
    clusters = settings.get("clusters")
    if clusters is None:
        return n_classes if 2 <= n_classes < metric_samples else None
    if int(clusters) >= metric_samples and "silhouette_samples" not in settings:
        problem = f"{clusters} is too many for the {metric_samples} samples behind the Silhouette score"
        raise ConfigError("clusters", f"{problem}; use {metric_samples - 1} or fewer")
    return clusters


def _too_few(n_samples: int) -> str:
    noun = "sample is" if n_samples == 1 else "samples are"
    return f"{n_samples} {noun} too few to find a size; {_FEWEST} or more are needed, better hundreds"


def held_out_fraction(n_samples: int) -> float:
    """Return the fraction of `n_samples` samples to hold out, with three digits: 0.1 from 5,000 to 100,000 samples."""
    wanted = max(_FRACTION * n_samples, min(_METRIC_SAMPLES, _LARGEST_FRACTION * n_samples))
    return float(f"{min(wanted, _MOST_HELD_OUT) / n_samples:.3g}")


def count_epochs(n_train: int, batch_size: int) -> int:
    """Return the epochs in which `n_train` samples make about 5,000 optimiser steps: at least 20, at most 100."""
    steps = -(-n_train // batch_size)
    return min(max(round(_STEPS / max(1, steps)), FEWEST_EPOCHS), _MOST_EPOCHS)
