"""`Compressor` on the autoencoder of diffusers, built from a configuration, without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed: make test-integrations")

from diffusers import AutoencoderKL

import aldvae

pytestmark = pytest.mark.filterwarnings("ignore")
CHANNELS = 8


def autoencoder(**settings: Any) -> Any:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=CHANNELS,
        norm_num_groups=2,
        mid_block_add_attention=False,
        **settings,
    )


def loss(vae: Any, x: torch.Tensor) -> Any:
    posterior = vae.encode(x).latent_dist
    recon = (vae.decode(posterior.sample()).sample - x).square().sum((1, 2, 3)).mean()
    return recon + posterior.kl().mean()


def train(vae: Any, heads: list[Any], readers: list[Any], rule: aldvae.ConsolidatingRule | aldvae.RobustRule) -> Any:
    """Check the slots, then train for 20 epochs of one batch."""
    x, optimizer = torch.randn(4, 3, 8, 8), torch.optim.AdamW(vae.parameters(), lr=3e-3)
    compressor = aldvae.Compressor(
        heads=heads,
        readers=readers,
        optimizer=optimizer,
        model=vae,
        rule=rule,
        epochs=20,
        on_resize=lambda n: vae.register_to_config(latent_channels=n),
    )
    compressor.check(lambda: loss(vae, x))
    for _ in range(20):
        optimizer.zero_grad()
        loss(vae, x).backward()
        optimizer.step()
        with torch.no_grad(), compressor.watch():
            recon = (vae(x).sample - x).square().sum((1, 2, 3)).mean()
        compressor.step(recon_loss=float(recon))
    return compressor


def test_the_channels_between_two_pointwise_convolutions_are_found() -> None:
    vae = autoencoder()
    heads, readers = [aldvae.Head(vae.quant_conv, "blocks")], [vae.post_quant_conv]
    compressor = train(vae, heads, readers, aldvae.ConsolidatingRule())
    n = compressor.latent_dim
    assert compressor.found
    assert 2 <= n < CHANNELS
    assert vae.encode(torch.randn(1, 3, 8, 8)).latent_dist.mean.shape == (1, n, 4, 4)
    assert vae.decode(torch.randn(2, n, 4, 4)).sample.shape == (2, 3, 8, 8)


def test_a_model_without_them_is_saved_and_loaded_in_its_new_size(tmp_path: Path) -> None:
    """Its heads are the last convolution of the encoder, its reader the first of the decoder."""
    vae = autoencoder(use_quant_conv=False, use_post_quant_conv=False)
    heads, readers = [aldvae.Head(vae.encoder.conv_out, "blocks")], [vae.decoder.conv_in]
    train(vae, heads, readers, aldvae.RobustRule())
    aldvae.remove_neurons(heads, readers, [0])
    n = vae.decoder.conv_in.in_channels
    vae.register_to_config(latent_channels=n)
    vae.save_pretrained(tmp_path)
    loaded: Any = AutoencoderKL.from_pretrained(tmp_path)
    z = torch.randn(2, n, 8, 8)
    assert loaded.config.latent_channels == n < CHANNELS
    assert torch.equal(loaded.decode(z).sample, vae.decode(z).sample)
