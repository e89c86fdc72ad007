import importlib.util
import os

import fairseq
import numpy as np
import pytest
import soundfile
import torch
from fairseq.data.dictionary import Dictionary
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf
from scipy.signal import savgol_filter

from manifests import features, tsv

KMEANS = os.path.join(os.path.dirname(fairseq.__file__), "examples", "hubert", "simple_kmeans")


def fairseq_script(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(KMEANS, f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kaldi_mfcc(samples):
    """Kaldi's MFCC written out: (N,) -> (T, 13)."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    mel = 1127 * np.log(1 + np.arange(256) * 16000 / 512 / 700)
    edges = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700), 25)
    rising = (mel - edges[:-2, None]) / (edges[1] - edges[0])
    falling = (edges[2:, None] - mel) / (edges[1] - edges[0])
    filters = np.maximum(np.minimum(rising, falling), 0)
    dct = np.sqrt(2 / 23) * np.cos(np.pi / 23 * np.outer(np.arange(13), np.arange(23) + 0.5))
    dct[0] = np.sqrt(1 / 23)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    result = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512)[:256]) ** 2
        result.append(lifter * (dct @ np.log(np.maximum(filters @ power, np.finfo(np.float32).eps))))
    return np.array(result)


@pytest.fixture
def samples():
    time = np.arange(8123) / 16000
    noise = np.random.RandomState(0).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * 300 * time * (1 + time)) + 0.02 * noise).astype(np.float32)


def test_mfcc_is_kaldis(samples):
    found = features.mfcc(samples)
    assert found.shape == ((8123 - 400) // 160 + 1, 39) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, :13], kaldi_mfcc(samples), atol=2e-2, rtol=1e-3)


def test_deltas_are_slopes_of_a_line_fit(samples):
    # the slope of a least-squares line through 5 frames is Savitzky and Golay's first derivative of order 1
    found = features.mfcc(samples).astype(np.float64)
    once = savgol_filter(found[:, :13], 5, 1, deriv=1, axis=0, mode="nearest")
    twice = savgol_filter(once, 5, 1, deriv=1, axis=0, mode="nearest")
    np.testing.assert_allclose(found[:, 13:26], once, atol=1e-4)
    np.testing.assert_allclose(found[:, 26:], twice, atol=1e-4)


def test_deltas_by_hand():
    ramp = np.arange(6, dtype=np.float32)[:, None] * np.array([[1.0, -2.0]], dtype=np.float32)
    # at the start: (1 * (x1 - x0) + 2 * (x2 - x0)) / 10 = 0.5
    expected = np.array([0.5, 0.8, 1.0, 1.0, 0.8, 0.5])
    np.testing.assert_allclose(features.deltas(ramp), np.stack([expected, -2 * expected], axis=1), atol=1e-6)


@pytest.mark.parametrize("total, nshard", [(10, 1), (10, 3), (7, 7), (101, 8)])
def test_shards_are_fairseqs(total, nshard):
    theirs = fairseq_script("feature_utils").get_shard_range
    found = [features.shard_of(total, nshard, rank) for rank in range(nshard)]
    assert found == [theirs(total, nshard, rank) for rank in range(nshard)]
    assert [end for _, end in found[:-1]] == [start for start, _ in found[1:]]


@pytest.mark.parametrize("total, nshard, rank", [(10, 2, 2), (10, 2, -1), (1, 3, 0)])
def test_impossible_shards(total, nshard, rank):
    with pytest.raises(ValueError, match="shard"):
        features.shard_of(total, nshard, rank)


@pytest.fixture
def data(libri, tmp_path):
    tsv.make_manifest(str(libri), str(tmp_path / "data"), progress=False)
    return tmp_path / "data"


def test_fairseq_reads_what_is_written(data, tmp_path, libri):
    for rank in ("0", "1"):
        assert features.main([str(data), "train", str(tmp_path / "feat"), "--nshard", "2", "--rank", rank]) == 0
    names = [f"train_{rank}_2.{ending}" for rank in (0, 1) for ending in ("len", "npy")]
    assert sorted(os.listdir(tmp_path / "feat")) == names
    found = []
    for rank in (0, 1):
        iterate, count = fairseq_script("dump_km_label").get_feat_iterator(str(tmp_path / "feat"), "train", 2, rank)
        assert count == 3
        found.extend(np.array(part) for part in iterate())
    lines = (data / "train.tsv").read_text().splitlines()[1:]
    for part, line in zip(found, lines):
        samples, _ = soundfile.read(str(libri / line.split("\t")[0]), dtype="float32")
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, features.mfcc(samples))


def test_interrupted_leaves_nothing_that_looks_whole(data, tmp_path):
    feat = tmp_path / "feat"
    features.dump(str(data / "train.tsv"), str(feat), features.mfcc, progress=False)
    expected = {path.name: path.read_bytes() for path in feat.iterdir()}
    done = []

    def interrupted(samples):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(samples)
        return features.mfcc(samples)

    with pytest.raises(KeyboardInterrupt):
        features.dump(str(data / "train.tsv"), str(feat), interrupted, progress=False)
    assert all(path.name.endswith(".tmp") for path in feat.iterdir())
    features.dump(str(data / "train.tsv"), str(feat), features.mfcc, progress=False)
    assert {path.name: path.read_bytes() for path in feat.iterdir()} == expected


def test_a_file_that_changed_is_named(data, libri, tmp_path, audio, capsys):
    changed = sorted(libri.rglob("*.flac"))[2]
    audio(str(changed), samples=5000)
    assert features.main([str(data), "train", str(tmp_path / "feat")]) == 1
    told = capsys.readouterr().err
    assert f"{changed}: 5000 samples" in told and "in the manifest" in told


def test_hubert_needs_its_options(data, tmp_path):
    with pytest.raises(SystemExit):
        features.main([str(data), "train", str(tmp_path / "feat"), "--feature", "hubert", "--layer", "1"])


@pytest.fixture
def tiny_hubert(tmp_path):
    """A random HuBERT of 3 layers of 16, and its checkpoint."""
    torch.manual_seed(0)
    sizes = {"encoder_layers": 3, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2}
    layers = "[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2"
    model_cfg = OmegaConf.structured(HubertConfig(final_dim=8, conv_feature_layers=layers, conv_pos=16, **sizes))
    model_cfg.conv_pos_groups, model_cfg.label_rate = 4, 50.0
    task_cfg = OmegaConf.structured(HubertPretrainingConfig(data="/nowhere", labels=["km"], label_rate=50.0))
    dictionary = Dictionary()
    for cluster in range(5):
        dictionary.add_symbol(str(cluster))
    model = HubertModel(model_cfg, task_cfg, [dictionary]).eval()
    configs = {"model": OmegaConf.to_container(model_cfg, enum_to_str=True)}
    configs["task"] = OmegaConf.to_container(task_cfg, enum_to_str=True)
    configs["model"]["_name"] = "hubert"
    path = tmp_path / "hubert.pt"
    torch.save({"cfg": configs, "args": None, "model": model.state_dict()}, str(path))
    return model, path


def test_hubert_features_are_fairseqs(tiny_hubert, data, libri, tmp_path):
    model, path = tiny_hubert
    options = ["--feature", "hubert", "--checkpoint", str(path), "--layer", "2"]
    assert features.main([str(data), "train", str(tmp_path / "feat"), *options]) == 0
    found = np.load(str(tmp_path / "feat" / "train_0_1.npy"))
    expected, lengths = [], []
    for line in (data / "train.tsv").read_text().splitlines()[1:]:
        samples, _ = soundfile.read(str(libri / line.split("\t")[0]), dtype="float32")
        with torch.no_grad():
            layer, _ = model.extract_features(torch.from_numpy(samples)[None], None, mask=False, output_layer=2)
        expected.append(layer[0].numpy())
        lengths.append((len(samples) - 400) // 320 + 1)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4)
    assert [int(line) for line in (tmp_path / "feat" / "train_0_1.len").read_text().splitlines()] == lengths


def test_no_such_layer(tiny_hubert, data, tmp_path, capsys):
    options = ["--feature", "hubert", "--checkpoint", str(tiny_hubert[1]), "--layer", "4"]
    assert features.main([str(data), "train", str(tmp_path / "feat"), *options]) == 1
    assert "hubert.pt" in capsys.readouterr().err
