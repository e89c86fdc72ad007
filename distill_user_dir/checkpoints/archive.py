"""The bytes of a checkpoint -> its pickle and its storages. Nothing else in this package reads them.

Two containers, as torch.save writes them: an uncompressed zip archive, and, before torch 1.6, pickles with the storages
behind them. Which of them a file is, its first bytes say; it is read by the rules below and by no others, so that what
was checked is what is loaded. A file is mapped: its storages take memory as they are read.
"""

import mmap
import os
import stat
import struct
import zlib
from typing import Dict, List, NamedTuple, Tuple

from distill_user_dir.checkpoints.pickled import Pickle, Refused, Stored
from distill_user_dir.messages import quoted

ENTRY, CENTRAL, LOCAL = struct.Struct("<4s6H3I5H2I"), b"PK\x01\x02", b"PK\x03\x04"
HEADER = struct.Struct("<4s5H3I2H")
END = struct.Struct("<4s4H2IH")
END64, LOCATOR = struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
MOST_ENTRIES = 200_000
# what torch.save puts beside data.pkl and data/N
BESIDE = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the older container
ITEM_SIZES = {"Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2}


class Archive(NamedTuple):
    """root: of the unpickled values, with `Stored` where a storage belongs; storages: by key; size: of the file."""

    root: object
    storages: Dict[str, memoryview]
    size: int


def item_size(stored: Stored) -> int:
    return ITEM_SIZES.get(stored.name[len("torch ") : -len("Storage")], 1)


def mapped(file: int) -> memoryview:
    """The content of an open regular file, private to this process; Refused where it is none."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise Refused("no regular file")
    if found.st_size == 0:
        raise Refused("an empty file")
    return memoryview(mmap.mmap(file, found.st_size, access=mmap.ACCESS_COPY))


def read(data: memoryview) -> Archive:
    """Refused where the bytes are no checkpoint's."""
    if data[:4] == LOCAL:
        return read_zip(data)
    if data[:1] == b"\x80":  # the first opcode of every pickle
        return read_older(data)
    raise Refused("no PyTorch file, or its beginning is damaged; fetch or write it again")


# --- zip archives


class Entry(NamedTuple):
    """start: of its local header; begin, end: of its bytes."""

    name: str
    start: int
    begin: int
    end: int
    crc: int


def read_zip(data: memoryview) -> Archive:
    parts = {entry.name: data[entry.begin : entry.end] for entry in entries(data)}
    if "data.pkl" not in parts:
        raise Refused("an archive without data.pkl: nothing that torch.save wrote")
    if bytes(parts.get("byteorder", b"little")) != b"little":
        raise Refused("written on a big-endian machine; write it again on another")
    pickle = Pickle(parts["data.pkl"])
    root = pickle.read()
    if pickle.end != len(parts["data.pkl"]):
        raise Refused("its pickle goes on behind its end")
    storages = {name[len("data/") :]: part for name, part in parts.items() if name.startswith("data/")}
    return Archive(root, storages, len(data))


def entries(data: memoryview) -> List[Entry]:
    """All entries in the order of their places, which do not overlap; Refused for what torch.save never writes."""
    first, last, count = central_directory(data)
    if count > MOST_ENTRIES:
        raise Refused(f"an archive of more than {MOST_ENTRIES} entries")
    found, at = [], first
    for _ in range(count):
        entry, at = read_entry(data, at, first)
        found.append(entry)
    if at != last:
        raise Refused("its archive's directory does not end where it should")
    found.sort(key=lambda entry: entry.start)
    if any(one.end > other.start for one, other in zip(found, found[1:])):
        raise Refused("parts of its archive overlap")
    folder = found[0].name.partition("/")[0] if found else ""
    named = [entry._replace(name=entry.name[len(folder) + 1 :]) for entry in found]
    if any(not entry.name.startswith(f"{folder}/") for entry in found):
        raise Refused("an archive of more than one folder")
    if len({entry.name for entry in named}) != len(named):
        raise Refused("two parts of its archive have the same name")
    for entry in named:
        if entry.name not in ("data.pkl", *BESIDE) and not entry.name.startswith("data/"):
            raise Refused(f"its archive holds {quoted(entry.name)}, which torch.save does not write")
    return named


def unpack(form: struct.Struct, data: memoryview, at: int, signature: bytes) -> Tuple:
    """The fields behind a signature; Refused where it is another, or the file ends."""
    if at < 0 or at + form.size > len(data):
        raise Refused("truncated: the end of its archive is missing; fetch or write it again")
    fields = form.unpack_from(data, at)
    if fields[0] != signature:
        raise Refused("truncated, or its archive is damaged; fetch or write it again")
    return fields[1:]


def central_directory(data: memoryview) -> Tuple[int, int, int]:
    """Where the directory begins and ends, and its number of entries. It ends where the records of its end begin, and
    these end with the file: there is one directory."""
    end = len(data) - END.size
    disk, start_disk, here, count, size, first, comment = unpack(END, data, end, b"PK\x05\x06")
    if disk or start_disk or here != count or comment:
        raise Refused("its archive has a comment or several disks, which torch.save never writes")
    last = end
    if end >= LOCATOR.size and data[end - LOCATOR.size : end - LOCATOR.size + 4] == b"PK\x06\x07":
        _, last, disks = unpack(LOCATOR, data, end - LOCATOR.size, b"PK\x06\x07")
        length, _, _, _, _, here64, count64, size64, first64 = unpack(END64, data, last, b"PK\x06\x06")
        if last + END64.size != end - LOCATOR.size or length != END64.size - 12 or disks != 1 or here64 != count64:
            raise Refused("the end of its archive is not as torch.save writes it")
        for short, most, long in ((count, 0xFFFF, count64), (size, 2**32 - 1, size64), (first, 2**32 - 1, first64)):
            if short not in (most, long):
                raise Refused("its archive has two directories")
        count, size, first = count64, size64, first64
    if first + size != last:
        raise Refused("its archive's directory is not at its end")
    return first, last, count


def read_entry(data: memoryview, at: int, limit: int) -> Tuple[Entry, int]:
    """The entry whose directory record is at `at`, and where the next one is; its bytes end before `limit`."""
    fields = unpack(ENTRY, data, at, CENTRAL)
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size, comment, disk, _, _, start = fields
    name = bytes(data[at + ENTRY.size : at + ENTRY.size + name_size])
    extra = bytes(data[at + ENTRY.size + name_size : at + ENTRY.size + name_size + extra_size])
    if method != 0 or flags & ~0x0808:
        raise Refused("its content is compressed or encrypted, which torch.save never does: it may unpack to any size")
    if comment or disk:
        raise Refused("its archive has comments or several disks, which torch.save never writes")
    size, packed, start = with_zip64(extra, size, packed, start)
    local = unpack(HEADER, data, start, LOCAL)
    begin = start + HEADER.size + local[-2] + local[-1]
    if bytes(data[start + HEADER.size : start + HEADER.size + local[-2]]) != name or local[2] != 0:
        raise Refused("a part of its archive has two names")
    if size != packed or begin + size > limit:
        raise Refused("its parts claim to be larger than the file")
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("a name in its archive is no UTF-8") from None
    return Entry(text, start, begin, begin + size, crc), at + ENTRY.size + name_size + extra_size


def with_zip64(extra: bytes, *values: int) -> List[int]:
    """Sizes and place, those that do not fit 32 bits from the zip64 field."""
    long, at = b"", 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        long = extra[at + 4 : at + 4 + size] if kind == 1 else long
        at += 4 + size
    found = []
    for value in values:
        if value == 0xFFFFFFFF:
            if len(long) < 8:
                raise Refused("a part of its archive has no size")
            value, long = struct.unpack_from("<Q", long)[0], long[8:]
        found.append(value)
    return found


# --- the container of before torch 1.6


def read_older(data: memoryview) -> Archive:
    """Pickles of a magic number, a version, the machine, the content and the keys of the storages; then of each storage
    its count and its numbers."""
    magic = Pickle(data)
    if magic.read() != MAGIC:
        raise Refused("no PyTorch file, or its beginning is damaged; fetch or write it again")
    version = Pickle(data, magic.end)
    if version.read() != VERSION:
        raise Refused("written by another PyTorch than there ever was")
    machine = Pickle(data, version.end)
    found = machine.read()
    if not isinstance(found, dict) or found.get("little_endian") is not True:
        raise Refused("written on a big-endian machine, or damaged; write it again on another")
    content = Pickle(data, machine.end)
    root = content.read()
    listed = Pickle(data, content.end)
    keys = listed.read()
    known = {one.key: one for one in content.stored}
    if (
        not isinstance(keys, list)
        or len(keys) != len(known)
        or any(not isinstance(k, str) or k not in known for k in keys)
    ):
        raise Refused("its list of storages is damaged")
    storages, at = {}, listed.end
    for key in keys:
        size = known[key].count * item_size(known[key])
        if at + 8 + size > len(data):
            raise Refused("truncated: numbers are missing at its end; fetch or write it again")
        if struct.unpack_from("<q", data, at)[0] != known[key].count or key in storages:
            raise Refused("its storages are damaged")
        storages[key] = data[at + 8 : at + 8 + size]
        at += 8 + size
    if at != len(data):
        raise Refused("it goes on behind its end, as nothing that torch.save wrote")
    return Archive(root, storages, len(data))


# --- damage


def damaged_part(data: memoryview) -> str:
    """The first part of a zip archive whose bytes are not those that were written, by their checksums, or nothing; the
    older container has none."""
    if data[:4] != LOCAL:
        return ""
    for entry in entries(data):
        found = 0
        for at in range(entry.begin, entry.end, 1 << 20):
            found = zlib.crc32(data[at : min(at + (1 << 20), entry.end)], found)
        if found != entry.crc:
            return entry.name
    return ""
