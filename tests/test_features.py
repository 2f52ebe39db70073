from __future__ import annotations

import hashlib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score, inception

from aldvae.config.sections import FID_FEATURES
from aldvae.data.dataset import select_frames
from aldvae.metrics.features import FEATURES, FeatureConfig, load_features
from aldvae.metrics.inception import load_inception
from aldvae.utils.errors import ConfigError
from tests.conftest import digits, served

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write seeded random weights for pytorch-fid's network, because the original weights would need a download."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    states: list[dict[str, torch.Tensor]] = []
    torch.manual_seed(0)
    with (
        patch.object(inception, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(torch.nn.Module, "load_state_dict", lambda self, _: states.append(self.state_dict())),
    ):
        inception.fid_inception_v3()
    torch.save(states[0], path)
    return path


def test_the_features_are_those_of_the_options() -> None:
    assert tuple(FEATURES) == FID_FEATURES


@pytest.mark.parametrize("with_openvino", [False, True])
def test_inception_features_equal_those_of_pytorch_fid(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_openvino: bool
) -> None:
    random = np.random.default_rng(0)
    gray = random.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    files = []
    for i, image in enumerate(gray):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image).save(files[-1])
    state = torch.load(weights, weights_only=True)
    with patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        theirs = inception.InceptionV3([3])
    expected = fid_score.get_activations(files, theirs, batch_size=6, num_workers=0)

    if with_openvino:
        pytest.importorskip("openvino")
    else:
        monkeypatch.setattr("aldvae.metrics.inception.find_spec", lambda _: None)
    load_inception.cache_clear()
    features = load_features("inception", digits(), FeatureConfig(tmp_path, CPU, weights))
    load_inception.cache_clear()
    assert features is not None
    assert features.identity.endswith("-openvino") == with_openvino
    ours = features(torch.from_numpy(gray).unsqueeze(1).float() / 255)
    assert ours.shape == (6, 2048)
    error = np.linalg.norm(ours.numpy() - expected) / np.linalg.norm(expected)
    assert error < 1e-5
    one_by_one = torch.cat([features(image.expand(1, 1, 28, 28).float() / 255) for image in torch.from_numpy(gray)])
    torch.testing.assert_close(one_by_one, ours, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("with_openvino", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_half_precision_only_on_request(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_openvino: bool
) -> None:
    if not with_openvino:
        monkeypatch.setattr("aldvae.metrics.inception.find_spec", lambda _: None)
    load_inception.cache_clear()
    image = torch.rand(1, 3, 28, 28)
    exact = load_features("inception", digits(), FeatureConfig(tmp_path, CPU, weights))
    half = load_features("inception", digits(), FeatureConfig(tmp_path, CPU, weights, "bfloat16"))
    load_inception.cache_clear()
    assert exact is not None
    assert half is not None
    assert half.identity != exact.identity
    error = float((half(image) - exact(image)).norm() / exact(image).norm())
    assert 1e-5 < error < 0.05


def test_missing_damaged_and_other_networks_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--inception-weights .* does not exist"):
        load_inception(tmp_path / "missing.pth", CPU)
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="is damaged"):
        load_inception(damaged, CPU)
    other = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), other)
    with pytest.raises(ConfigError, match="does not fit pytorch-fid's"):
        load_inception(other, CPU)


def test_without_weights_the_error_says_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(inception, "FID_WEIGHTS_URL", "http://127.0.0.1:9/weights-6726825d.pth")
    with pytest.raises(ConfigError, match=r"put the file at .*checkpoints/weights-6726825d\.pth"):
        load_inception(None, CPU)
    path = tmp_path / "checkpoints" / "weights-6726825d.pth"
    path.write_bytes(b"other content")
    with pytest.raises(ConfigError, match=r"is damaged .*6726825d"):
        load_inception(None, CPU)


def test_the_original_weights_are_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    name = f"weights-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_bytes(weights.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("aldvae.metrics.inception.find_spec", lambda _: None)
    with served(tmp_path / "source") as address:
        monkeypatch.setattr(inception, "FID_WEIGHTS_URL", f"{address}/{name}")
        load_inception.cache_clear()
        _, identity = load_inception(None, CPU)
    assert (tmp_path / "hub" / "checkpoints" / name).read_bytes() == weights.read_bytes()
    load_inception.cache_clear()
    assert load_inception(None, CPU)[1] == identity
    load_inception.cache_clear()


def test_classifier_is_trained_once_and_the_same_each_time(tmp_path: Path) -> None:
    data = digits()
    first = load_features("classifier", data, FeatureConfig(tmp_path / "a", CPU))
    files = list((tmp_path / "a").rglob("*.safetensors"))
    written = [file.stat().st_mtime_ns for file in files]
    again = load_features("classifier", data, FeatureConfig(tmp_path / "a", CPU))
    elsewhere = load_features("classifier", data, FeatureConfig(tmp_path / "b", CPU))
    assert first is not None
    assert again is not None
    assert elsewhere is not None
    assert [file.stat().st_mtime_ns for file in files] == written
    assert first.identity == again.identity == elsewhere.identity
    images = data.validation.x[:50].float() / 255
    assert torch.equal(first(images), elsewhere(images))
    assert first(images).shape == (50, 64)
    assert "9" in first.description, first.description


def test_a_damaged_classifier_is_trained_again(tmp_path: Path) -> None:
    data = digits(200)
    first = load_features("classifier", data, FeatureConfig(tmp_path, CPU))
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    again = load_features("classifier", data, FeatureConfig(tmp_path, CPU))
    assert first is not None
    assert again is not None
    assert again.identity == first.identity


def test_another_subset_gets_its_own_classifier(tmp_path: Path) -> None:
    for limit in (200, 201):
        load_features("classifier", digits(limit), FeatureConfig(tmp_path, CPU))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_features_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    data = digits(200)
    features = load_features("classifier", data, FeatureConfig(tmp_path, CPU))
    assert features is not None
    images = data.validation.x.float() / 255
    one_by_one = torch.cat([features(image) for image in images.split(1)])
    torch.testing.assert_close(one_by_one, features(images), rtol=1e-4, atol=1e-5)


def test_pca_features_are_the_leading_components(tmp_path: Path) -> None:
    data = digits()
    features = load_features("pca", data, FeatureConfig(tmp_path, CPU))
    assert features is not None
    images = data.validation.x.float() / 255
    projected = features(images)
    train = data.train.x.float().flatten(1) / 255
    # All 64 components of 8 x 8 images are a rotation, which keeps distances.
    torch.testing.assert_close(
        projected.norm(dim=1), (images.flatten(1) - train.mean(0)).norm(dim=1), atol=1e-4, rtol=1e-4
    )
    variances = features(data.train.x.float() / 255).var(dim=0)
    assert bool((variances[:-1] >= variances[1:] - 1e-5).all())


def test_each_video_contributes_one_frame_at_a_position_that_moves_on() -> None:
    video = torch.arange(5 * 3, dtype=torch.float32).reshape(5, 1, 3, 1, 1)
    assert select_frames(video).flatten().tolist() == [0, 4, 8, 9, 13]
    assert select_frames(video).shape == (5, 1, 1, 1)
