"""Effects: what the decisions of `_core` are carried out with. Siblings share data, never secrets."""
