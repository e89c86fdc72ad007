"""Zip archives written by hand: what torch.save never writes, and files with holes of any size."""

import struct

LOCAL, CENTRAL, END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
END64, LOCATOR = struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
FULL = 0xFFFFFFFF


class Part:
    """An entry: `content` are its bytes, or the size of a hole of zeros. The rest is what its headers say of it."""

    def __init__(self, name, content, **told):
        self.name, self.content = name.encode(), content
        self.size = content if isinstance(content, int) else len(content)
        self.told = {"method": 0, "flags": 0, "size": self.size, "local_name": self.name, "comment": b"", **told}


def write(path, parts, folder="archive/", before=b"", behind=b"", **end):
    """An archive of the parts. before, behind: bytes before the first part and behind the end; end: fields of the end
    record that are to be others than they should."""
    with open(path, "wb") as file:
        file.write(before)
        directory = b"".join(write_part(file, part, folder.encode()) for part in parts)
        write_end(file, directory, len(parts), end)
        file.write(behind)
    return str(path)


def write_part(file, part, folder):
    """Writes a part -> its record in the directory."""
    told, start = part.told, file.tell()
    name, local_name = folder + part.name, folder + told["local_name"]
    long = struct.pack("<HHQQ", 1, 16, told["size"], told["size"])
    long += padding(start + LOCAL.size + len(local_name) + len(long))
    sizes = FULL, FULL, len(local_name), len(long)
    file.write(LOCAL.pack(b"PK\x03\x04", 45, told["flags"], told["method"], 0, 0, 0, *sizes))
    file.write(local_name + long)
    if isinstance(part.content, int):
        file.seek(part.size, 1)
    else:
        file.write(part.content)
    start = told.get("start", start)
    sizes = (told["size"], told["size"], start)
    fields = struct.pack("<QQQ", *sizes) if told.get("extra") is None else told["extra"]
    extra = struct.pack("<HH", 1, len(fields)) + fields
    record = CENTRAL.pack(
        *(b"PK\x01\x02", 45, 45, told["flags"], told["method"], 0, 0, 0, FULL, FULL),
        *(len(name), len(extra), len(told["comment"]), 0, 0, 0, FULL),
    )
    return record + name + extra + told["comment"]


def padding(at):
    """A field behind which the content begins at a multiple of 64, as torch.save has it."""
    size = -(at + 4) % 64
    return b"FB" + struct.pack("<H", size) + bytes(size)


def write_end(file, directory, count, end):
    """The directory and the records of its end, with zip64 numbers as torch.save writes them."""
    first = file.tell()
    file.write(directory)
    last = file.tell()
    said = {"count": count, "size": len(directory), "first": first, "short_count": count, "short_first": FULL, **end}
    file.write(
        END64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, said["count"], said["count"], said["size"], said["first"])
        + LOCATOR.pack(b"PK\x06\x07", 0, said.get("last", last), 1)
        + END.pack(b"PK\x05\x06", 0, 0, said["short_count"], said["short_count"], FULL, said["short_first"], 0)
    )
