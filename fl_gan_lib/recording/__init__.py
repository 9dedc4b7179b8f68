"""What a run needs to be recorded and continued: recorder, checkpoints, states, files, validation, faults."""
