"""One module a job kind; `execute.py` is the table. Runs in the supervisor, never in a subject."""
