"""The diamonds: one, pages of them, facets, price statistics, and changes to them."""
