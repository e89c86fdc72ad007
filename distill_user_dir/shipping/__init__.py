"""A student outside of training: what it says of a recording of any length, and what it is exported to.

- runner.py   recordings -> words, with any model that gives log-probabilities; it stands alone, and exports hold a copy
- checkpoint_model.py   a checkpoint as such a model
- graph.py       a student as an ONNX graph
- onnx_folder.py the folder of an export, and how it differs from the checkpoint

Nothing here trains.
"""
