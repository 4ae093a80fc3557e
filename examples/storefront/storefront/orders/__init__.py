"""What was bought: placed once, however often it is sent."""
