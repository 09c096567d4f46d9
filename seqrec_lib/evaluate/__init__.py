"""From scores to every user's rank, and from ranks to metrics."""
