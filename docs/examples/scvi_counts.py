"""scvi-tools finds the latent size of simulated counts with 4 factors and 2 batches, then saves and loads the model.

Run it with `python docs/examples/scvi_counts.py`, after `pip install 'aldvae[scvi]'`. It takes about a minute.
"""

from __future__ import annotations

import tempfile

import anndata
import numpy as np
import scvi

from aldvae.integrations.scvi import LatentSize


def simulate(cells: int = 2000, genes: int = 100, factors: int = 4) -> anndata.AnnData:
    """Return counts (cells, genes) that `factors` and a batch determine, but for Poisson noise."""
    random = np.random.default_rng(0)
    batch = random.integers(0, 2, cells)
    z = random.normal(size=(cells, factors))
    rates = z @ random.normal(size=(factors, genes)) / 2 + random.normal(size=(2, genes))[batch] / 2 + 1
    adata = anndata.AnnData(random.poisson(np.exp(rates)).astype(np.float32))
    adata.obs["batch"] = [f"batch {b}" for b in batch]
    return adata


def main(epochs: int = 60, n_latent: int = 32) -> LatentSize:
    """Train for `epochs` from a size of `n_latent`."""
    scvi.settings.seed = 0
    adata = simulate()
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, n_latent=n_latent)
    size = LatentSize()
    model.train(max_epochs=epochs, accelerator="cpu", callbacks=[size], plan_kwargs={"lr": 3e-3})
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder, overwrite=True)
        loaded = scvi.model.SCVI.load(folder, adata=adata, accelerator="cpu")
    z = loaded.get_latent_representation()
    samples = loaded.posterior_predictive_sample(indices=range(5))
    print(f"latent size {size.latent_dim}; the loaded model has {z.shape[1]} and samples counts {samples.shape}")
    return size


if __name__ == "__main__":
    main()
