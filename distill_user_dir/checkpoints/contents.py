"""What a pickle says and the storages -> plain values, tensors, and fairseq's dictionaries.

Every size is held against what is in the file, so that nothing larger than it is made.
"""

import argparse
import collections
import math
from typing import Any, Dict, List, Optional, Tuple

import torch
from fairseq.data.dictionary import Dictionary
from torch import Tensor

from distill_user_dir.checkpoints.archive import Archive, item_size
from distill_user_dir.checkpoints.pickled import Call, Name, Refused, Stored
from distill_user_dir.messages import is_plain, quoted

DEPTH = 40  # of nested containers
NODES = 600_000  # values, one that is referred to from several places counted each time
TENSORS, NUMBERS = 100_000, 2**48  # that a file may have, and that a tensor may claim
SHARED = 8  # tensors that may hold the same numbers, on average over a storage: tied weights, views
DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
SPECIALS = ("bos", "pad", "eos", "unk")


class Contents:
    """Makes the values of one archive."""

    def __init__(self, archive: Archive):
        self.archive = archive
        self.flat: Dict[str, Tuple[str, Tensor]] = {}  # by the key of a storage, its type and all of its numbers
        self.claimed: Dict[str, int] = collections.Counter()
        self.made: Dict[int, Any] = {}  # by the id of the call that makes it: shared as in the file
        self.tensors: List[Tensor] = []
        self.left = NODES

    def value(self, found: Any, depth: int = 0) -> Any:
        """The value for a node of the pickle; Refused where there is none."""
        self.left -= 1
        if self.left < 0 or depth > DEPTH:
            raise Refused(f"nested more than {DEPTH} deep, or more than {NODES} values")
        if found is None or isinstance(found, (bool, int, float, str)):
            return found
        if isinstance(found, dict):
            return self.mapping(found, depth)
        if isinstance(found, list):
            return [self.value(item, depth + 1) for item in found]
        if isinstance(found, tuple):
            return tuple(self.value(item, depth + 1) for item in found)
        if isinstance(found, Call):
            if id(found) not in self.made:
                self.made[id(found)] = self.called(found, depth)
            return self.made[id(found)]
        if isinstance(found, Name) and found.name.rpartition(" ")[0] == "torch" and "Storage" not in found.name:
            return getattr(torch, found.name.rpartition(" ")[2], None)
        raise Refused("it holds a class where a value belongs")

    def mapping(self, found: Dict[Any, Any], depth: int) -> Dict[Any, Any]:
        return {key: self.value(item, depth + 1) for key, item in found.items()}

    def called(self, call: Call, depth: int) -> Any:
        if call.name.startswith("torch._utils "):
            return self.tensor(call, depth)
        if call.name == "torch Size":
            return torch.Size(integers(call.arguments[0] if len(call.arguments) == 1 else None))
        if call.arguments:
            raise Refused(f"{call.name.replace(' ', '.')} with arguments, as no checkpoint has it")
        state = self.mapping(call.state or {}, depth)
        if call.name == "collections OrderedDict":
            made = collections.OrderedDict(self.mapping(call.items, depth))
            versions = state.get("_metadata")  # of a state dict, by module
            if isinstance(versions, dict) and all(is_versions(entry) for entry in versions.values()):
                made._metadata = versions
            return made
        if any(not isinstance(key, str) or key.startswith("__") for key in state):
            raise Refused(f"{call.name.replace(' ', '.')} with a field whose name is none")
        if call.name == "fairseq.data.dictionary Dictionary":
            return dictionary(state)
        made = argparse.Namespace()
        vars(made).update(state)
        return made

    def tensor(self, call: Call, depth: int) -> Tensor:
        """By torch's rules for views; Refused where it would reach beyond its storage."""
        if call.name.endswith("_rebuild_parameter"):
            return self.parameter(call, depth)
        if len(call.arguments) < 4 or not isinstance(call.arguments[0], Stored):
            raise Refused("it has a tensor without a storage")
        if len(self.tensors) >= TENSORS or any(call.arguments[6:]):  # the seventh: conjugate or negative views
            raise Refused(f"it has more than {TENSORS} tensors, or one of an unusual kind")
        stored, offset = call.arguments[:2]
        size, stride = integers(call.arguments[2]), integers(call.arguments[3])
        count, reach = 1, offset if type(offset) is int else -1
        for length, step in zip(size, stride):
            count, reach = count * length, reach + (length - 1) * step
        if len(size) != len(stride) or type(offset) is not int or offset < 0 or count > stored.count:
            raise Refused("it has a tensor that claims more numbers than there are")
        if count and reach >= stored.count or math.prod(max(1, length) for length in size) > NUMBERS:
            raise Refused("it has a tensor that claims more numbers than there are")
        self.claimed[stored.key] += count
        if self.claimed[stored.key] > SHARED * stored.count:
            raise Refused("its tensors claim more numbers than there are")
        self.tensors.append(torch.as_strided(self.numbers(stored), size, stride, offset if count else 0))
        return self.tensors[-1]

    def parameter(self, call: Call, depth: int) -> Tensor:
        made = self.value(call.arguments[0], depth + 1) if call.arguments else None
        if not isinstance(made, Tensor):
            raise Refused("it has a parameter without a tensor")
        return made

    def numbers(self, stored: Stored) -> Tensor:
        """(count,) of a storage, mapped where their place allows it."""
        if stored.key not in self.flat:
            data = self.archive.storages.get(stored.key)
            if data is None or len(data) != stored.count * item_size(stored):
                raise Refused(f"truncated or damaged: storage {quoted(stored.key)} has not the numbers that it should")
            made = numbers_of(data, DTYPES[stored.name[len("torch ") : -len("Storage")]])
            self.flat[stored.key] = stored.name, made
        name, made = self.flat[stored.key]
        if name != stored.name:
            raise Refused(f"storage {quoted(stored.key)} is of two types")
        return made


def numbers_of(data: memoryview, dtype: torch.dtype) -> Tensor:
    """All numbers in the bytes, (N,): the bytes themselves, or, where these are not aligned, a copy."""
    if len(data) == 0:
        return torch.empty(0, dtype=dtype)
    made = torch.frombuffer(data, dtype=dtype)
    if made.data_ptr() % made.element_size():
        made = torch.frombuffer(bytearray(data), dtype=dtype)
    return made


def is_versions(found: Any) -> bool:
    """{"version": 2}, as a module leaves it."""
    return isinstance(found, dict) and all(value is None or isinstance(value, int) for value in found.values())


def integers(found: Any) -> Tuple[int, ...]:
    """Sizes or strides; Refused where they are anything else."""
    if isinstance(found, Call) and found.name == "torch Size" and len(found.arguments) == 1:
        found = found.arguments[0]
    if not isinstance(found, (tuple, list)) or len(found) > 8 or any(type(n) is not int or n < 0 for n in found):
        raise Refused("it has a tensor whose sizes are no numbers")
    return tuple(found)


def dictionary(state: Dict[str, Any]) -> Dictionary:
    """fairseq's, from its fields; Refused where they contradict each other."""
    symbols, count = state.get("symbols"), state.get("count")
    wrong = not is_list_of(symbols, str) or not is_list_of(count, int) or len(count) != len(symbols)
    if not wrong and any(symbol.split() != [symbol] or not is_plain(symbol) for symbol in symbols):
        raise Refused("it has a dictionary with white space or control characters in a symbol")
    if wrong or state.get("indices") != indices_of(symbols):
        raise Refused("it has a dictionary whose symbols, counts and indices do not fit together")
    made = Dictionary()
    made.symbols, made.count, made.indices = symbols, count, state["indices"]
    made.nspecial = state.get("nspecial", -1)
    for kind in SPECIALS:
        index, word = state.get(f"{kind}_index"), state.get(f"{kind}_word")
        if type(index) is not int or not 0 <= index < len(symbols) or not isinstance(word, str):
            raise Refused(f"it has a dictionary without its {kind} symbol")
        setattr(made, f"{kind}_index", index)
        setattr(made, f"{kind}_word", word)
    if type(made.nspecial) is not int or not 0 <= made.nspecial <= len(symbols):
        raise Refused(f"it has a dictionary of {len(symbols)} symbols with nspecial {quoted(made.nspecial)}")
    return made


def is_list_of(found: Any, kind: type) -> bool:
    return isinstance(found, list) and all(type(item) is kind for item in found)


def indices_of(symbols: List[str]) -> Optional[Dict[str, int]]:
    """Where each symbol stands, the last place of one that is there twice."""
    return {symbol: index for index, symbol in enumerate(symbols)}
