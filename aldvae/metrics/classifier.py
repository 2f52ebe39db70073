"""Classifier features: the penultimate layer of a small network trained on the labels of the dataset."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from aldvae.data.dataset import Dataset, Samples, select_frames, to_float
from aldvae.utils.devices import cpu_settings
from aldvae.utils.files import cache_lock, write_cached
from aldvae.utils.seeding import generator, stream_seed

# Part of the cache key: increase it whenever the network or its training changes.
VERSION = 3
FEATURE_DIM = 64
_STEPS = 1000
_BATCH_SIZE = 64
_SEED = 0


class Classifier(nn.Module):
    """Three strided convolutions and two linear layers; `forward` returns features and `classify` logits."""

    def __init__(self, shape: tuple[int, ...], n_classes: int) -> None:
        """Build the network for images of `shape` (..., H, W), with gray ones repeated to three channels."""
        super().__init__()
        layers: list[nn.Module] = []
        channels, height, width = 3, *shape[-2:]
        for maps in (16, 32, 64):
            layers += [nn.Conv2d(channels, maps, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()]
            channels, height, width = maps, -(-height // 2), -(-width // 2)
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.features = nn.Sequential(nn.Linear(channels * height * width, FEATURE_DIM), nn.ReLU())
        self.classes = nn.Linear(FEATURE_DIM, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, 64) of images (B, 3, H, W) in [0, 1]."""
        features: Tensor = self.features(self.convolutions(images))
        return features

    def classify(self, images: Tensor) -> Tensor:
        """Return the logits (B, n_classes) of images (B, 3, H, W) in [0, 1]."""
        logits: Tensor = self.classes(self(images))
        return logits


def load_classifier(data: Dataset, cache_dir: Path) -> tuple[nn.Module, str, float]:
    """Return the trained network, an identity of its weights, and its accuracy on the validation samples, in [0, 1].

    It is trained once on `data.train`, on the CPU with one thread, so that all runs on a machine use the same
    features. Its weights are cached under `cache_dir` by the fingerprint of the data, `VERSION` and torch's version.
    """
    network = Classifier(data.shape, len(data.train.classes))
    path = cache_dir / "classifiers" / f"{data.name}-{_key(data)}.safetensors"
    with cache_lock(path):
        accuracy = _load_cached(network, path)
        if accuracy is None:
            with cpu_settings(1):
                accuracy = _train(network, data)
            header = {"accuracy": json.dumps(accuracy)}
            write_cached(path, save(network.state_dict(), metadata=header))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return network.eval().requires_grad_(False), f"classifier-{digest}", accuracy


def _key(data: Dataset) -> str:
    parts = (VERSION, data.fingerprint, torch.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _load_cached(network: Classifier, path: Path) -> float | None:
    """Load the cached weights and return their accuracy; None if there are none or they are damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return float(json.loads(file.metadata()["accuracy"]))
    except (OSError, SafetensorError):
        return None


def _train(network: Classifier, data: Dataset) -> float:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(_SEED, "classifier"))
        network.load_state_dict(Classifier(data.shape, network.classes.out_features).state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=_STEPS)
    random = generator(_SEED, "classifier order")
    x, labels = data.train.on(torch.device("cpu")), data.train.labels
    assert labels is not None
    for _ in range(_STEPS):
        batch = torch.randint(len(x), (_BATCH_SIZE,), generator=random)
        optimizer.zero_grad()
        F.cross_entropy(network.classify(_images(x[batch])), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    return _accuracy(network, data.validation)


@torch.inference_mode()
def _accuracy(network: Classifier, samples: Samples) -> float:
    network.eval()
    assert samples.labels is not None
    predictions = torch.cat(
        [network.classify(_images(x)).argmax(1) for x in samples.on(torch.device("cpu")).split(960)]
    )
    return float((predictions == samples.labels).double().mean())


def _images(x: Tensor) -> Tensor:
    return to_float(select_frames(x)).expand(-1, 3, -1, -1)
