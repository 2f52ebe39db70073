"""scikit-learn's embedded digits: 1,797 real 8 x 8 images that need no network and no data directory."""

from __future__ import annotations

import torch

from aldvae.data.dataset import Samples


def load() -> Samples:
    """Return all digits; the 17 gray levels of the original become 0..255."""
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy((x * (255 / 16)).round()).to(torch.uint8)
    return Samples(pixels.reshape(-1, 1, 8, 8), torch.from_numpy(labels).long(), tuple("0123456789"))
