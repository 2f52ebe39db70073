"""The callback for Lightning, tested against the real package."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="Lightning is not installed: make test-integrations")

import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging
from torch import Tensor, nn

import aldvae
from aldvae.integrations.lightning_trainer import check_trainer
from tests.integrations.lightning_vae import EPOCHS, LitVAE, latent_size, loaders, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:UserWarning", "ignore:.*:FutureWarning", "ignore::DeprecationWarning"
)


def fit(folder: Path, *callbacks: Any, vae: LitVAE | None = None, ckpt_path: Any = None, **settings: Any) -> LitVAE:
    """Train and return `vae`; a fresh one by default."""
    torch.manual_seed(0)
    vae = LitVAE() if vae is None else vae
    trainer(folder, *callbacks, **settings).fit(vae, *loaders(), ckpt_path=ckpt_path)
    return vae


def flat(state: Any) -> Any:
    """Return nested dictionaries and lists with tensors as lists."""
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [flat(value) for value in state]
    return state.tolist() if isinstance(state, Tensor) else state


def state_of(callback: Any) -> Any:
    return flat(callback.compressor.state_dict())


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def plain_loop(*, watched: bool, epochs: int = EPOCHS) -> tuple[LitVAE, aldvae.Compressor, list[int]]:
    """Train as `fit` does, without Lightning; return the model, the compressor and the size after each epoch."""
    torch.manual_seed(0)
    vae, (train, validation) = LitVAE(), loaders()
    optimizer = vae.configure_optimizers()
    compressor = aldvae.Compressor(
        heads=[vae.fc_mu, vae.fc_var],
        readers=[vae.decoder[0]],
        optimizer=optimizer,
        rule=aldvae.ConsolidatingRule(),
        epochs=epochs,
    )
    sizes = []
    for epoch in range(1, epochs + 1):
        weight = min(1.0, epoch / vae.warmup)
        for x in train:
            recon, kl = vae.losses(x)
            optimizer.zero_grad()
            (recon + weight * kl).backward()
            optimizer.step()
        posterior: dict[str, Any] = {}
        with torch.no_grad(), compressor.watch() if watched else nullcontext():
            images = list(validation)  # A loader draws a random number each time it is passed through.
            for x in images:  # draws the noise that validation draws
                vae.losses(x)
        if not watched:
            hidden = [vae.encoder(x) for x in images]
            posterior["mu"], posterior["log_var"] = (
                torch.cat([head(h) for h in hidden]) for head in (vae.fc_mu, vae.fc_var)
            )
        sizes.append(compressor.step(**posterior, beta=weight).latent_dim)
    return vae, compressor, sizes


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[LitVAE, Any]:
    """Return the model of an uninterrupted run, and its callback."""
    callback = latent_size()
    return fit(tmp_path_factory.mktemp("fitted"), callback), callback


@pytest.mark.parametrize("watched", [False, True], ids=["given mu and log_var", "watched"])
def test_a_seed_gives_the_same_decisions_in_a_plain_loop(fitted: tuple[LitVAE, Any], watched: bool) -> None:
    vae, callback = fitted
    plain, compressor, sizes = plain_loop(watched=watched)
    assert len(set(sizes)) > 1
    assert sizes[-1] == callback.latent_dim < 16
    assert state_of(callback) == flat(compressor.state_dict())
    assert callback.compressor.found
    assert same_weights(vae, plain)


def test_attributes_and_hyper_parameters_follow(fitted: tuple[LitVAE, Any]) -> None:
    vae, callback = fitted
    assert vae.latent_dim == vae.hparams["latent_dim"] == callback.latent_dim == vae.fc_mu.out_features
    assert vae.sample(3).shape == (3, 64)


@pytest.mark.parametrize("moment", ["validation", "epoch"])
def test_a_run_resumed_from_any_checkpoint_ends_the_same(moment: str, tmp_path: Path) -> None:
    how: dict[str, dict[str, Any]] = {
        "validation": {"monitor": "val_loss"},
        "epoch": {"save_on_train_epoch_end": True},
    }
    checkpoints = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, filename="{step}", **how[moment])
    first = fit(tmp_path, latent_size(), checkpoints, vae=SteppedVAE(), enable_checkpointing=True)
    paths = sorted(tmp_path.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    assert len(paths) > 8
    for path in (paths[2], paths[7]):
        callback = latent_size()
        resumed = fit(tmp_path, callback, vae=SteppedVAE(), ckpt_path=path)
        assert callback.compressor is not None
        assert resumed.fc_mu.out_features == first.fc_mu.out_features
        assert same_weights(resumed, first)


@pytest.mark.parametrize("steps", [12, 18], ids=["before validation", "within an epoch"])
def test_a_run_resumes_where_lightning_skips_a_validation_or_batches(steps: int, tmp_path: Path) -> None:
    """Lightning does not repeat the validation, nor the order of the data, so that the end is another."""
    checkpoints = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, every_n_train_steps=steps, filename="{step}")
    fit(tmp_path, latent_size(), checkpoints, enable_checkpointing=True)
    for path in (tmp_path / "step=36.ckpt", tmp_path / "step=180.ckpt"):
        callback = latent_size()
        resumed = fit(tmp_path, callback, ckpt_path=path)
        assert callback.compressor is not None
        assert callback.compressor.found
        assert callback.latent_dim == resumed.fc_mu.out_features == resumed.latent_dim < 16


class SteppedVAE(LitVAE):
    """Draws the noise of each step from a seed of its own, so that an interrupted run goes on with the same noise."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()

    def training_step(self, x: Tensor, index: int) -> Tensor:
        torch.manual_seed(self.global_step)
        return super().training_step(x, index)


def test_load_from_checkpoint_builds_the_model_in_its_new_size(tmp_path: Path) -> None:
    last = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    callback = latent_size()
    vae = fit(tmp_path, callback, last, enable_checkpointing=True)
    loaded = LitVAE.load_from_checkpoint(tmp_path / "last.ckpt")
    assert loaded.latent_dim == callback.latent_dim < 16
    assert same_weights(loaded, vae)
    assert loaded.sample(2).shape == (2, 64)


def test_a_checkpoint_of_another_size_can_be_tested_and_trained_on(tmp_path: Path) -> None:
    every = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, every_n_epochs=1, filename="{epoch}")
    vae = fit(tmp_path, latent_size(), every, enable_checkpointing=True)
    first, last = tmp_path / "epoch=0.ckpt", tmp_path / f"epoch={EPOCHS - 1}.ckpt"
    callback = latent_size()
    small = vae.latent_dim
    for path, size in ((first, 16), (last, small)):
        trainer(tmp_path, callback).validate(vae, loaders()[1], ckpt_path=path, verbose=False)
        assert vae.latent_dim == vae.fc_mu.out_features == size
    loaded = LitVAE.load_from_checkpoint(last)
    callback = latent_size()
    fit(tmp_path, callback, vae=loaded, ckpt_path=last, epochs=EPOCHS + 2)
    assert callback.compressor is not None
    assert callback.compressor.found
    assert callback.latent_dim == small


def test_size_and_information_are_logged(tmp_path: Path) -> None:
    callback = latent_size()
    run = trainer(tmp_path, callback)
    run.fit(LitVAE(), *loaders())
    assert callback.compressor is not None
    answer = callback.compressor.answer
    assert answer is not None
    assert run.callback_metrics["latent_dim"] == callback.latent_dim
    assert run.callback_metrics["n_informative"] == answer.n_informative


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_clip_val": 0.5},
        {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"accumulate_grad_batches": 5},
        {"val_check_interval": 0.5},
        {"check_val_every_n_epoch": 2},
        {"num_sanity_val_steps": 2},
    ],
    ids=str,
)
def test_settings_of_the_trainer(settings: dict[str, Any], tmp_path: Path) -> None:
    callback = latent_size()
    vae = LitVAE()
    if settings.get("precision") == "64-true":
        vae = DoubleVAE()
    vae = fit(tmp_path, callback, vae=vae, **settings)
    assert callback.compressor is not None
    assert callback.compressor.found
    assert callback.latent_dim < 16
    epochs = EPOCHS // settings.get("check_val_every_n_epoch", 1)
    assert callback.compressor.epoch == epochs


class DoubleVAE(LitVAE):
    """Takes images in double precision."""

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().losses(x.double())


class TwoOptimizers(LitVAE):
    """Has a second network with an optimiser of its own, and takes its steps by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Linear(64, 1)

    def training_step(self, x: Tensor, _: int) -> None:  # type: ignore[override]
        vae, critic = self.optimizers()
        recon, kl = self.losses(x)
        for optimizer, loss in ((vae, recon + kl), (critic, self.critic(x).square().mean())):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:  # type: ignore[override]
        networks = [self.encoder, self.fc_mu, self.fc_var, self.decoder]
        ours = [parameter for network in networks for parameter in network.parameters()]
        return [torch.optim.Adam(ours, lr=3e-3), torch.optim.SGD(self.critic.parameters(), lr=1e-3)]


def test_several_optimisers(tmp_path: Path) -> None:
    callback = latent_size(beta=None)
    vae = fit(tmp_path, callback, vae=TwoOptimizers())
    assert callback.latent_dim == vae.fc_mu.out_features < 16


def test_the_robust_rule_uses_the_logged_loss(tmp_path: Path) -> None:
    callback = latent_size(rule=aldvae.RobustRule(), recon_loss="val_recon_loss")
    vae = fit(tmp_path, callback, epochs=30)
    assert callback.latent_dim == vae.fc_mu.out_features < 16


def test_early_stopping_waits_for_the_budget(tmp_path: Path) -> None:
    stopper = EarlyStopping("val_loss", patience=1, min_delta=1e9)
    callback = latent_size(epochs=12)
    fit(tmp_path, callback, stopper, epochs=100)
    assert callback.compressor is not None
    assert callback.compressor.epoch == 12
    assert callback.compressor.found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": ["fc_mean", "fc_var"]}, "heads .*LitVAE: fc_mean is not known; did you mean fc_"),
        ({"readers": ["decoder"]}, "readers.*, not Sequential"),
        ({"sizes": ["n_latent"]}, "sizes n_latent is no attribute or hyper-parameter of LitVAE"),
        ({"sizes": ["warmup"]}, "sizes warmup is 4, but heads and readers have 16"),
        ({"sizes": ["kl_weight"]}, "sizes kl_weight is 0.25, but"),
        ({"beta": "gamma"}, "beta names neither a logged metric nor an attribute of LitVAE: gamma"),
        ({"recon_loss": "val_mse"}, "recon_loss val_mse was not logged .*val_loss"),
        ({"heads": ["fc_mu"]}, "heads must be two layers"),
        ({"heads": ["fc_mu"], "sizes": []}, "latent_dim must be given: one head .*; let sizes name the attribute"),
        ({"readers": ["decoder.0", "decoder.2"]}, r"readers\[1\] has 64 inputs for a latent size of 16"),
    ],
)
def test_an_invalid_argument_is_named(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        fit(tmp_path, latent_size(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit_val_batches": 0}, "val_dataloaders must be given, .* `limit_val_batches` above 0"),
        ({"epochs": -1, "max_steps": 5}, "max_epochs must be given"),
        ({"check_val_every_n_epoch": None, "val_check_interval": 5}, "check_val_every_n_epoch must be a number"),
    ],
)
def test_a_trainer_that_does_not_fit_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(aldvae.ArgumentError, match=message):
        fit(tmp_path, latent_size(), **settings)


def test_validation_without_samples_is_refused(tmp_path: Path) -> None:
    train, validation = loaders()
    validation = type(validation)(validation.dataset, sampler=[])
    with pytest.raises(aldvae.ArgumentError, match="val_dataloaders gave no samples"):
        trainer(tmp_path, latent_size()).fit(LitVAE(), train, validation)


def test_weight_averaging_is_refused(tmp_path: Path) -> None:
    with pytest.raises(aldvae.ArgumentError, match="StochasticWeightAveraging do not go together"):
        fit(tmp_path, latent_size(), StochasticWeightAveraging(1e-3))


class Conditional(LitVAE):
    """Reads a label before z, normalises z, and has one head for means and log standard deviations."""

    def __init__(self, latent_dim: int = 16) -> None:
        super().__init__(latent_dim)
        self.head = nn.Linear(64, 2 * latent_dim)
        self.norm = nn.BatchNorm1d(latent_dim)
        self.decoder = nn.Sequential(nn.Linear(1 + latent_dim, 64), nn.ReLU(), nn.Linear(64, 64))

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_std = self.head(self.encoder(x)).chunk(2, dim=1)
        z = self.norm(mu + torch.randn_like(mu) * log_std.exp())
        logits = self.decoder(torch.cat([x.mean(1, keepdim=True), z], dim=1))
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        return recon, 0.5 * (mu.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum() / len(x)


def test_slots_are_named_with_their_layout_and_start(tmp_path: Path) -> None:
    callback = latent_size(
        heads=[("head", "blocks")],
        readers=[("decoder.0", 1)],
        along=["norm"],
        scale="log_std",
        rule=aldvae.RobustRule(),
        recon_loss="val_recon_loss",
        beta=None,
    )
    vae = Conditional()
    fit(tmp_path, callback, vae=vae, epochs=30)
    n = callback.latent_dim
    assert n < 16
    assert vae.head.out_features == 2 * n
    assert vae.decoder[0].in_features == n + 1
    assert vae.norm.num_features == n
    assert vae.latent_dim == n


def test_a_check_before_training_finds_a_wrong_layout() -> None:
    vae, batch = Conditional(), loaders()[0].dataset[:20]
    before = flat(vae.state_dict())
    names: dict[str, Any] = {"readers": [("decoder.0", 1)], "along": ["norm"]}
    latent_size(heads=[("head", "blocks")], **names).check(vae, lambda: vae.training_step(batch, 0))
    assert flat(vae.state_dict()) == before
    with pytest.raises(aldvae.ArgumentError, match=r"heads\[0\] writes one dimension at .*; check layout"):
        latent_size(heads=[("head", "interleaved")], **names).check(vae, lambda: vae.training_step(batch, 0))
    with pytest.raises(aldvae.ArgumentError, match=r"readers\[0\] reads dimension 14 .*; check start"):
        latent_size(heads=[("head", "blocks")], readers=[("decoder.0", 0)], along=["norm"]).check(
            vae, lambda: vae.training_step(batch, 0)
        )
    assert vae.latent_dim == vae.norm.num_features == 16


def test_ddp_decides_alike_in_two_processes(tmp_path: Path) -> None:
    """Runs the script beside this file, which trains with gloo on two CPU processes and writes what each found."""
    script = Path(__file__).with_name("ddp_script.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path)]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert flat(one) == flat(other)
    assert one["compressor"]["stop_latent_dim"] == len(one["weights"]["fc_mu.bias"]) < 16


def test_a_strategy_that_shards_is_refused() -> None:
    trainer = SimpleNamespace(strategy=type("FSDPStrategy", (), {})(), callbacks=[])
    with pytest.raises(aldvae.ArgumentError, match=r"strategy must be a single device or 'ddp' .*, not FSDPStrategy"):
        check_trainer(trainer)
