"""Deciding and retrying one call; needs the standard library only."""
