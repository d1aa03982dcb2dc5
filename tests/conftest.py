"""One thread: the tests' tensors are small, and threads would only wait for each other.

And Ctrl-C: a job in the background of a shell ignores it and so would the processes that tests start and interrupt.
"""

import signal

import torch

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)
