"""Checkpoints that a stranger could have made to harm whoever opens them, each by its kind and name.

A case is a function of the `Honest` checkpoint that it is made from, and writes its file. `kind`: what it attacks.
"""

import argparse
import builtins
import copy
import io
import os
import pickle
import struct
import zipfile
from functools import lru_cache
from typing import Any, Callable, Dict, NamedTuple

import torch
from fairseq.data.dictionary import Dictionary

from tests.checkpoints.archives import Part, write

CASES: Dict[str, "Case"] = {}


class Case(NamedTuple):
    kind: str
    make: Callable[["Honest"], str]


sound = lru_cache(maxsize=None)(torch.load)


class Honest(NamedTuple):
    """pretrained, fine_tuned, language_model: paths of sound checkpoints; path: the file to write; mark: the file that
    code which runs would make."""

    pretrained: str
    fine_tuned: str
    language_model: str
    path: str
    mark: str

    @property
    def code(self) -> str:
        """An expression that makes the mark."""
        return f"open({self.mark!r}, 'w')"

    def state(self, of: str = "pretrained") -> Dict[str, Any]:
        return copy.deepcopy(sound(getattr(self, of)))

    def save(self, state: Any, **options: Any) -> str:
        torch.save(state, self.path, **options)
        return self.path

    def pickled(self, content: bytes, **storages: bytes) -> str:
        """An archive with this for its pickle."""
        parts = [Part("data.pkl", content), Part("version", b"3\n")]
        return write(self.path, parts + [Part(f"data/{key[1:]}", data) for key, data in storages.items()])

    def parts(self) -> list:
        """Those of the pre-trained checkpoint."""
        with zipfile.ZipFile(self.pretrained) as archive:
            return [Part(name.partition("/")[2], archive.read(name)) for name in archive.namelist()]


def case(kind: str, name: str) -> Callable:
    def keep(make: Callable) -> Callable:
        assert name not in CASES, name
        CASES[name] = Case(kind, make)
        return make

    return keep


def cases(kind: str, of: Dict[str, Any]) -> Callable:
    """One function for several values: `make(honest, value)`."""

    def keep(make: Callable) -> Callable:
        for name, value in of.items():
            case(kind, name)(lambda honest, value=value: make(honest, value))
        return make

    return keep


# --- container: bytes that two readers could read by two rules, or that are more than they seem


class Evil:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.made = function, arguments

    def __reduce__(self) -> tuple:
        return self.made


def evil_pickle(honest: Honest, protocol: int = 2) -> bytes:
    return pickle.dumps({"model": {}, "x": Evil(builtins.open, honest.mark, "w")}, protocol)


@case("container", "code in data.PKL beside a sound data.pkl")
def _(honest):
    return write(honest.path, [*honest.parts(), Part("data.PKL", evil_pickle(honest))])


@case("container", "code in data.PKL and no data.pkl")
def _(honest):
    parts = [part for part in honest.parts() if part.name != b"data.pkl"]
    return write(honest.path, [Part("data.PKL", evil_pickle(honest)), *parts])


@case("container", "a legacy pickle with an empty archive behind it")
def _(honest):
    torch.save(Evil(builtins.open, honest.mark, "w"), honest.path, _use_new_zipfile_serialization=False)
    with open(honest.path, "ab") as file:
        zipfile.ZipFile(file, "w").close()
    return honest.path


@case("container", "a legacy file with a sound archive behind it")
def _(honest):
    torch.save(honest.state(), honest.path, _use_new_zipfile_serialization=False)
    with open(honest.path, "ab") as file, open(honest.pretrained, "rb") as sound:
        file.write(sound.read())
    return honest.path


def two_directories(honest: Honest, **said: int) -> str:
    """The end record names one directory, its zip64 record another."""
    return write(honest.path, [*honest.parts(), Part("data.PKL", evil_pickle(honest))], **said)


cases(
    "container",
    {
        "two directories: another count": {"short_count": 1},
        "two directories: another place": {"short_first": 0},
        "zip64: more entries than there are": {"count": 10**9},
        "zip64: fewer entries than there are": {"count": 1},
        "zip64: a directory at the beginning": {"first": 0},
        "zip64: a directory of no size": {"size": 0},
        "zip64: a record somewhere else": {"last": 0},
        "zip64: a record beyond the end": {"last": 2**62},
    },
)(lambda honest, said: two_directories(honest, **said))


def written(honest: Honest, **options: Any) -> str:
    return write(honest.path, honest.parts(), **options)


cases(
    "container",
    {
        "bytes before the archive": {"before": b"#!/bin/sh\n"},
        "bytes behind the archive": {"behind": b"x"},
        "an archive behind the archive": {"behind": b"PK\x05\x06" + bytes(18)},
        "parts in no folder": {"folder": ""},
        "parts in a folder above": {"folder": "../archive/"},
    },
)(lambda honest, options: written(honest, **options))


def spoilt_part(honest: Honest, told: Dict[str, Any], which: bytes = b"data.pkl") -> str:
    parts = honest.parts()
    for part in parts:
        if part.name == which:
            part.told.update(told)
    return write(honest.path, parts)


cases(
    "container",
    {
        "a compressed part": {"method": 8},
        "an encrypted part": {"flags": 1},
        "a part with a comment": {"comment": b"see there"},
        "a part larger than the file": {"size": 2**40},
        "a part with two names": {"local_name": b"data.pkk"},
        "a part that begins at 2^62": {"start": 2**62},
        "a part without a size": {"extra": b""},
    },
)(spoilt_part)


@case("container", "a part twice")
def _(honest):
    return write(honest.path, [*honest.parts(), Part("data.pkl", evil_pickle(honest))])


@case("container", "parts that share their bytes")
def _(honest):
    parts = honest.parts()
    parts[-1].told["start"] = 0
    return write(honest.path, parts)


cases(
    "container",
    {
        "a part that nobody asked for": [Part("code/__torch__.py", b"import os")],
        "a TorchScript archive": [Part("constants.pkl", b"\x80\x02).")],
        "written on a big-endian machine": [Part("byteorder", b"big")],
    },
)(lambda honest, more: write(honest.path, [p for p in honest.parts() if p.name not in {m.name for m in more}] + more))


@case("container", "no parts")
def _(honest):
    return write(honest.path, [])


@case("container", "a compressed archive that unpacks to 1 GB")
def _(honest):
    with zipfile.ZipFile(honest.path, "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(honest.pretrained) as sound:
            for name in sound.namelist():
                archive.writestr(name, bytes(10**8) if name.endswith("data/0") else sound.read(name))
    return honest.path


def cut(honest: Honest, share: float, legacy: bool = False) -> str:
    content = io.BytesIO()
    torch.save(honest.state(), content, _use_new_zipfile_serialization=not legacy)
    with open(honest.path, "wb") as file:
        file.write(content.getvalue()[: int(len(content.getvalue()) * share)])
    return honest.path


cases("container", {f"cut at {share:.0%}": share for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.999)})(cut)
cases("container", {f"legacy, cut at {share:.0%}": share for share in (0.001, 0.1, 0.5, 0.9, 0.999)})(
    lambda honest, share: cut(honest, share, legacy=True)
)
cases("container", {"a WAV": b"RIFF" + bytes(400), "a script": b"#!/bin/sh\ntouch /tmp/x\n", "zeros": bytes(4096)})(
    lambda honest, content: (open(honest.path, "wb").write(content), honest.path)[1]
)


def legacy(honest: Honest, *pickles: bytes, behind: bytes = b"") -> str:
    """A file of before torch 1.6 with these pickles behind its magic number."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    with open(honest.path, "wb") as file:
        file.write(magic + b"".join(pickles) + behind)
    return honest.path


MACHINE = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)


def storage(key: str, count: int, kind: str = "FloatStorage", more: bytes = b"N") -> bytes:
    """Opcodes of a reference to a storage; `more` is the sixth field, of the older container."""
    text = b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX" + struct.pack("<I", len(key)) + key.encode()
    return text + b"X\x03\x00\x00\x00cpu\x8a\x08" + struct.pack("<q", count) + more + b"tQ"


def tensor(
    key: str, count: int, size: tuple, stride: tuple, offset: int = 0, more: bytes = b"", **options: Any
) -> bytes:
    """Opcodes of a tensor."""
    numbers = [
        b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in numbers) + b"t" for numbers in (size, stride)
    ]
    start = b"\x8a\x08" + struct.pack("<q", offset)
    stored = storage(key, count, more=more, **options)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + start + numbers[0] + numbers[1] + b"\x89}tR"


def with_model(weight: bytes) -> bytes:
    """A pickle whose `model` has this one weight."""
    return b"\x80\x02}(X\x05\x00\x00\x00model}X\x01\x00\x00\x00w" + weight + b"su."


@cases("older container", {"storages that are never filled": 10**9, "a storage of 2^62 numbers": 2**62})
def _(honest, count):
    content = with_model(tensor("1", count, (count,), (1,), more=b"N"))
    return legacy(honest, MACHINE, content, pickle.dumps(["1"], 2), behind=struct.pack("<q", count) + bytes(64))


@case("older container", "a list of storages with one twice")
def _(honest):
    content = with_model(tensor("1", 4, (4,), (1,), more=b"N"))
    return legacy(honest, MACHINE, content, pickle.dumps(["1", "1"], 2), behind=(struct.pack("<q", 4) + bytes(16)) * 2)


@case("older container", "a list of storages without one")
def _(honest):
    return legacy(honest, MACHINE, with_model(tensor("1", 4, (4,), (1,), more=b"N")), pickle.dumps([], 2))


@case("older container", "a storage of another count")
def _(honest):
    content = with_model(tensor("1", 4, (4,), (1,), more=b"N"))
    return legacy(honest, MACHINE, content, pickle.dumps(["1"], 2), behind=struct.pack("<q", -4) + bytes(16))


@case("older container", "of a big-endian machine")
def _(honest):
    return legacy(honest, pickle.dumps({"little_endian": False}, 2), with_model(b"N"), pickle.dumps([], 2))


@case("older container", "code in what says what machine it was")
def _(honest):
    return legacy(honest, evil_pickle(honest), with_model(b"N"), pickle.dumps([], 2))


@case("older container", "code in the list of storages")
def _(honest):
    return legacy(honest, MACHINE, with_model(b"N"), evil_pickle(honest))


@case("older container", "a view of a storage, as of torch 0.3")
def _(honest):
    return legacy(honest, MACHINE, with_model(tensor("1", 4, (4,), (1,), more=b"(tt")), pickle.dumps(["1"], 2))


# --- pickle: code, and opcodes that cost more than they weigh

FUNCTIONS = {
    "open": (builtins.open, "MARK", "w"),
    "os.system": (os.system, "touch MARK"),
    "os.mkdir": (os.mkdir, "MARK"),
    "eval": (eval, "open('MARK', 'w')"),
    "exec": (exec, "open('MARK', 'w')"),
    "__import__": (__import__, "antigravity"),
    "getattr": (getattr, "text", "upper"),
    "bytearray": (bytearray, 10**11),
    "torch.load": (torch.serialization._load, "MARK"),
    "torch.ones": (torch.ones, 10**11),
}


@cases("pickle", {f"calls {name}, protocol {p}": (made, p) for name, made in FUNCTIONS.items() for p in (2, 4)})
def _(honest, value):
    (function, *arguments), protocol = value
    arguments = [a.replace("MARK", honest.mark) if isinstance(a, str) else a for a in arguments]
    return honest.save(dict(honest.state(), extra_state=[Evil(function, *arguments)]), pickle_protocol=protocol)


@cases("pickle", {f"code in {place}": place for place in ("cfg", "model", "task_state", "last_optimizer_state")})
def _(honest, place):
    state = honest.state()
    state[place] = dict(state.get(place) or {}, x=Evil(builtins.open, honest.mark, "w"))
    return honest.save(state)


def code(name: str) -> bytes:
    """GLOBAL of protocol 0, then the same call with text opcodes."""
    return b"c" + name.encode() + b"\n"


RAW = {
    "INST": b"(X\x01\x00\x00\x00xios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nX\x01\x00\x00\x00xo.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID as text": b"\x80\x02Pstorage\n.",
    "NEWOBJ_EX": b"\x80\x04cargparse\nNamespace\n)}\x92.",
    "LONG4 of 1 GB": b"\x80\x02\x8b\x00\x00\x00\x40.",
    "LONG1 of 255 bytes": b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
    "LONG as text of 10^6 digits": b"L" + b"9" * 10**6 + b"L\n.",
    "BYTEARRAY8 of 2^40 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "BINUNICODE of 4 GB": b"\x80\x02X\xff\xff\xff\xffx.",
    "BINUNICODE8 of 2^60": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b".",
    "LONG_BINPUT at 2^32": b"\x80\x02Nr\xff\xff\xff\xff0.",
    "FRAME of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.",
    "a memo that is not there": b"\x80\x02h\x07.",
    "an empty stack": b"\x80\x02.",
    "a mark that is not there": b"\x80\x02t.",
    "APPEND to a dict": b"\x80\x02}Na.",
    "SETITEM of a list": b"\x80\x02]NNs.",
    "SETITEMS of an odd number": b"\x80\x02}(Nu.",
    "BUILD of a list": b"\x80\x02]}b.",
    "REDUCE of a dict": b"\x80\x02})R.",
    "a name of 10^6 letters": b"\x80\x02c" + b"x" * 10**6 + b"\nx\n.",
    "STACK_GLOBAL of numbers": b"\x80\x04K\x01K\x02\x93.",
    "STACK_GLOBAL of os.system": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
    "protocol 5": b"\x80\x05}.",
    "no end": b"\x80\x02}(",
    "bytes behind its end": b"\x80\x02}.}.",
    "a million lists": b"\x80\x02" + b"]" * 1_200_000 + b".",
    "a million dicts": b"\x80\x02" + b"}" * 1_200_000 + b".",
    "a million marks": b"\x80\x02" + b"(" * 1_200_000 + b".",
    "a million lists in each other": b"\x80\x02" + b"]" * 600_000 + b"a" * 599_999 + b".",
    "a million tuples in each other": b"\x80\x02)" + b"\x85" * 900_000 + b".",
    "a tuple in itself 900,000 deep as a key": b"\x80\x02})" + b"\x85" * 900_000 + b"Ns.",
    "a tuple twice in itself, 60 levels, as a key": b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.",
    "a tuple twice in itself, 60 levels": b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a dict in itself": b"\x80\x02}q\x00K\x01h\x00s.",
    "a dict twice in itself, 40 levels": b"\x80\x02}" + b"q\x00}(K\x01h\x00K\x02h\x00u" * 40 + b".",
    "30,000 keys of one hash": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(30_000))
    + b"u.",
    "a truth as a key": b"\x80\x02}\x88Ns.",
    "a number as a key": b"\x80\x02}G?\xf0\x00\x00\x00\x00\x00\x00Ns.",
    "text that is no UTF-8": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "a class for a value": b"\x80\x02}X\x05\x00\x00\x00modelcargparse\nNamespace\ns.",
    "code by a name with a line end": b"\x80\x04\x8c\x0aos\nsystem\n\x8c\x01x\x93.",
    "an OrderedDict of arguments": b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
    "a Namespace with a number for a name": b"\x80\x02cargparse\nNamespace\n)R}K\x01K\x02sb.",
    "a Namespace with a class": b"\x80\x02cargparse\nNamespace\n)R}X\x09\x00\x00\x00__class__K\x02sb.",
    "a state set twice": b"\x80\x02cargparse\nNamespace\n)R}b}b.",
    "a Size of text": b"\x80\x02ctorch\nSize\nX\x01\x00\x00\x00x\x85R.",
    "a parameter without a tensor": b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.",
    "a tensor without a storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.",
}
cases("pickle", RAW)(lambda honest, content: honest.pickled(content))

# --- contents: tensors and dictionaries that claim more than there is

FOUR = bytes(16)
TENSORS = {
    "a weight of 10^12 numbers on one": tensor("0", 1, (10**6, 10**6), (0, 0)),
    "a weight beyond its storage": tensor("0", 4, (5,), (1,)),
    "a weight that begins behind its storage": tensor("0", 4, (1,), (1,), offset=4),
    "a weight that begins before its storage": tensor("0", 4, (1,), (1,), offset=-1),
    "a weight of negative size": tensor("0", 4, (-1,), (1,)),
    "a weight of negative stride": tensor("0", 4, (4,), (-1,)),
    "a weight of stride 2^62": tensor("0", 4, (4,), (2**62,)),
    "a weight of 9 dimensions": tensor("0", 4, (1,) * 9, (1,) * 9),
    "a weight with more strides than sizes": tensor("0", 4, (4,), (1, 1)),
    "a storage of more numbers than bytes": tensor("0", 8, (8,), (1,)),
    "a tensor of size 2^62 x 2^62 x 0": tensor("0", 4, (2**62, 2**62, 0), (1, 1, 1)),
    "a negative view": tensor("0", 4, (4,), (1,))[:-2] + b"}}X\x03\x00\x00\x00neg\x88stR",
    "a storage of another type": tensor("0", 4, (4,), (1,), kind="DoubleStorage"),
    "a storage that is not there": tensor("7", 4, (4,), (1,)),
    "a storage of negative count": tensor("0", -4, (4,), (1,)),
    "an untyped storage": tensor("0", 16, (4,), (1,), kind="UntypedStorage"),
}
cases("contents", TENSORS)(lambda honest, weight: honest.pickled(with_model(weight), _0=FOUR))


@case("contents", "one storage counted 2,000 times")
def _(honest):
    weight, state = torch.zeros(1 << 16), honest.state()
    state["model"] = {f"w{i}": weight for i in range(2000)}
    for i, key in enumerate(list(state["model"])):
        state["model"][key] = weight[: len(weight) - i % 2].view(-1)  # tensors of their own on one storage
    return honest.save(state)


def with_dictionary(honest: Honest, change: Callable[[Dictionary], Any]) -> str:
    state = honest.state()
    change(state["task_state"]["dictionaries"][0])
    return honest.save(state)


cases(
    "contents",
    {
        "a dictionary with nspecial 3 x 10^8": lambda d: setattr(d, "nspecial", 3 * 10**8),
        "a dictionary with nspecial -1": lambda d: setattr(d, "nspecial", -1),
        "a dictionary without symbols": lambda d: delattr(d, "symbols"),
        "a dictionary whose symbols are None": lambda d: setattr(d, "symbols", None),
        "a dictionary whose symbols are numbers": lambda d: setattr(d, "symbols", [1, 2]),
        "a dictionary of other indices": lambda d: d.indices.update({"0": 9}),
        "a dictionary of too few counts": lambda d: d.count.pop(),
        "a dictionary with an escape code": lambda d: d.add_symbol("\x1b]0;x\x07"),
        "a dictionary with a line end": lambda d: d.add_symbol("a\nb"),
        "a dictionary with an empty symbol": lambda d: d.add_symbol(""),
        "a dictionary whose pad is 10^9": lambda d: setattr(d, "pad_index", 10**9),
        "a dictionary whose word is a list": lambda d: setattr(d, "unk_word", []),
    },
)(with_dictionary)

# --- weights that are none


def with_weight(honest: Honest, change: Callable[[torch.Tensor], Any]) -> str:
    state = honest.state()
    state["model"]["encoder.layers.0.fc1.weight"] = change(state["model"]["encoder.layers.0.fc1.weight"])
    return honest.save(state)


def filled(value: float, dtype: torch.dtype = torch.float32) -> Callable:
    return lambda w: w.clone().index_fill_(0, torch.tensor([len(w) - 1]), value).to(dtype)


cases(
    "weights",
    {
        "a weight with a NaN": filled(float("nan")),
        "a weight with infinity": filled(float("inf")),
        "a weight with minus infinity": filled(float("-inf")),
        "a weight in fp16 with a NaN": filled(float("nan"), torch.float16),
        "a weight in bf16 with infinity": filled(float("inf"), torch.bfloat16),
        "a weight in fp16 that overflowed": filled(1e6, torch.float16),
        "a weight of integers": lambda w: w.long(),
        "a weight of booleans": lambda w: w > 0,
        "a weight that is a list": lambda w: w.tolist(),
        "a weight that is None": lambda w: None,
    },
)(with_weight)


@case("weights", "a weight by a number")
def _(honest):
    state = honest.state()
    state["model"][7] = torch.zeros(1)
    return honest.save(state)


# --- config: fields that fairseq evaluates, resolves or builds from


def with_model_config(honest: Honest, change: Dict[str, Any], of: str = "pretrained") -> str:
    state = honest.state(of)
    model = state["cfg"]["model"]
    model.update({k: v.replace("CODE", honest.code) if isinstance(v, str) else v for k, v in change.items()})
    return honest.save(state)


def another_model(honest: Honest, model: Dict[str, Any]) -> str:
    model = {k: v.replace("CODE", honest.code) if isinstance(v, str) else v for k, v in model.items()}
    state = dict(honest.state(), model={"x": torch.zeros(2)})
    state["cfg"] = {"model": model, "task": {"_name": "hubert_pretraining", "data": "/"}}
    return honest.save(state)


CNN = "[(8,10,5)]"
cases(
    "code in a config",
    {
        "wav2vec evaluates its aggregator": {
            "_name": "wav2vec",
            "conv_feature_layers": CNN,
            "conv_aggregator_layers": "CODE or [(8,3,1)]",
            "aggregator": "cnn",
        },
        "wav2vec2 evaluates its CNN": {"_name": "wav2vec2", "conv_feature_layers": "CODE or [(8,10,5)]"},
        "fconv evaluates its layers": {"_name": "fconv", "encoder_layers": "CODE", "decoder_layers": "CODE"},
        "fconv_lm evaluates its layers": {"_name": "fconv_lm", "decoder_layers": "CODE"},
        "lightconv evaluates its kernels": {"_name": "lightconv", "encoder_kernel_size_list": "CODE"},
        "lightconv_lm evaluates its kernels": {"_name": "lightconv_lm", "decoder_kernel_size_list": "CODE"},
        "data2vec_audio": {"_name": "data2vec_audio", "conv_feature_layers": "CODE"},
        "hubert_seq2seq": {"_name": "hubert_seq2seq", "w2v_args": {}},
        "a model without a name": {"conv_feature_layers": "CODE"},
        "a model whose name is a list": {"_name": ["hubert"], "conv_feature_layers": "CODE"},
        "a model whose name is empty": {"_name": "", "hubert": {"conv_feature_layers": "CODE"}},
    },
)(another_model)


def args_of(honest: Honest, of: str, **more: Any) -> str:
    """The options of before fairseq had configs."""
    state = honest.state(of)
    cfg = state.pop("cfg")
    values = {k: v for k, v in {**cfg["task"], **cfg["model"]}.items() if k not in ("_name", "w2v_args")}
    more = {k: v.replace("CODE", honest.code) if isinstance(v, str) else v for k, v in more.items()}
    return honest.save({**state, "cfg": None, "args": argparse.Namespace(**{**values, **more})})


cases(
    "code in a config",
    {
        "args of one model by name and of another by arch": dict(
            _name="transformer_lm", task="language_modeling", arch="lstm", decoder_attention="CODE"
        ),
        "args of an architecture that evaluates": dict(
            arch="transformer_lm_gpt", task="language_modeling", xformers_att_config="CODE"
        ),
        "args of a task that evaluates": dict(
            arch="transformer_lm", task="multilingual_translation", left_pad_source="CODE", lang_pairs="a-b"
        ),
    },
)(lambda honest, more: args_of(honest, "language_model", **more))


@case("code in a config", "a language model's attention")
def _(honest):
    return with_model_config(honest, {"decoder_xformers_att_config": "CODE"}, "language_model")


@case("code in a config", "the CNN behind a multilingual task of the encoder")
def _(honest):
    state = honest.state("fine_tuned")
    inner = state["cfg"]["model"]["w2v_args"]
    inner["task"].update(task="multilingual_translation", _name="multilingual_translation", left_pad_source=honest.code)
    return honest.save(state)


EVALUATED = ("CODE", "[(8,10,5)] + CODE", "(lambda: CODE)()", "[(8,10,5) for x in [CODE]]", "__import__('os')")
cases("code in a config", {f"conv_feature_layers={text}": {"conv_feature_layers": text} for text in EVALUATED})(
    with_model_config
)
LM_FIELDS = ("character_filters", "adaptive_softmax_cutoff", "adaptive_input_cutoff")
cases(
    "code in a config", {f"a language model's {field}": {field: "CODE", "adaptive_input": True} for field in LM_FIELDS}
)(lambda honest, change: with_model_config(honest, change, "language_model"))


@case("code in a config", "the CNN of the encoder in a fine-tuned model")
def _(honest):
    state = honest.state("fine_tuned")
    state["cfg"]["model"]["w2v_args"]["model"]["conv_feature_layers"] = f"[(8,10,5)] + {honest.code}"
    return honest.save(state)


@case("code in a config", "a fine-tuned model of wav2vec")
def _(honest):
    state = honest.state("fine_tuned")
    state["cfg"]["model"]["w2v_args"]["model"].update(_name="wav2vec", conv_aggregator_layers=honest.code)
    return honest.save(state)


@case("code in a config", "args of before fairseq had configs")
def _(honest):
    state = honest.state()
    flat = dict(state.pop("cfg")["model"], arch="hubert", task="hubert_pretraining", conv_feature_layers=honest.code)
    return honest.save(dict(state, args=argparse.Namespace(**flat)))


@case("code in a config", "args of lightconv")
def _(honest):
    state = honest.state()
    args = argparse.Namespace(arch="lightconv_lm", task="language_modeling", decoder_kernel_size_list=honest.code)
    return honest.save({**state, "cfg": None, "args": args})


RESOLVED = ("${oc.env:HOME}", "${env:HOME}", "${model.encoder_layers}", "x${oc.env:HOME}y", "${oc.create:{}}", "${")
cases("interpolation", {f"{text} for a number": text for text in RESOLVED})(
    lambda honest, text: with_model_config(honest, {"encoder_layers": text})
)
cases(
    "interpolation",
    {
        "in text": {"activation_fn": "${oc.env:HOME}"},
        "in a list": {"latent_temp": ["${oc.env:HOME}", 1.0, 1.0]},
        "in a field that nobody knows": {"unknown": {"deep": [{"er": "${oc.env:HOME}"}]}},
        "in a key": {"${oc.env:HOME}": 1},
    },
)(with_model_config)


@cases("interpolation", {f"in {part}": part for part in ("task", "common", "criterion")})
def _(honest, part):
    state = honest.state()
    state["cfg"][part] = dict(state["cfg"].get(part) or {}, data="${oc.env:HOME}")
    return honest.save(state)


@case("interpolation", "in the encoder of a fine-tuned model")
def _(honest):
    state = honest.state("fine_tuned")
    state["cfg"]["model"]["w2v_args"]["task"]["data"] = "${oc.env:HOME}"
    return honest.save(state)


cases(
    "sizes",
    {
        "10^5 layers": {"encoder_layers": 10**5},
        "no layers": {"encoder_layers": 0},
        "a width of 0": {"encoder_embed_dim": 0},
        "a width of -1": {"encoder_embed_dim": -1},
        "a width of 10^6": {"encoder_embed_dim": 10**6},
        "an FFN of 10^9": {"encoder_ffn_embed_dim": 10**9},
        "no heads": {"encoder_attention_heads": 0},
        "-4 heads": {"encoder_attention_heads": -4},
        "a positional convolution of 10^8": {"conv_pos": 10**8},
        "0 groups": {"conv_pos_groups": 0},
        "a final_dim of 10^9": {"final_dim": 10**9},
        "layers of another kind": {"layer_type": "conformer", "depthwise_conv_kernel_size": 10**7 + 1},
        "projections of every label set": {"untie_final_proj": True, "final_dim": 10**6},
        "a wide convolution at every sample": {"conv_feature_layers": "[(65536,1,1),(24,1,320)]"},
        "10^5 values that fairseq would copy": {"x": [0] * 90_000},
        "a number of 2^63": {"mask_length": 2**63},
        "a CNN of 10^9 layers": {"conv_feature_layers": "[(8,10,5)] * 1000000000"},
        "a CNN of lists of lists": {"conv_feature_layers": "[" * 400 + "8" + "]" * 400},
        "a CNN of lists that grow": {"conv_feature_layers": "((([[8,8,8]]*60)*60)*60)*60"},
        "a CNN of 65,536 channels": {"conv_feature_layers": "[(65536,65536,1)]"},
        "a CNN of negative kernels": {"conv_feature_layers": "[(8,-10,5)]"},
        "a CNN of a megabyte": {"conv_feature_layers": "[(8,10,5)]" + " " * 10**6},
        "a list of 90,000": {"latent_temp": [1.0] * 90_000},
        "layers that are text": {"encoder_layers": "many"},
        "layers that are a list": {"encoder_layers": [3]},
        "layers that are a dict": {"encoder_layers": {"a": 3}},
        "layers that are 2.5": {"encoder_layers": 2.5},
        "layers that are NaN": {"encoder_layers": float("nan")},
        "an activation that is not there": {"activation_fn": "__import__"},
        "10^5 fields": {f"f{i}": i for i in range(10**5)},
    },
)(with_model_config)


@case("sizes", "frames of a sample each")
def _(honest):
    return with_model_config(honest, {"conv_feature_layers": "[(32,10,1)] + [(32,3,1)] * 4 + [(32,2,1)] * 2"})


@cases("sizes", {"text shared 90,000 times": 90_000, "text shared 900 times": 900})
def _(honest, times):
    state = honest.state()
    state["cfg"]["common"] = {"a": ["x" * 9000] * times}
    return honest.save(state)


@cases(
    "sizes", {f"long text in {field}": field for field in ("encoder_layers", "conv_feature_layers", "extractor_mode")}
)
def _(honest, field):
    return with_model_config(honest, {field: ["x" * 150_000] * 20_000})


@case("sizes", "a fine-tuned model of fairseq's with 90,000 labels")
def _(honest):
    state, many = honest.state("fine_tuned"), Dictionary()
    for number in range(90_000):
        many.add_symbol(str(number))
    state["cfg"]["model"].update(_name="hubert_ctc")
    state["cfg"]["model"]["w2v_args"]["model"].update(final_dim=200_000)
    return honest.save(dict(state, task_state={"dictionaries": [many], **state["task_state"]}))


@cases("sizes", {"an architecture of 96 layers": "transformer_lm_gpt3_175", "of 48 layers": "transformer_lm_gpt2_big"})
def _(honest, name):
    state = honest.state("language_model")
    model = state["cfg"]["model"]
    for field in ("decoder_layers", "decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads"):
        del model[field]
    model["_name"] = name
    return honest.save(state)


@case("sizes", "10^5 layers and no weights")
def _(honest):
    state = honest.state()
    state["cfg"]["model"]["encoder_layers"] = 10**5
    return honest.save(dict(state, model={}))


@case("sizes", "400,000 layers of width 2")
def _(honest):
    state, narrow = honest.state(), dict(encoder_layers=400_000, encoder_embed_dim=2, encoder_ffn_embed_dim=2)
    state["cfg"]["model"].update(narrow, encoder_attention_heads=1, conv_pos_groups=1)
    weights = {"mask_emb": torch.zeros(2), "encoder.pos_conv.0.weight_v": torch.zeros(2, 2, 16)}
    return honest.save(dict(state, model=dict(state["model"], **weights)))


@cases("sizes", {"a layer map of 90,000": "layer_map", "90,000 label sets": "cluster_sizes"})
def _(honest, field):
    state = honest.state()
    state["cfg"]["model"].update({"_name": "student_hubert", "teacher_embed_dim": 48, field: [1] * 90_000})
    return honest.save(state)


@case("sizes", "a head of 10^9 for a teacher's width")
def _(honest):
    state = honest.state()
    state["cfg"]["model"].update(_name="student_hubert", teacher_embed_dim=10**9, layer_map=[1, 2, 3])
    return honest.save(state)


@cases(
    "sizes",
    {
        "a student's final_dim of 2 x 10^7": {"final_dim": 2 * 10**7},
        "a student's gate of 15,000": {"final_dim": 15_000, "target_glu": True},
    },
)
def _(honest, change):
    state = honest.state()
    state["cfg"]["model"].update(_name="student_hubert", teacher_embed_dim=48, layer_map=[1, 2, 3], **change)
    return honest.save(state)


@cases(
    "sizes",
    {
        "10^6 mel bins": {"fbank_bins": 10**6},
        "a window of 10^9 ms": {"fbank_length": 1e9},
        "a shift of a sample": {"fbank_shift": 1 / 16},
    },
)
def _(honest, change):
    state = honest.state()
    fbank = dict(change, frontend="fbank", fbank_norm="utterance", _name="student_hubert", layer_map=[1, 2, 3])
    state["cfg"]["model"].update(fbank, teacher_embed_dim=48)
    weights = {
        "feature_extractor.conv.weight": torch.zeros(96, 80, 5),
        "feature_extractor.proj.weight": torch.zeros(48, 48),
    }
    return honest.save(dict(state, model=dict(state["model"], **weights)))


cases(
    "sizes",
    {
        "a language model of 10^5 layers": {"decoder_layers": 10**5},
        "a language model of width 10^6": {"decoder_embed_dim": 10**6},
        "a language model of 2^31 positions": {"max_target_positions": 2**31 - 1},
        "a language model of characters": {"character_embeddings": True, "character_embedding_dim": 10**9},
        "a language model of adaptive factor 0": {"adaptive_input": True, "adaptive_input_factor": 1e-9},
        "a language model of cutoffs of 10^8": {"adaptive_softmax_cutoff": "50,100000000"},
        "a language model of cutoffs that fall": {"adaptive_softmax_cutoff": "50,5"},
        "a language model of cutoffs with zeros": {"adaptive_softmax_cutoff": "010,50"},
        "a language model of BASE layers": {"base_layers": 10**6},
        "a language model that keeps layers": {"decoder_layers_to_keep": ",".join("0" * 10**5)},
    },
)(lambda honest, change: with_model_config(honest, change, "language_model"))

# --- state: what fairseq takes from a checkpoint beside the model


def with_state(honest: Honest, change: Dict[str, Any], of: str = "pretrained") -> str:
    return honest.save(dict(honest.state(of), **change))


cases(
    "state",
    {
        "a task_state that is a list": {"task_state": [1]},
        "a task_state that is text": {"task_state": "x"},
        "dictionaries that are text": {"task_state": {"dictionaries": ["km"]}},
        "a target_dictionary that is text": {"task_state": {"target_dictionary": "abc"}},
        "a history that is text": {"optimizer_history": "x"},
        "a history of numbers": {"optimizer_history": [1]},
        "-1 updates": {"optimizer_history": [{"num_updates": -1}]},
        "updates that are text": {"optimizer_history": [{"num_updates": "9"}]},
        "10^15 updates": {"optimizer_history": [{"num_updates": 10**15}]},
        "a schedule that is a list": {"optimizer_history": [{"num_updates": 1, "lr_scheduler_state": []}]},
        "an extra_state that is a list": {"extra_state": [1]},
        "a place in the data that is text": {"extra_state": {"train_iterator": "x"}},
        "an epoch that is text": {"extra_state": {"train_iterator": {"epoch": "x"}}},
        "an epoch of -5": {"extra_state": {"train_iterator": {"epoch": -5, "iterations_in_epoch": 0}}},
        "an epoch that is text, as of old": {"extra_state": {"epoch": "x"}},
        "a time that is text": {"extra_state": {"previous_training_time": "x"}},
        "a history of the optimizer's own": {"optimizer_history": [{"num_updates": 1, "optimizer": 1}]},
        "17 label sets": {"task_state": {"dictionaries": [Dictionary()] * 17}},
        "epoch 10^15": {"extra_state": {"train_iterator": {"epoch": 10**15}}},
        "a meter that is none": {"extra_state": {"metrics": {"default": [(0, "x", "OrderedDict", {})]}}},
        "metrics that are text": {"extra_state": {"metrics": "x"}},
        "both cfg and args": {"args": argparse.Namespace(arch="hubert")},
        "a cfg that is a list": {"cfg": [1]},
        "a cfg without a task": {"cfg": {"model": {"_name": "hubert"}}},
        "no model": {"model": None},
        "a model that is a tensor": {"model": torch.zeros(3)},
        "a tensor in its config": {"cfg": {"model": {"_name": "hubert", "x": torch.zeros(1)}, "task": {}}},
    },
)(with_state)


@cases("state", {"a task that is none of its kind": "translation", "a task that is a list": ["hubert_pretraining"]})
def _(honest, name):
    state = honest.state()
    state["cfg"]["task"]["_name"] = name
    return honest.save(state)


@cases("state", {"a fine-tuned model without an encoder": None, "a fine-tuned model of a list": [1]})
def _(honest, args):
    state = honest.state("fine_tuned")
    state["cfg"]["model"]["w2v_args"] = args
    return honest.save(state)


@case("state", "a fine-tuned model without an output layer")
def _(honest):
    state = honest.state("fine_tuned")
    del state["model"]["w2v_encoder.proj.weight"]
    return honest.save(state)


@case("state", "a language model without a weight")
def _(honest):
    state = honest.state("language_model")
    del state["model"]["decoder.layers.0.fc2.bias"]
    return honest.save(state)


# --- no file


@case("no file", "a pipe")
def _(honest):
    os.mkfifo(honest.path)
    return honest.path


@case("no file", "a folder")
def _(honest):
    os.mkdir(honest.path)
    return honest.path


@cases("no file", {"a link to a device": "/dev/zero", "a link to itself": "LINK", "a link to nothing": "/none"})
def _(honest, target):
    os.symlink(target.replace("LINK", honest.path), honest.path)
    return honest.path
