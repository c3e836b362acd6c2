"""From published data sets to batches: sources, splits, k-shot samples, tokenized files, bucketed batches."""
