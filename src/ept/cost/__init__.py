"""What a pack costs, reckoned before anything is downloaded: parameters, operations, memory, time. No torch."""
