"""What follows from events: what sells best, and what has changed last. Written by consumers, never by a request."""
