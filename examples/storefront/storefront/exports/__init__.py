"""The catalogue in one file: streamed from the database to whoever asks, and stored on its way."""
