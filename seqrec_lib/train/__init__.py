"""Training: what a step computes, and the loop around it."""
