"""A shop for 53,940 real diamonds: a FastAPI service that shows Tiercel at work."""
