"""What would make a GPU's queue run dry: operations by which the CPU reads what the device has computed.

There need be no GPU: a dispatch mode follows the tensors that would be on it.
"""

import collections
import traceback
import weakref

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

ROOT = "distill_user_dir"
READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "bincount")


class CountWaits(TorchDispatchMode):
    """`waits`: (operation, place in our code) -> how often.

    On the device are the tensors given and all that was computed from any of them. A boolean index is a `nonzero`, and
    a `bincount` asks for its size. `launches`: operations on such tensors.
    """

    def __init__(self, tensors):
        super().__init__()
        self.ids = {}
        self.waits = collections.Counter()
        self.launches = 0
        for tensor in tensors:
            self.mark(tensor)

    def mark(self, tensor):
        self.ids[id(tensor)] = weakref.ref(tensor)

    def is_marked(self, tensor):
        known = self.ids.get(id(tensor))
        return known is not None and known() is tensor

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named = named or {}
        flat = tree_flatten((arguments, named))[0]
        tensors = [one for one in flat if isinstance(one, torch.Tensor)]
        marked = any(self.is_marked(tensor) for tensor in tensors)
        name = function.overloadpacket.__name__
        if marked and self.reads(name, arguments):
            self.waits[(name, place())] += 1
        result = function(*arguments, **named)
        self.launches += marked
        if marked:
            for one in tree_flatten(result)[0]:
                if isinstance(one, torch.Tensor):
                    self.mark(one)
        return result

    @staticmethod
    def reads(name, arguments):
        if name in READS:
            return True
        indices = arguments[1] if name in ("index", "index_put", "index_put_") else ()
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in indices)


class CountCopies(TorchFunctionMode):
    """`waits`: place in our code -> how often a tensor of the CPU's is copied to the device from ordinary memory, which
    waits for all that the device was told before. `counted`: the mode that knows what is on the device."""

    def __init__(self, counted):
        super().__init__()
        self.counted, self.waits = counted, collections.Counter()

    def __torch_function__(self, function, types, arguments=(), named=None):
        named = named or {}
        wanted = [one for one in (*arguments[1:], *named.values()) if isinstance(one, (torch.device, torch.Tensor))]
        if function in (torch.Tensor.to, torch.Tensor.cuda) and wanted and not self.counted.is_marked(arguments[0]):
            if "to_device" not in place():
                self.waits[place()] += 1
        return function(*arguments, **named)


def place():
    """The innermost frame of our package."""
    ours = [frame for frame in traceback.extract_stack() if f"/{ROOT}/" in frame.filename]
    if not ours:
        return "backward"
    return f"{ours[-1].filename.rpartition('/')[2]}:{ours[-1].lineno} {ours[-1].name}"
