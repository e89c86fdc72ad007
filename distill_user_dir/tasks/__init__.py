"""The task that fairseq registers: where teacher, student and data meet.

What a task decides is in teaching/ (students and teachers) and data/ (manifests and batches); nothing here computes."""
