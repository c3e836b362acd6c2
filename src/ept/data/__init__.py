"""From published data sets to batches: sources, splits, k-shot samples, tokenised files, bucketed batches."""
