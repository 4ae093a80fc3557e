"""Plain data and pure decisions: no clock, no I/O, no randomness; `now` is an argument."""
