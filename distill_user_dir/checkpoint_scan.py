"""What a stranger's checkpoint could do to whoever opens it, found before anything of it is built.

torch's weights-only loading runs no code of the file's, but calls any of some hundred functions with any argument, and
takes any size at its word. A fairseq checkpoint needs few of them, and no more memory than its own length.
"""

import collections
import io
import math
import os
import pickletools
import re
import zipfile
from typing import Any, Dict, Iterator, List, Tuple

import torch
from torch import Tensor

from distill_user_dir.conv_layers import parse_conv_layers

NEEDED = re.compile(
    r"collections OrderedDict|torch._utils _rebuild_(tensor|tensor_v2|parameter)|torch (\w+Storage|Size)"
    r"|torch (float\d+|bfloat16|u?int\d+|bool)|torch.nn.parameter Parameter"
    r"|fairseq.data.dictionary Dictionary|argparse Namespace"
)
LEGACY_PICKLES = 5  # in a file of before torch 1.6: magic number, protocol, machine, content, keys of the storages
MOST_TIMES = 4
MOST_NODES = 100_000  # of the configs in a checkpoint; fairseq's have a few hundred


def refusal(path: str) -> str:
    """Why a file is not to be given to torch.load, or an empty string; anything may be raised where it is none of its
    formats."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as stream:
            if stream.read(4) == b"PK\x03\x04":
                raise ValueError("the end of the archive is missing")
            stream.seek(0)
            return _refused_globals(stream, LEGACY_PICKLES)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return "its content is compressed, which torch.save never does: it may unpack to any size"
        if sum(entry.file_size for entry in entries) > os.path.getsize(path):
            return "its parts claim to be larger than the file"
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                found = _refused_globals(io.BytesIO(archive.read(entry)), 1)
                if found:
                    return found
    return ""


def _refused_globals(stream: Any, pickles: int) -> str:
    for _ in range(pickles):
        texts: List[str] = []
        for opcode, argument, _ in pickletools.genops(stream):
            texts = [*texts[-1:], argument] if isinstance(argument, str) else texts
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST"):
                name = " ".join(texts[-2:]) if opcode.name == "STACK_GLOBAL" else argument
                if not NEEDED.fullmatch(name):
                    return f"it holds more than weights: {name.replace(' ', '.')[:160]}"
    return ""


def expanded(state: Dict[str, Tensor]) -> List[str]:
    """Names of the weights that claim more numbers than are in the file, which a copy of them would really have."""
    return [
        name
        for name, weight in state.items()
        if weight.layout != torch.strided or weight.numel() * weight.element_size() > weight.untyped_storage().nbytes()
    ]


def nodes(roots: List[Any]) -> Iterator[Any]:
    """Everything in nested containers, a Namespace as its dict; ValueError for more than any config has (a container
    that is in itself, or twice in itself at each of many levels)."""
    left, roots = MOST_NODES, collections.deque(roots)
    while roots:
        node = roots.popleft()
        node = vars(node) if type(node).__name__ == "Namespace" else node
        left -= 1
        if left < 0:
            raise ValueError(f"its config has more than {MOST_NODES} values")
        if isinstance(node, (list, tuple)):
            roots.extend(node)
        elif isinstance(node, dict):
            roots.extend(node.values())
        yield node


def _shapes(model: Any) -> Iterator[Tuple[int, ...]]:
    """Shapes of the weights that make up most of a HuBERT or a student, by its config."""
    width = model.encoder_embed_dim
    for _ in range(model.encoder_layers):
        yield 4, width, width
        yield 2, width, model.encoder_ffn_embed_dim
    yield width, width // max(1, model.conv_pos_groups), model.conv_pos
    if str(model.get("frontend", "waveform")) == "fbank":
        yield 2 * width, model.fbank_bins, model.fbank_kernel
        return
    channels = 1
    for dim, kernel, _ in parse_conv_layers(model.conv_feature_layers):
        yield dim, channels, kernel
        channels = dim


def too_large(model: Any, state: Dict[str, Tensor]) -> str:
    """Whether a config makes a far larger model than there are weights for, as a line, or an empty string: what does
    not fit is told weight by weight once the model is built, which takes memory in the measure of the file."""
    there, promised = sum(weight.numel() for weight in state.values()), 0
    for shape in _shapes(model):
        promised += math.prod(shape)
        if promised > MOST_TIMES * there:
            return f"its config makes a model of more than {MOST_TIMES} times the {there} numbers in the file"
    return ""
