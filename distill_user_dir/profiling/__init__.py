"""The sizes and speeds of models, for profile.py: rows, figures, and their report."""
