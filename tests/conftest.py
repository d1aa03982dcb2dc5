"""One thread: the tests' tensors are small, and test processes run side by side."""

import torch

torch.set_num_threads(1)
