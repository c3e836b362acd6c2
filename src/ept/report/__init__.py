"""What the report of a finished run holds beside its tables and figures: the landing page and what the run cost."""
