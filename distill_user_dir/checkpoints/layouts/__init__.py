"""The kinds of model that a checkpoint may hold, a file each: under which names, with which fields and which weights.

A new kind is one more file with a `Layout`, and its name in `LAYOUTS` of ../sections.py. Layouts look at values; they
build nothing and read no files.
"""
