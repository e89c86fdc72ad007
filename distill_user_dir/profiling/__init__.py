"""What is measured of models: their sizes and speeds, for profile.py (rows, figures, and their report), and what two of
them have in common, for similarity.py."""
