"""What is only speed: compiled CPU kernels of the mixers, compiled and captured serving, training steps as CUDA graphs.

Nothing here decides a number beyond rounding, and the library works without this folder, slower: mixers take their
matrix form, models are served by their own pass, training takes the ordinary loop. Each part is imported where it is
used, by the one function there that can do without it.
"""
