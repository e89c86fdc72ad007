import pytest
import torch
from fairseq import tasks
from omegaconf import OmegaConf

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.teaching.teacher import load_whole
from tests.commands import listed
from tests.helpers import TINY_STUDENT, USER_DIR, noise, recipe


def composed(teacher, name, student, *overrides):
    paths = [f"common.user_dir={USER_DIR}", "task.data=/none", "checkpoint.save_dir=/none"]
    return recipe("distill", name, f"student={student}", f"task.teacher_path={teacher}", *paths, *overrides)


def built(teacher, name, student, *overrides):
    """(task, model) of a recipe, as fairseq builds them."""
    cfg = composed(teacher, name, student, *overrides)
    task = tasks.setup_task(cfg.task)
    return task, task.build_model(cfg.model)


def tiny(teacher, **overrides):
    overrides = {f"model.{key}": value for key, value in overrides.items()}
    return built(teacher, "laptop", "demo", *listed(dict(TINY_STUDENT, **overrides)))


def size_by_hand(layers, width, ffn):
    """Parameters of a HuBERT of HuBERT Base's CNN and positional convolution, without heads."""
    cnn = 512 * 1 * 10 + 2 * 512 + 4 * 512 * 512 * 3 + 2 * 512 * 512 * 2  # convolutions without bias, a group norm
    projection = 2 * 512 + 512 * width + width  # LayerNorm, Linear
    position = width * (width // 16) * 128 + 128 + width  # 16 groups; weight norm: a gain for each of 128 taps; bias
    attention, feed_forward, norms = 4 * (width * width + width), 2 * width * ffn + ffn + width, 2 * 2 * width
    mask_embedding, norm = width, 2 * width
    return cnn + projection + position + mask_embedding + norm + layers * (attention + feed_forward + norms)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "student, millions, shape, heads",
    [
        ("deep_thin", 22.94, (12, 480, 480), 12 * (480 * 768 + 768)),
        ("shallow_wide", 23.49, (2, 768, 3072), 768 * 2304 + 2304 + 3 * (768 * 768 + 768)),
    ],
)
def test_recipes_have_the_papers_sizes(checkpoints, student, millions, shape, heads):
    path = checkpoints("base")
    task, model = built(path, "librispeech_960h", student)
    assert parameters(model.heads) == heads
    whole = parameters(model)
    model.remove_pretraining_modules()
    assert parameters(model) == size_by_hand(*shape) == whole - heads
    assert abs(parameters(model) / 1e6 - millions) < 0.01
    assert task.teacher.depth == 12 and len(task.teacher.model.encoder.layers) == 12
    check_initialisation(model, load_whole(path), from_teacher=student == "shallow_wide")


def check_initialisation(student, teacher, from_teacher):
    """The first layers, CNN and positional convolution are the teacher's, or no matrix of the student is."""
    theirs = teacher.state_dict()
    same = {k for k, v in student.state_dict().items() if v.shape == theirs[k].shape and torch.equal(v, theirs[k])}
    if from_teacher:
        assert set(student.state_dict()) - same == {"mask_emb"}
    else:
        assert not {key for key in same if theirs[key].dim() > 1}


def test_named_layers_start_from_the_teacher(checkpoints):
    path = checkpoints("tiny")
    sizes = {"conv_feature_layers": "'[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2'", "encoder_embed_dim": 48}
    task, model = tiny(path, encoder_ffn_embed_dim=96, init_layers="[3,1]", **sizes)
    teacher = load_whole(path).encoder.layers
    for own, other, same in ((0, 2, True), (1, 0, True), (2, 2, False), (2, 1, False), (0, 0, False)):
        pairs = zip(model.encoder.layers[own].parameters(), teacher[other].parameters())
        assert all(torch.equal(a, b) for a, b in pairs) == same
    assert all(p.requires_grad for p in model.encoder.layers.parameters())
    with torch.no_grad():
        model.encoder.layers[0].fc1.weight.add_(1)  # no memory is shared
    assert torch.equal(task.teacher.model.encoder.layers[2].fc1.weight, teacher[2].fc1.weight)


@pytest.mark.parametrize(
    "overrides, told",
    [
        ({"init_layers": "[1]"}, r"model.init_layers: `.*` is \(48.*\) in the student and \(96.*\) in"),
        ({"init_pos_conv": "true"}, r"model.init_pos_conv: `.*` is \(.*\) in the student and \(.*\) in"),
        ({"init_feature_extractor": "true"}, r"model.init_feature_extractor: `.*` is \(24.*\) in the student and \(32"),
        ({"init_layers": "[1,2,3,1]"}, r"model.init_layers=\[1, 2, 3, 1\]: the student has only 3 layers"),
        ({"init_layers": "[4]"}, r"model.init_layers=\[4\]: .* has layers 1 to 3"),
        ({"layer_map": "[1,2]"}, r"model.layer_map=\[1, 2\] has 2 entries, but the student has 3 layers"),
        ({"layer_map": "[0,0,0]"}, r"model.layer_map=\[0, 0, 0\]: it names no teacher layer"),
        ({"layer_map": "[]"}, r"model.layer_map=\[\]: it names no teacher layer"),
        ({"layer_map": "[1,2,-3]"}, r"model.layer_map=\[1, 2, -3\]: .* counted from 1"),
        ({"layer_map": "[1,2,4]"}, r"model.layer_map asks for teacher layer 4, but .* has layers 1 to 3"),
        ({"layer_map": "[0,1]", "prediction_head": "expand-last"}, r"model.layer_map=\[0, 1\]: 0 has no meaning"),
        ({"encoder_embed_dim": 30, "conv_pos_groups": 2}, r"encoder_embed_dim 30 .* encoder_attention_heads 4"),
        ({"conv_pos_groups": 3}, r"encoder_embed_dim 32 is not a multiple of conv_pos_groups 3"),
        ({"+teacher_embed_dim": 50}, r"model.teacher_embed_dim=50, but .* has 48"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_in_one_line(checkpoints, overrides, told):
    overrides = {("+model." if key[0] == "+" else "model.") + key.lstrip("+"): v for key, v in overrides.items()}
    with pytest.raises(ValueError, match=told) as error:
        built(checkpoints("tiny"), "laptop", "demo", *listed(dict(TINY_STUDENT, **overrides)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "head, layer_map, targets", [("layer-wise", "[0,3,1]", [3, 1]), ("expand-last", "[3,1,2,1]", [3, 1, 2, 1])]
)
def test_heads_predict_in_the_teachers_width(checkpoints, head, layer_map, targets):
    _, model = tiny(checkpoints("tiny"), prediction_head=head, layer_map=layer_map)
    predicted = model(noise(8000).unsqueeze(0))
    assert predicted.targets == targets
    assert [tuple(layer.shape) for layer in predicted.layers] == [(1, 24, 48)] * len(targets)


@torch.no_grad()
def test_heads_by_hand(checkpoints):
    audio = noise(8000).unsqueeze(0)
    _, model = tiny(checkpoints("tiny"), layer_map="[0,3,1]")
    layers = model.eval().encode(audio, keep=(1, 2, 3)).layers
    first, second = model.heads.projections
    for found, layer, linear in zip(model(audio).layers, (2, 3), (first, second)):
        assert torch.allclose(found, layers[layer] @ linear.weight.T + linear.bias, atol=1e-5)
    _, model = tiny(checkpoints("tiny"), prediction_head="expand-last", layer_map="[2,3]")
    last = model.eval().encode(audio, keep=(3,)).layers[3]
    x = last @ model.heads.expand.weight.T + model.heads.expand.bias
    x = 0.5 * x * (1 + torch.erf(x / 2**0.5))
    for part, found in enumerate(model(audio).layers):
        expected = x[..., 32 * part : 32 * part + 32] @ model.heads.split.weight[part] + model.heads.split.bias[part]
        assert torch.allclose(found, expected, atol=1e-5)


def test_teacher_may_be_a_student(checkpoints, tmp_path):
    _, model = tiny(checkpoints("tiny"), prediction_head="expand-last", layer_map="[1,2]")
    assert isinstance(model, StudentHubert)
    cfg = composed(checkpoints("tiny"), "laptop", "demo", *listed(TINY_STUDENT))
    cfg.model.update(prediction_head="expand-last", layer_map=[1, 2], teacher_embed_dim=48)
    configs = {key: OmegaConf.to_container(cfg[key], enum_to_str=True) for key in ("model", "task")}
    for config in configs.values():
        for key in [key for key, value in config.items() if isinstance(value, str) and value.startswith("${")]:
            config[key] = None
    path = str(tmp_path / "student.pt")
    torch.save({"cfg": configs, "model": model.state_dict()}, path)
    again = build_hubert(hubert_in(path)).eval()
    audio = noise(8000).unsqueeze(0)
    assert torch.equal(again.encode(audio).x, model.eval().encode(audio).x)
    task, _ = tiny(path, layer_map="[0,1,3]")
    # a teacher is folded: the same sums in another order
    assert torch.allclose(task.teacher(audio).layers[3], model.encode(audio).x, rtol=0, atol=1e-5)
