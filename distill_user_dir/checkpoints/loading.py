"""The one door: a file that would be unpickled is read here, whoever asks for it, and nothing of it runs.

`install` puts it in the place of torch.load, which is what fairseq calls (for a checkpoint to resume from or to decode,
and for a language model). Messages between a run's own workers are no files: those of torch.distributed, and of
fairseq.distributed.utils.all_gather_list, do not come by here.

A file is at no time read by another reader, takes memory in the measure of its own size, and is refused, in one line,
unless it is of a kind in layouts/.
"""

import argparse
import contextlib
import os
import stat
from typing import Any, Dict, Iterator

import torch
from fairseq import checkpoint_utils
from torch import Tensor

from distill_user_dir.checkpoints import archive, sections
from distill_user_dir.checkpoints.contents import Contents
from distill_user_dir.checkpoints.pickled import Refused
from distill_user_dir.messages import plain, reason

torchs_load = torch.load  # torch's own, for a program of one's own that reads other files too
fairseqs_load = checkpoint_utils.load_checkpoint_to_cpu
_of_fairseqs = False  # whether fairseq asks for a checkpoint, and nothing else will do
_mapped = False  # whether torch.load gives tensors that lie in the file


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: one line with its path, the reason and the way out."""

    def __init__(self, message: str):
        super().__init__(plain(message))


def load(path: str, mapped: bool = False) -> Dict[str, Any]:
    """The content of a fairseq checkpoint of a known kind, on the CPU; CheckpointError for everything else.

    mapped: its tensors lie in the file, take memory as they are read, and changes to them stay in this process. A file
    that is overwritten or cut meanwhile ends the process: for those who copy what they need and let go of the rest.
    """
    with opened(path) as file, refusals(path):
        content = read(file)
        sections.settle(content)
    return content if mapped else moved(content, torch.device("cpu"), {})


def damage(path: str) -> str:
    """What is wrong with a checkpoint: it cannot be loaded, or its bytes are not those that were written (by their
    checksums). Nothing where it is whole."""
    try:
        load(path, mapped=True)
        with opened(path) as file, refusals(path):
            part = archive.damaged_part(archive.mapped(file.fileno()))
    except CheckpointError as error:
        return str(error)
    return part and f"{path}: {part} is damaged"


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """A regular file for reading; opening a pipe would wait for whoever writes to it."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
        file = open(path, "rb") if regular else None
    except (FileNotFoundError, NotADirectoryError):
        # hydra changes the working directory
        where = "" if os.path.isabs(path) else f" in {os.getcwd()}; give the whole path"
        raise CheckpointError(f"{path}: no such file{where}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({reason(error)})") from None
    if file is None:
        raise CheckpointError(f"{path}: no such file, it is a {'folder' if os.path.isdir(path) else 'device or pipe'}")
    with file:
        yield file


@contextlib.contextmanager
def refusals(path: str) -> Iterator[None]:
    """Whatever is refused in here is told with the file's name."""
    try:
        yield
    except Refused as error:
        raise CheckpointError(f"{path}: refused, {error}") from None
    except CheckpointError:
        raise
    except (OSError, RecursionError, MemoryError, RuntimeError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: cannot be read ({reason(error)})") from None


def read(file: Any) -> Any:
    """The values in an open file (or in memory); Refused where it is nothing that torch.save wrote of such."""
    try:
        data = archive.mapped(file.fileno())
    except (AttributeError, OSError):  # in memory
        data = memoryview(bytearray(file.read()))
    contents = Contents(archive.read(data))
    return contents.value(contents.archive.root)


def torch_load(f: Any, map_location: Any = None, pickle_module: Any = None, **options: Any) -> Any:
    """In the place of torch.load: a fairseq checkpoint of a known kind, or plain containers of tensors and values.

    map_location: a device to move tensors to; the CPU by default, and for anything else. Other options, such as
    weights_only=False, change nothing. CheckpointError for what is refused.
    """
    if isinstance(f, (str, os.PathLike)):
        with opened(os.fspath(f)) as file:
            return torch_load(file, map_location, **options)
    with refusals(str(getattr(f, "name", "a checkpoint in memory"))):
        content = read(f)
        if _of_fairseqs or sections.is_checkpoint(content):
            sections.settle(content)
    device = torch.device(map_location) if isinstance(map_location, (str, torch.device, int)) else torch.device("cpu")
    return content if _mapped and device.type == "cpu" else moved(content, device, {})


def moved(node: Any, device: torch.device, known: Dict[Any, Tensor]) -> Any:
    """Tensors copied to a device, in the containers that they are in; those that share memory still do."""
    if isinstance(node, Tensor):
        place = node.untyped_storage().data_ptr(), node.dtype
        if place not in known:
            known[place] = torch.empty(0, dtype=node.dtype).set_(node.untyped_storage()).to(device, copy=True)
        return known[place].as_strided(node.size(), node.stride(), node.storage_offset())
    if isinstance(node, argparse.Namespace):
        moved(vars(node), device, known)
    elif isinstance(node, dict):
        for key, item in node.items():
            node[key] = moved(item, device, known)
    elif isinstance(node, list):
        node[:] = [moved(item, device, known) for item in node]
    elif isinstance(node, tuple) and not isinstance(node, torch.Size):
        return tuple(moved(item, device, known) for item in node)
    return node


@contextlib.contextmanager
def mapped_files() -> Iterator[None]:
    """In here torch.load gives tensors that lie in the file: for what writes no checkpoints over those it has read."""
    global _mapped
    before, _mapped = _mapped, True
    try:
        yield
    finally:
        _mapped = before


def load_checkpoint_to_cpu(*arguments: Any, **options: Any) -> Dict[str, Any]:
    """fairseq's, of a checkpoint of a known kind and nothing else."""
    global _of_fairseqs
    before, _of_fairseqs = _of_fairseqs, True
    try:
        return fairseqs_load(*arguments, **options)
    finally:
        _of_fairseqs = before


def install() -> None:
    """From here on torch.load is the door."""
    torch.load = torch.serialization.load = torch_load
    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
