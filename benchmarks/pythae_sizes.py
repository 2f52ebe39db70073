"""Sizes read off VAEs that pythae trains, and TwoNN: what `answer.py` compares with, each in a process of its own.

``python benchmarks/pythae_sizes.py WAY DATASET SETTINGS SIZES`` prints the size. WAY is ``units`` (active units of a
model of the largest size), ``grid`` (the size with the lowest validation loss) or ``twonn``. SETTINGS are those of the
run of aldvae as JSON, whose network, likelihood, batch size, epochs and split the models have; SIZES such as ``4,8``.
aldvae reads the data, so that TwoNN waits for the import of torch too.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import torch
from torch import Tensor

from aldvae.config.execution import Execution
from aldvae.config.presets import RECOMMENDED
from aldvae.config.resolve import Overrides, own_data, resolve
from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset, Samples, to_float
from aldvae.models.build import build_vae
from aldvae.models.vae import VAE
from aldvae.training.inputs import InputCache, load_data
from aldvae.training.workload import default_threads
from aldvae.utils.devices import cpu_settings

ACTIVE = 0.01


def make_trainer(config: RunConfig, data: Dataset, size: int, folder: str) -> Any:
    """Return pythae's trainer of a VAE with `size` dimensions, set up as `config` says; it writes into `folder`."""
    import pythae.models
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.manual_seed(config.training.seed)
    ours, bernoulli = build_vae(data.shape, size, **config.network_settings), config.model.likelihood == "bernoulli"
    loss = "bce" if bernoulli else "mse"
    model_config = pythae.models.VAEConfig(input_dim=data.shape, latent_dim=size, reconstruction_loss=loss)
    encoder, decoder = coders(ours, bernoulli)
    trainer_config = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=config.training.epochs,
        learning_rate=config.training.lr,
        per_device_train_batch_size=config.training.batch_size,
        per_device_eval_batch_size=config.training.batch_size,
        optimizer_cls="Adam",
        optimizer_params={"amsgrad": True},
        no_cuda=True,
        seed=config.training.seed,
    )
    train, held_out = (dataset(on_cpu(samples)) for samples in (data.train, data.validation))
    model = pythae.models.VAE(model_config, encoder=encoder, decoder=decoder)
    return BaseTrainer(model, train_dataset=train, eval_dataset=held_out, training_config=trainer_config)


def trained(config: RunConfig, data: Dataset, size: int) -> tuple[Any, float]:
    """Return a VAE of pythae with `size` dimensions, trained as `config` says, and its loss on validation samples."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, data, size, folder)
        trainer.train()
        return trainer.model.eval(), trainer.eval_step(config.training.epochs)


def on_cpu(samples: Samples) -> Tensor:
    """Return all samples (N, *shape) in float32."""
    return to_float(samples.on(torch.device("cpu"))[:])


def dataset(x: Tensor) -> Any:
    """Return samples (N, *shape) as a dataset of pythae."""
    from pythae.data.datasets import BaseDataset

    return BaseDataset(x, torch.zeros(len(x)))


def coders(model: VAE, bernoulli: bool) -> tuple[Any, Any]:
    """Return the encoder and the decoder of `model` as those of pythae; images are in [0, 1] with `bernoulli`."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body, self.mu, self.log_var = model.encoder, model.mu, model.log_var

        def forward(self, x: Tensor) -> Any:
            features = self.body(x)
            return ModelOutput(embedding=self.mu(features), log_covariance=self.log_var(features))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(model.reader, model.decoder)

        def forward(self, z: Tensor) -> Any:
            decoded = self.body(z)
            return ModelOutput(reconstruction=decoded.sigmoid() if bernoulli else decoded)

    return Encoder(), Decoder()


def active_units(config: RunConfig, data: Dataset, sizes: list[int]) -> int:
    """Return the number of dimensions of the largest model whose posterior mean varies over validation samples."""
    model, _ = trained(config, data, max(sizes))
    with torch.inference_mode():
        means = model.encoder(on_cpu(data.validation)).embedding
    return int((means.var(0) > ACTIVE).sum())


def grid(config: RunConfig, data: Dataset, sizes: list[int]) -> int:
    """Return the size with the lowest loss on validation samples."""
    return min(sizes, key=lambda size: trained(config, data, size)[1])


def two_nn(config: RunConfig, data: Dataset, sizes: list[int]) -> int:  # noqa: ARG001 - it trains nothing
    """Return the intrinsic dimension that TwoNN of scikit-dimension estimates on all training samples, rounded."""
    import skdim

    x = on_cpu(data.train).flatten(1).numpy()
    return round(float(skdim.id.TwoNN().fit_transform(x)))


WAYS = {"units": active_units, "grid": grid, "twonn": two_nn}


def main() -> None:
    """Print the size."""
    way, name, settings, sizes = sys.argv[1:]
    overrides, execution = json.loads(settings), Execution(own_data=own_data(name))
    # The start is that of aldvae's own run, which does not matter here.
    config = resolve("adaptive", name, Overrides({"init_dim": 16, **overrides}, RECOMMENDED), execution)
    data = load_data(config, execution, InputCache())
    model = build_vae(data.shape, 64, **config.network_settings)
    with cpu_settings(default_threads(config, model, data.shape)):
        print(WAYS[way](config, data, [int(size) for size in sizes.split(",")]))


if __name__ == "__main__":
    main()
