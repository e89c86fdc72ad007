"""The pickle of a checkpoint, read without calling anything: plain values, and the names of what it would have called.

A checkpoint needs some thirty of pickle's opcodes. Any other is refused, and so is any name that is not listed here.
"""

import struct
from typing import Any, Callable, Dict, List, Optional

from distill_user_dir.messages import quoted

OPCODES = 1_000_000  # of one pickle, at most; a HuBERT X-Large with its optimizer's state has 60,000
LONGEST_INTEGER = 10  # bytes: torch.save's magic number
MARKS = 1000  # open at a time
KEYS, LARGEST_KEY = (str, int), 2**31
TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
OTHERS = ("collections OrderedDict", "torch Size", "fairseq.data.dictionary Dictionary", "argparse Namespace")
CALLABLE = frozenset([*OTHERS, *(f"torch._utils {name}" for name in TENSORS)])
KINDS = "Float Double Half BFloat16 Long Int Short Char Byte Bool".split()
STORAGES = frozenset(f"torch {kind}Storage" for kind in KINDS)
DTYPES = frozenset(
    f"torch {kind}" for kind in "float16 float32 float64 bfloat16 int8 int16 int32 int64 uint8 bool".split()
)
KNOWN = CALLABLE | STORAGES | DTYPES


class Refused(ValueError):
    """Content that no checkpoint of a known kind has."""


class Name:
    """A class or function by `module name`."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class Call:
    """What a pickle would have called: `name` with `arguments`; `state` is what it would have set on the result, and
    `items` what it would have put into it (an OrderedDict)."""

    __slots__ = ("name", "arguments", "state", "items")

    def __init__(self, name: str, arguments: tuple):
        self.name, self.arguments = name, arguments
        self.state: Optional[dict] = None
        self.items: Dict[Any, Any] = {}


class Stored:
    """A reference to a storage: its class by `module name`, its key, and its count of numbers."""

    __slots__ = ("name", "key", "count")

    def __init__(self, name: str, key: str, count: int):
        self.name, self.key, self.count = name, key, count


class Pickle:
    """Reads one pickle from `data`, beginning at `start`; `end` is behind its last byte once it was read."""

    def __init__(self, data: memoryview, start: int = 0):
        self.data, self.end = data, start
        self.stack: List[Any] = []
        self.marks: List[List[Any]] = []  # the stacks below each open mark
        self.memo: Dict[int, Any] = {}
        self.stored: List[Stored] = []  # every reference to a storage

    def read(self) -> Any:
        """The value; Refused where the pickle is cut, has an opcode that is not needed, or is too long."""
        try:
            for _ in range(OPCODES):
                opcode = self.take(1)[0]
                if opcode == STOP:
                    if len(self.stack) != 1 or self.marks:
                        raise Refused("its pickle ends in the middle of a value")
                    return self.stack[0]
                read = READERS.get(opcode)
                if read is None:
                    raise Refused(f"its pickle has opcode {bytes([opcode])!r}, which no checkpoint needs")
                read(self)
        except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
            raise Refused(f"its pickle is damaged near byte {self.end} ({type(error).__name__})") from None
        raise Refused(f"its pickle has more than {OPCODES} opcodes")

    def take(self, count: int) -> memoryview:
        found = self.data[self.end : self.end + count]
        if len(found) != count:
            raise Refused("its pickle is cut")
        self.end += count
        return found

    def number(self, kind: str) -> int:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def line(self) -> str:
        """Text up to the end of a line, as names are written."""
        for length in range(256):
            if self.data[self.end + length] == 10:
                text = str(self.take(length), "utf-8")
                self.end += 1
                return text
        raise Refused("its pickle has a name of more than 255 bytes")

    def pop_marked(self) -> List[Any]:
        """Everything above the last mark."""
        found, self.stack = self.stack, self.marks.pop()
        return found

    # --- an opcode each

    def protocol(self) -> None:
        if self.number("B") > 4:
            raise Refused("its pickle is of a protocol above 4")

    def frame(self) -> None:
        self.take(8)

    def mark(self) -> None:
        if len(self.marks) >= MARKS:
            raise Refused(f"its pickle is nested more than {MARKS} deep")
        self.marks.append(self.stack)
        self.stack = []

    def text(self, size: str) -> None:
        self.stack.append(str(self.take(self.number(size)), "utf-8", "surrogatepass"))

    def long(self) -> None:
        size = self.number("B")
        if size > LONGEST_INTEGER:
            raise Refused(f"it has an integer of more than {LONGEST_INTEGER} bytes")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def float(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise Refused("its pickle is damaged: a tuple of more values than there are")
        self.stack[len(self.stack) - size :] = [tuple(self.stack[len(self.stack) - size :])]

    def marked_tuple(self) -> None:
        items = tuple(self.pop_marked())
        self.stack.append(items)

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def append(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused(f"its pickle appends to a {type(target).__name__}")
        target.extend(items)

    def set_items(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call) and target.name == "collections OrderedDict":
            target = target.items
        if type(target) is not dict or len(items) % 2:
            raise Refused(f"its pickle sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in KEYS or type(key) is int and abs(key) > LARGEST_KEY:  # those may all have one hash
                raise Refused(f"a dict in it has the key {quoted(key)}; keys are text, or integers of 32 bits")
            target[key] = value

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused("its pickle is damaged: a name that is no text")
        found = f"{module} {name}"
        if found not in KNOWN:
            raise Refused(f"it holds more than weights: {quoted(found.replace(' ', '.'))}")
        self.stack.append(Name(found))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple or not isinstance(function, Name) or function.name not in CALLABLE:
            raise Refused("its pickle calls what is no function")
        self.stack.append(Call(function.name, arguments))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Call) or type(state) is not dict or target.state is not None:
            raise Refused("its pickle sets the state of what has none")
        target.state = state

    def persistent(self) -> None:
        found = self.stack.pop()
        if (
            type(found) is not tuple
            or len(found) not in (5, 6)
            or found[0] != "storage"
            or found[5:] not in ((), (None,))
        ):
            raise Refused("its pickle refers to something else than a storage")
        _, kind, key, _, count = found[:5]
        known = isinstance(kind, Name) and kind.name in STORAGES
        if not known or not isinstance(key, str) or type(count) is not int or count < 0:
            raise Refused("its pickle refers to a storage of an unknown kind")
        self.stored.append(Stored(kind.name, key, count))
        self.stack.append(self.stored[-1])

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)


STOP = ord(".")
READERS: Dict[int, Callable[[Pickle], None]] = {
    0x80: Pickle.protocol,
    0x95: Pickle.frame,
    ord("("): Pickle.mark,
    ord("X"): lambda p: p.text("I"),
    0x8C: lambda p: p.text("B"),
    ord("J"): lambda p: p.stack.append(p.number("i")),
    ord("K"): lambda p: p.stack.append(p.number("B")),
    ord("M"): lambda p: p.stack.append(p.number("H")),
    0x8A: Pickle.long,
    ord("G"): Pickle.float,
    ord("N"): lambda p: p.stack.append(None),
    0x88: lambda p: p.stack.append(True),
    0x89: lambda p: p.stack.append(False),
    ord("]"): lambda p: p.stack.append([]),
    ord("}"): lambda p: p.stack.append({}),
    ord(")"): lambda p: p.stack.append(()),
    0x85: lambda p: p.tuple(1),
    0x86: lambda p: p.tuple(2),
    0x87: lambda p: p.tuple(3),
    ord("t"): Pickle.marked_tuple,
    ord("a"): lambda p: p.append([p.stack.pop()]),
    ord("e"): lambda p: p.append(p.pop_marked()),
    ord("s"): lambda p: p.set_items([p.stack.pop(-2), p.stack.pop()]),
    ord("u"): lambda p: p.set_items(p.pop_marked()),
    ord("q"): lambda p: p.put(p.number("B")),
    ord("r"): lambda p: p.put(p.number("I")),
    0x94: lambda p: p.put(len(p.memo)),
    ord("h"): lambda p: p.get(p.number("B")),
    ord("j"): lambda p: p.get(p.number("I")),
    ord("c"): lambda p: p.name(p.line(), p.line()),
    0x93: Pickle.stack_name,
    ord("R"): Pickle.call,
    0x81: Pickle.call,
    ord("b"): Pickle.build,
    ord("Q"): Pickle.persistent,
}
