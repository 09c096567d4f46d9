"""Servers by compiled loops and by CUDA graphs, for `seqrec_lib.serving.serve`."""
