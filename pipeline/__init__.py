"""Stage one: text to masked rows with their teachers' top-k predictions, as Parquet."""
