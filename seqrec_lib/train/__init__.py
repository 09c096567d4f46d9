"""Training: what a step computes (`step`), the loop over steps (`epoch`) and that over epochs (`loop`)."""
