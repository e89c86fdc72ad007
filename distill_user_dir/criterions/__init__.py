"""The criterion that fairseq registers: it weighs, sums and logs. The arithmetic of a loss is in losses/."""
