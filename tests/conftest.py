import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

# Tensors of a few kilobytes gain nothing from threads.
torch.set_num_threads(1)


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
