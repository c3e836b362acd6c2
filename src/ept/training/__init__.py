"""Training of a pack: many runs of one method, task and regime over one frozen backbone."""
