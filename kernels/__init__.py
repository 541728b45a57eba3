"""The batcher's and the models' hot spots as kernels, each beside a plain torch reference.

Importing this package loads neither torch nor Triton; README.md says what is used when.
"""
