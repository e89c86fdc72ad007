"""What `python -m distill_user_dir.train` changes of fairseq's training, so that a long run loses nothing: processes.py
(one or several, and all of it put in place), saving.py, resuming.py, preemption.py (SIGTERM)."""
