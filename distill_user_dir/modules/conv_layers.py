"""fairseq's `conv_feature_layers` string, read without evaluating it, and the frames that such a CNN gives."""

import ast
import operator
from typing import List, Tuple

from torch import Tensor

from distill_user_dir.messages import quoted

ConvLayers = List[Tuple[int, int, int]]

MAX_TEXT, MAX_LAYERS, MAX_SIZE = 1000, 64, 65536


def _value(node: ast.AST):
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return _bounded(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Mult) and isinstance(left, list) != isinstance(right, list):
            items, times = (left, right) if isinstance(left, list) else (right, left)
            if len(items) * times > MAX_LAYERS:
                raise ValueError(f"more than {MAX_LAYERS} layers")
            return items * times
        both_lists = isinstance(left, list) and isinstance(right, list)
        if isinstance(left, list) != isinstance(right, list) or (both_lists and isinstance(node.op, ast.Mult)):
            raise ValueError("a list and a number can only be multiplied, two lists only added")
        return _bounded((operator.add if isinstance(node.op, ast.Add) else operator.mul)(left, right))
    raise ValueError(f"{type(node).__name__} is not allowed")


def _bounded(value):
    if isinstance(value, int) and value > MAX_SIZE:
        raise ValueError(f"{value} is more than {MAX_SIZE}")
    if isinstance(value, list) and len(value) > MAX_LAYERS:
        raise ValueError(f"more than {MAX_LAYERS} layers")
    return value


def parse_conv_layers(text: str) -> ConvLayers:
    """`"[(512,10,5)] + [(512,3,2)] * 4"` -> [(channels, kernel, stride), ...].

    fairseq passes this string, which comes out of a checkpoint, to `eval`. Here only lists, tuples, positive
    integers, + and * are understood, within bounds; anything else is a ValueError.
    """
    try:
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise ValueError(f"not a string of at most {MAX_TEXT} characters")
        layers = _value(ast.parse(text.strip(), mode="eval").body)
        if not isinstance(layers, list) or not layers:
            raise ValueError("not a list of layers")
        for number, layer in enumerate(layers, 1):
            if not isinstance(layer, list) or len(layer) != 3 or not all(type(n) is int and n > 0 for n in layer):
                # not shown: nested repetitions are small in memory and endless in print
                raise ValueError(f"layer {number} is not (channels, kernel, stride)")
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"conv_feature_layers {quoted(text)}: {error}") from None
    return [(channels, kernel, stride) for channels, kernel, stride in layers]


def receptive_field(layers: ConvLayers) -> Tuple[int, int]:
    """Samples that one frame sees, and samples from one frame to the next."""
    window, hop = 1, 1
    for _, kernel, stride in layers:
        window, hop = window + (kernel - 1) * hop, hop * stride
    return window, hop


def num_frames(samples: Tensor, layers: ConvLayers) -> Tensor:
    """Frames that a CNN without padding gives: (B,) long samples -> (B,) long frames; 0 where there are too few."""
    for _, kernel, stride in layers:
        samples = ((samples - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)
    return samples
