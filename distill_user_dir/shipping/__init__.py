"""A student outside of training: what it says of a recording of any length, and what it is exported to.

- runner.py   recordings -> words, with any model that gives log-probabilities; it stands alone, and exports hold a copy
- checkpoint_model.py   a checkpoint as such a model
- graph.py       a student as an ONNX graph
- int8.py        that graph with weights of 8-bit integers
- onnx_folder.py, sherpa_folder.py, hf_folder.py, web_folder.py   the folder of each format
- difference.py  how an export differs from its checkpoint

Nothing here trains.
"""
