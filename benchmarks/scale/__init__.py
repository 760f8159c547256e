"""What grows with the size of a run, beside a run of a tenth of it."""
