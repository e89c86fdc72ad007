"""The models that fairseq registers, and their configs. What they are made of is in modules/."""
