"""The catalogue as a graph, to read: any query by POST, those of `persisted/` also by GET, which is cached."""
