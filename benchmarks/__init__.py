"""Performance comparison with PEFT and with the DePT recipe: `make bench`, `make bench-full`."""
