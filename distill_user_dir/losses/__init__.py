"""Losses: pure functions of tensors that return sums. No weights, no logging and no config here."""
