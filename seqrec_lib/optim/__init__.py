"""The paper's third direction: USGM and adaptive batching (section 3.6). Nothing here imports upwards."""
