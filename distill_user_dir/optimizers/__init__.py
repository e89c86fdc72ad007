"""The optimizers that fairseq registers."""
