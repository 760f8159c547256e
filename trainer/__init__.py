"""Stage two: one student over the merged vocabulary, trained from the pipeline's Parquet."""
