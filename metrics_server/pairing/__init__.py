"""Pairs predictions with truths: from observations to one change of the store, and what falls due with time."""
