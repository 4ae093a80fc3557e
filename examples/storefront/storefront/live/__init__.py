"""The stock as it changes, for browsers that stay: by WebSocket and by server-sent events."""
