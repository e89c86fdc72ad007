"""Against fairseq's own HuBERT, loaded by fairseq from the same file."""

import pytest
import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils
from omegaconf import OmegaConf

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.models.student_config import student_config
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.conv_frontend import group_norm_over_valid
from distill_user_dir.modules.hubert import LAYER_INPUT, PROJECTED
from distill_user_dir.teaching.teacher import Teacher
from tests.helpers import SIZES, batch, hubert_configs, noise, shake

LENGTHS = [16000, 24000, 11111, 23999, 400, 7680]


def fairseq_hubert(path):
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([path])
    return models[0].eval(), task.cfg.normalize


def as_fairseq_feeds(audio, normalize):
    """(N,) audio as HubertDataset delivers it: (1, N)."""
    return (F.layer_norm(audio, audio.shape) if normalize else audio).unsqueeze(0)


def difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize(
    "size, options",
    [
        pytest.param("base", {}, marks=pytest.mark.slow),
        ("tiny", {"old": True}),
        pytest.param("large", {"normalize": True}, marks=pytest.mark.slow),
        ("tiny", {"normalize": True, "old": True}),
        ("tiny_large", {}),
    ],
    ids=str,
)
@torch.no_grad()
def test_every_layer_equals_fairseq(checkpoints, size, options):
    path = checkpoints(size, **options)
    theirs, normalize = fairseq_hubert(path)
    assert normalize == options.get("normalize", False)
    depth = len(theirs.encoder.layers)
    ours = Teacher.load(path, range(1, depth + 1))
    audio = noise(5678, seed=1)
    found = ours(audio.unsqueeze(0))
    source = as_fairseq_feeds(audio, normalize)
    for layer in range(1, depth + 1):
        expected, _ = theirs.extract_features(source, None, mask=False, output_layer=layer)
        assert difference(found.layers[layer], expected) < 1e-5
        through, _ = ours.model.extract_features(audio.unsqueeze(0), output_layer=layer)
        assert torch.equal(through, found.layers[layer])
    expected, _ = theirs.extract_features(source, None, mask=False)
    assert difference(ours.model.extract_features(audio.unsqueeze(0))[0], expected) < 1e-5
    assert not found.padding_mask.any() and found.padding_mask.shape == expected.shape[:2]


@pytest.mark.slow
@torch.no_grad()
def test_padding_changes_nothing_in_hubert_base(checkpoints):
    theirs, _ = fairseq_hubert(checkpoints("base"))
    ours = Teacher.load(checkpoints("base"), [1, 6, 12])
    audio, source, padded = batch([16000, 24000])
    found = ours(source, padded)
    for i, one in enumerate(audio):
        for layer in (1, 6, 12):
            expected, _ = theirs.extract_features(one.unsqueeze(0), None, mask=False, output_layer=layer)
            assert difference(found.layers[layer][i : i + 1, : expected.size(1)], expected) < 1e-4
    plain, _ = theirs.extract_features(source, padded, mask=False, output_layer=12)
    frames = found.padding_mask.logical_not().sum(1).tolist()
    assert difference(plain[0, : frames[0]], found.layers[12][0, : frames[0]]) > 0.01  # else there is nothing to test


def student_of(size, normalize):
    """An untrained student of these sizes."""
    _, task = hubert_configs(size, normalize)
    task["sample_rate"] = 16000
    cfg = dict(SIZES[size], label_rate=50, layer_map=[1, 2, 3], teacher_embed_dim=20)
    torch.manual_seed(3)
    cfg = student_config(cfg)
    return shake(StudentHubert(cfg, OmegaConf.create(task))).eval()


@pytest.mark.parametrize("size", ["tiny", "tiny_large"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", ["teacher", "student"])
@torch.no_grad()
def test_batched_equals_single(checkpoints, kind, size, normalize):
    if kind == "teacher":
        path = checkpoints(size, normalize=normalize)
        theirs, _ = fairseq_hubert(path)
        model = build_hubert(hubert_in(path)).eval()
    else:
        model = student_of(size, normalize)
    audio, source, padded = batch(LENGTHS)
    source[padded] = 7.0  # what is in the padding is nobody's business
    if not normalize:
        source[padded] = 0.0  # the CNN's own frames do reach into it, as fairseq's do
    together = model.encode(source, padded, keep=(1, 2, 3))
    for i, one in enumerate(audio):
        alone = model.encode(one.unsqueeze(0), keep=(1, 2, 3))
        frames = alone.x.size(1)
        assert together.padding_mask[i].tolist() == [t >= frames for t in range(together.x.size(1))]
        for layer in (1, 2, 3):
            assert difference(together.layers[layer][i, :frames], alone.layers[layer][0]) < 1e-4
        assert difference(together.x[i, :frames], alone.x[0]) < 1e-4
        if kind == "teacher":
            expected, _ = theirs.extract_features(as_fairseq_feeds(one, normalize), None, mask=False)
            assert difference(together.x[i : i + 1, :frames], expected) < 1e-4
        else:
            predicted = [p[0] for p in model(one.unsqueeze(0)).layers]
            for p, q in zip(model(source, padded).layers, predicted):
                assert difference(p[i, :frames], q) < 1e-4


@torch.no_grad()
def test_order_and_company_change_nothing(checkpoints):
    model = build_hubert(hubert_in(checkpoints("tiny"))).eval()
    _, source, padded = batch(LENGTHS)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    straight, mixed = model.encode(source, padded).x, model.encode(source[order], padded[order]).x
    valid = ~model.encode(source, padded).padding_mask
    assert difference(straight[order][valid[order]], mixed[valid[order]]) < 1e-5


def first_block(model, source, padded):
    """What leaves the first CNN layer in a batch."""
    seen = []
    last = model.feature_extractor.conv_layers[0][-1]
    handle = last.register_forward_hook(lambda module, args, output: seen.append(output))
    model.extract_features(source, padded, mask=False)
    handle.remove()
    return seen[0]


@torch.no_grad()
def test_valid_statistics_false_is_plain_fairseq(checkpoints):
    path = checkpoints("tiny")
    theirs, _ = fairseq_hubert(path)
    audio, source, padded = batch([8000, 16000])
    expected = first_block(theirs, source, padded)
    plain = first_block(build_hubert(hubert_in(path), valid_statistics=False).eval(), source, padded)
    assert torch.equal(plain, expected)
    valid = first_block(build_hubert(hubert_in(path), valid_statistics=True).eval(), source, padded)
    alone = first_block(theirs, audio[0].unsqueeze(0), None)
    assert difference(valid[:1, :, : alone.size(2)], alone) < 1e-5
    assert difference(plain[:1, :, : alone.size(2)], alone) > 0.1
    assert difference(valid[1], expected[1]) < 1e-5  # the longest has no padding


def test_group_norm_of_whole_utterances_is_torchs():
    norm = torch.nn.GroupNorm(6, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 50, requires_grad=True)
    same = group_norm_over_valid(norm, x, torch.tensor([50, 50]))
    assert difference(same, norm(x)) < 1e-5
    ours, theirs = (torch.autograd.grad(y.pow(3).sum(), x)[0] for y in (same, norm(x)))
    assert difference(ours, theirs) < 1e-3
    x = x.detach()
    x[1, :, 30:] = 1e4
    padded = group_norm_over_valid(norm, x, torch.tensor([50, 30]))
    assert difference(padded[1, :, :30], norm(x[1:, :, :30])[0]) < 1e-5


@torch.no_grad()
def test_truncated_teacher_gives_the_same_layers(checkpoints):
    for size in ("tiny", "tiny_large"):
        path = checkpoints(size)
        theirs, _ = fairseq_hubert(path)
        teacher = Teacher.load(path, [2, 1, 2])
        assert len(teacher.model.encoder.layers) == 2 and teacher.depth == 3
        audio = noise(16000)
        found = teacher(audio.unsqueeze(0)).layers
        assert sorted(found) == [1, 2]
        for layer in found:
            expected, _ = theirs.extract_features(audio.unsqueeze(0), None, mask=False, output_layer=layer)
            assert difference(found[layer], expected) < 1e-5


def test_teacher_has_only_its_layers(checkpoints):
    with pytest.raises(ValueError, match=r"layer_map asks for teacher layer 4, but .* has layers 1 to 3"):
        Teacher.load(checkpoints("tiny"), [1, 4])


@pytest.mark.parametrize("size", ["tiny", "tiny_large"])
@torch.no_grad()
def test_what_comes_before_the_first_layer_equals_fairseqs(checkpoints, size):
    path = checkpoints(size)
    theirs, _ = fairseq_hubert(path)
    audio = noise(8000)[None]
    expected = theirs.extract_features(audio, None, mask=False, ret_conv=True)[0]
    for front in (PROJECTED, LAYER_INPUT):
        ours = Teacher(build_hubert(hubert_in(path)), [2], front=front).truncate()
        alone = ours(audio, layers=False, front=True)
        assert alone.layers.keys() == {front}
        both = ours(audio, front=True)
        assert both.layers.keys() == {front, 2} and torch.equal(both.layers[front], alone.layers[front])
        if front == LAYER_INPUT:
            expected = expected + theirs.encoder.pos_conv(expected.transpose(1, 2)).transpose(1, 2)
            expected = expected if theirs.encoder.layer_norm_first else theirs.encoder.layer_norm(expected)
        assert difference(alone.layers[front], expected) < 1e-5
    only = Teacher(build_hubert(hubert_in(path)), [], front=PROJECTED).truncate()
    assert len(only.model.encoder.layers) == 0
    assert torch.equal(only(audio, layers=False, front=True).layers[PROJECTED], ours.model.project(audio).x)
