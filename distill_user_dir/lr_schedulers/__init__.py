"""The learning rate schedules that fairseq registers: pure functions of the update count."""
