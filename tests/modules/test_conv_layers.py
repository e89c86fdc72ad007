import time

import pytest
import torch

from distill_user_dir.modules.conv_layers import num_frames, parse_conv_layers

# The values of conv_feature_layers in fairseq's own configurations, examples and released checkpoints.
KNOWN = [
    "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
    "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
    "[(512, 10, 5), (512, 8, 4)] + [(512, 4, 2)] * 3 + [(512, 1, 1)] * 2",
    "[(512, 10, 5), (512, 8, 4), (512, 4, 2), (512, 4, 2), (512, 4, 2)]",
    "[(64, 10, 5)] + [(128, 3, 2)] * 4 + [(512,2,2)] * 2",
    "2 * [(8, 3, 2)] + [(4 + 4, 3, 1 * 2)]",
]
HUBERT = KNOWN[0]


@pytest.mark.parametrize("text", KNOWN)
def test_same_as_python(text):
    assert parse_conv_layers(text) == eval(text)


def test_result_can_be_parsed_again():
    layers = [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    assert parse_conv_layers(HUBERT) == layers == parse_conv_layers(str(layers))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch {}')",
        "[(512,10,5)] + [__import__('os').system('touch {}')]",
        "[(512, 10, open('{}', 'w').write('x'))]",
        "[(1, 1, i) for i in [open('{}', 'w').close()]]",
        "(lambda: open('{}', 'w'))()",
        "[(1, 1, 1)] if open('{}', 'w') else 0",
        "[(512,10,5)][open('{}', 'w').write('1')]",
    ],
)
def test_runs_no_code(text, tmp_path):
    target = tmp_path / "ran"
    with pytest.raises(ValueError, match="conv_feature_layers"):
        parse_conv_layers(text.format(target))
    assert not target.exists()


NESTED = "1"
for _ in range(12):
    NESTED = f"[{NESTED}] * 64"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "512",
        "[512]",
        "[(512,10)]",
        "[(512,10,5,1)]",
        "[(512,10,0)]",
        "[(512,10,-5)]",
        "[(512,10,5.0)]",
        "[(512,10,'5')]",
        "[(512,10,True)]",
        "[(512,10,5)] * [(512,10,5)]",
        "[(512,10,5)] + 1",
        "[(512,10,5)",
        "[(512,10,5)]\0",
        "[(512,10,2**3)]",
        "[(512,10,99999999999999999999)]",
        "[(512,10,5)] * 1000000000",
        "[(65000 * 65000 * 65000, 10, 5)]",
        "[(1,1,1)]" + " * 60" * 100,
        "[" * 400 + "]" * 400,
        "[" * 150 + "]" * 150,
        "+".join(["1"] * 490),
        " " * 2000 + HUBERT,
        NESTED,
        None,
        7,
        [(512, 10, 5)],
    ],
    ids=lambda text: str(text)[:30],
)
def test_refuses_the_rest_at_once(text):
    start = time.time()
    with pytest.raises(ValueError, match="conv_feature_layers") as error:
        parse_conv_layers(text)
    assert time.time() - start < 2
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def conv_stack_length(length, layers):
    """Frames that torch's own convolutions give."""
    x = torch.zeros(1, 1, length)
    for _, kernel, stride in layers:
        if x.size(2) < kernel:  # where torch raises
            return 0
        x = torch.nn.functional.conv1d(x, torch.zeros(1, 1, kernel), stride=stride)
    return x.size(2)


@pytest.mark.parametrize("text", [HUBERT, "[(4,10,5)] + [(4,3,2)] * 2", "[(8,3,1), (8,7,3)]"])
def test_frames_are_those_of_real_convolutions(text):
    layers = eval(text)
    lengths = range(0, 2001)
    expected = [conv_stack_length(length, layers) for length in lengths]
    assert num_frames(torch.tensor(lengths), layers).tolist() == expected


def test_frames_of_hubert_by_formula():
    lengths = torch.arange(0, 40000)
    expected = [max(0, (n - 400) // 320 + 1) for n in range(40000)]
    assert num_frames(lengths, parse_conv_layers(HUBERT)).tolist() == expected
