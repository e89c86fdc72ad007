"""Checkpoints: everything that is unpickled from a file, and models built from it.

- loading.py    the one door: a path -> its content, checked; it stands in the place of torch.load
- archive.py    the bytes of a file -> its pickle and its storages
- pickled.py    a pickle -> plain values and names of classes, without calling anything
- contents.py   those and the storages -> tensors, dictionaries, containers
- layouts/      the kinds of model that a checkpoint may hold, a file each
- sections.py   the parts of a checkpoint, and which layout checks it
- hubert.py     the HuBERT (or student) in a checkpoint
- building.py   a model from its checkpoint

Nothing here trains or decodes, and nothing else in this package reads a checkpoint's bytes.
"""
