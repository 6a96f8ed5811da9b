import logging
import os

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

# The suite may share its machine with a training; two threads are enough for
# tensors of a few kilobytes.
torch.set_num_threads(min(2, os.cpu_count()))


@pytest.fixture(autouse=True)
def fresh_start():
    """Same random numbers for each test, no scope left by the last one."""
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session', autouse=True)
def quiet_logger():
    """mmengine logs every initialised parameter; keep warnings only."""
    MMLogger.get_instance('mmengine', log_level=logging.WARNING)
