"""What is read from disk for a batch: manifests, audio, frame labels, statistics, and what to do where they are bad.

No networks here."""
