"""Runs that an earlier version started resume from their checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch

import aldvae
from aldvae.compression.rules.robust import Measurement, RobustRule, RobustState
from tests.test_robust import OwnVAE, using_all

# A state in a checkpoint from before its fields were renamed; the removal of 2 of 8 dimensions is on trial.
OLD_STATE: dict[str, Any] = {
    "history": [
        {"age": 1, "loss": 150.558, "paying": 8, "rate": 15.98},
        {"age": 2, "loss": 125.658, "paying": 8, "rate": 15.98},
        {"age": 3, "loss": 117.225, "paying": 8, "rate": 15.98},
        {"age": 4, "loss": 113.158, "paying": 8, "rate": 15.98},
        {"age": 5, "loss": 110.558, "paying": 8, "rate": 15.98},
        {"age": 6, "loss": 108.991, "paying": 8, "rate": 15.98},
        {"age": 7, "loss": 107.108, "paying": 6, "rate": 12.0},
    ],
    "wasted": 3,
    "before_trial": 8,
    "too_small": 4,
    "prunes": False,
}


def test_reads_a_state_whose_fields_have_their_old_names() -> None:
    rule = RobustRule()
    state = rule.restore(OLD_STATE)
    assert state.history[0] == Measurement(age=1, loss=150.558, n_informative=8, rate=15.98)
    assert state == RobustState(state.history, rejected_epochs=3, before_trial=8, too_small=4, self_pruning=False)
    assert rule.restore({**OLD_STATE, "prunes": True}).self_pruning
    # The state is written with the new names, which are read as well.
    assert rule.restore(json.loads(json.dumps(asdict(state)))) == state
    for epoch, loss in ((11, 120.0), (12, 119.0)):
        state, decision = rule.adapt(state, epoch, 6, {"recon_loss": loss}, [2.0] * 6)
    assert decision is not None
    assert (decision.undo, decision.latent_dim) == (True, 8)
    assert decision.reason.startswith("6 cost ")
    assert state.rejected_epochs == 6


def test_a_compressor_resumes_from_a_checkpoint_with_the_old_names() -> None:
    def compressor_of(model: OwnVAE) -> aldvae.Compressor:
        optimizer = torch.optim.Adam(model.parameters())
        layers: dict[str, Any] = {"heads": [aldvae.Head(model.heads, "blocks")], "readers": [model.decoder[0]]}
        return aldvae.Compressor(**layers, optimizer=optimizer, rule=RobustRule())

    model = OwnVAE(6, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compressor = compressor_of(model)
    for epoch in range(1, 8):
        recon_loss, kl = using_all(8)(compressor.latent_dim, epoch)
        compressor.step(recon_loss=recon_loss, kl=kl)
    state = compressor.state_dict()
    assert compressor.latent_dim == 6
    assert set(state) == {"epoch", "neurons", "stop_epoch", "stop_latent_dim", "answer", "rule", "before"}
    resumed = OwnVAE(6, 8)
    again = compressor_of(resumed)
    del state["answer"]  # new in version 0.2.0
    again.load_state_dict({**state, "rule": {**OLD_STATE, "wasted": 0}})
    resumed.load_state_dict(model.state_dict())
    for loss in (120.0, 119.0):
        again.step(recon_loss=loss, kl=[2.0] * 6)
    # The removal on trial is undone, and a smaller one follows.
    assert again.neurons == [0, 1, 2, 3, 4, 5, 6]
    assert torch.equal(resumed.get_parameter("decoder.0.weight"), before["decoder.0.weight"][:, :7])
