"""A load run: reads and writes over several workers, each answer compared with what was acknowledged before it."""
