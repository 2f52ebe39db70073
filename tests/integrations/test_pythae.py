"""The callback for pythae, tested against the real package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("pythae", reason="pythae is not installed: make test-integrations")

from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, VAE, VAMP, AutoModel, BetaVAE, BetaVAEConfig, IWAEConfig, VAEConfig, VAMPConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseEncoder
from pythae.samplers import GaussianMixtureSampler, NormalSampler, VAMPSampler
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from sklearn.datasets import load_digits
from torch import Tensor, nn

import aldvae
from aldvae.integrations.pythae import LatentSize

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

SETTINGS = {"input_dim": (64,), "latent_dim": 16, "reconstruction_loss": "bce"}


def digits(start: int, stop: int) -> BaseDataset:
    images = torch.from_numpy(load_digits().data[start:stop]).float().div(16)
    return BaseDataset(images, torch.zeros(len(images)))


def train(model: Any, folder: Path, size: LatentSize | None, *, evaluate: bool = True, epochs: int = 20) -> BaseTrainer:
    config = BaseTrainerConfig(
        output_dir=str(folder),
        num_epochs=epochs,
        learning_rate=3e-3,
        per_device_train_batch_size=50,
        per_device_eval_batch_size=100,
    )
    data = (digits(0, 600), digits(600, 900) if evaluate else None)
    trainer = BaseTrainer(model, *data, config, callbacks=[] if size is None else [size])
    trainer.train()
    return trainer


def reloaded(folder: Path) -> Any:
    return AutoModel.load_from_folder(str(next(folder.rglob("final_model"))))


MODELS = [(VAE, VAEConfig, {}), (BetaVAE, BetaVAEConfig, {"beta": 0.5}), (VAMP, VAMPConfig, {}), (IWAE, IWAEConfig, {})]


@pytest.mark.parametrize(("kind", "config", "more"), MODELS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_final_model_has_the_size_that_was_found(kind: Any, config: Any, more: Any, tmp_path: Path) -> None:
    size = LatentSize()
    model = kind(config(**SETTINGS, **more))
    trainer = train(model, tmp_path, size)
    assert size.compressor is not None
    assert size.compressor.found
    n = size.latent_dim
    assert 2 <= n < 16
    loaded = reloaded(tmp_path)
    for vae in (model, loaded):
        assert {vae.latent_dim, vae.model_config.latent_dim, vae.encoder.latent_dim} == {n}
        assert vae.encoder.embedding.out_features == vae.decoder.layers[0][0].in_features == n
    held = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()}
    assert loaded.embed(digits(900, 903).data).shape == (3, n)
    assert NormalSampler(loaded).sample(num_samples=3).shape == (3, 64)


def test_samplers_that_are_fitted_work_at_the_new_size(tmp_path: Path) -> None:
    size = LatentSize()
    train(VAMP(VAMPConfig(**SETTINGS)), tmp_path, size)
    loaded = reloaded(tmp_path)
    mixture = GaussianMixtureSampler(loaded)
    mixture.fit(digits(0, 600).data)
    for sampler in (mixture, VAMPSampler(loaded)):
        assert sampler.sample(num_samples=3).shape == (3, 64)


def test_new_parameters_train(tmp_path: Path) -> None:
    moved: list[dict[str, Tensor]] = []

    class Watched(LatentSize):
        def on_epoch_end(self, training_config: Any, model: nn.Module, **more: object) -> None:
            now = {name: value.detach().clone() for name, value in model.named_parameters()}
            if self.compressor is not None and self.compressor.found and moved:
                assert all(not torch.equal(now[name], moved[-1][name]) for name in now)
            super().on_epoch_end(training_config, model, **more)
            moved[:] = [{name: value.detach().clone() for name, value in model.named_parameters()}]

    size = Watched()
    train(VAE(VAEConfig(**SETTINGS)), tmp_path, size)
    assert size.compressor is not None
    assert size.compressor.found


def test_decisions_aside_training_is_the_same(tmp_path: Path) -> None:
    """The random streams of training are untouched: without a decision, the callback changes nothing."""
    weights = []
    # Over 100 epochs, it measures at each but decides nothing in the first ten.
    for callback in (None, LatentSize(rule=aldvae.ConsolidatingRule(epochs=100))):
        torch.manual_seed(0)
        model = VAE(VAEConfig(**SETTINGS))
        train(model, tmp_path, callback, epochs=2)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_training_data_serve_where_there_are_none_to_evaluate(tmp_path: Path) -> None:
    size = LatentSize()
    train(VAE(VAEConfig(**SETTINGS)), tmp_path, size, evaluate=False)
    assert reloaded(tmp_path).latent_dim == size.latent_dim < 16


class OwnEncoder(BaseEncoder):
    def __init__(self, n: int = 16) -> None:
        super().__init__()
        self.features, self.mean, self.spread = nn.Linear(64, 32), nn.Linear(32, n), nn.Linear(32, n)

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.features(x).relu()
        return ModelOutput(embedding=self.mean(h), log_covariance=self.spread(h))


def test_layers_of_your_own_are_named(tmp_path: Path) -> None:
    model = VAE(VAEConfig(**SETTINGS), encoder=OwnEncoder())
    size = LatentSize(heads=["encoder.mean", "encoder.spread"])
    train(model, tmp_path, size)
    assert model.encoder.mean.out_features == model.latent_dim == size.latent_dim < 16


def test_a_name_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(aldvae.ArgumentError, match=r"heads must be names of modules of VAE: encoder\.embedding"):
        train(VAE(VAEConfig(**SETTINGS), encoder=OwnEncoder()), tmp_path, LatentSize())


def test_the_size_is_unknown_before_training() -> None:
    with pytest.raises(ValueError, match="once training has begun"):
        _ = LatentSize().latent_dim
