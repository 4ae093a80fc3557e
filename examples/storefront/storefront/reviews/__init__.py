"""What customers say of a product."""
