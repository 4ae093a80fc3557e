"""Places that several processes share. Each module is one, and knows the one library that it needs."""
