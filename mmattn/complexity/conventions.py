"""What papers and tools have counted as parameters and as FLOPs."""
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Dict, Optional

MACS = dict(conv=1, linear=1, matmul=1)
MODULES = dict(
    conv=1, linear=1, bias=1, norm=1, other_norm=1, other_affine=1, act=1,
    pool=1, mean=1)


@dataclass(frozen=True)
class Convention:
    """One way to count.

    Args:
        about: What it counts, in one line.
        weights: How often each kind of ``OperatorCounter`` counts.
        counted: The parameters it reports: ``params``, ``trainable``,
            ``total`` or ``called``.
        base: A thousand as it prints one: M is its square, G its cube.
    """
    about: str
    weights: Dict[str, int] = field(default_factory=lambda: MACS)
    counted: str = 'params'
    base: int = 1000


TABLE = {
    'macs':
    Convention('all parameters; multiply-accumulates of convolutions, '
               'linear layers and matrix products'),
    'trainable':
    Convention('parameters that train, without frozen stages; FLOPs as macs',
               counted='trainable'),
    'with-stats':
    Convention('parameters and the running mean and variance of norms; '
               'FLOPs as macs', counted='total'),
    'binary':
    Convention('as macs, with M = 2^20 and G = 2^30', base=1024),
    'twice':
    Convention('all parameters; every multiply-accumulate as two FLOPs',
               dict(conv=2, linear=2, matmul=2)),
    'fvcore':
    Convention(
        'all parameters; macs, 2 for each element of a batch norm and 5 of '
        'another norm, global and adaptive means, resizing',
        dict(MACS, norm=1, other_norm=4, other_affine=1, mean=1, resize=1,
             **{'hidden mean': 1})),
    'mmcv':
    Convention(
        'mmcv 1.x: parameters that train; convolutions with biases, linear '
        'layers, 2 for each element of a norm, ReLU outputs, pooling inputs; '
        'no other matrix products, nothing a toolbox calls as a function',
        MODULES, counted='trainable'),
    'per-call':
    Convention(
        'SDA-xNet\'s tool: parameters once for each call of their module; '
        'convolutions and linear layers, and their biases once a call',
        dict(conv=1, linear=1, **{'called bias': 1}), counted='called'),
    'thop':
    Convention(
        'ECA-Net\'s tool: all parameters; convolutions, 2 for each '
        'multiply-accumulate of a linear layer and 4 for each element of a '
        'batch norm, ReLU outputs, pooling inputs; M = 2^20, G = 2^30',
        dict(conv=1, linear=2, norm=2, act=1, pool=1, mean=1), base=1024),
}

# The name of each convention and what it counts.
CONVENTIONS = {name: rule.about for name, rule in TABLE.items()}


def find(name: str) -> Convention:
    """The convention of that name; ValueError with all names if none is."""
    if name not in TABLE:
        raise ValueError(f'there is no convention {name!r}; known are '
                         f'{", ".join(TABLE)}')
    return TABLE[name]


def reproduces(value: int, printed: str, base: int = 1000) -> Optional[str]:
    """How a count gives a printed figure: ``'rounded'``, ``'truncated'``.

    Args:
        value: The count.
        printed: A number and ``M`` or ``G``, as ``25.56M`` or ``300M``; a
            whole number that ends with a zero is taken as rounded to tens.
        base: A thousand as it is printed.

    Returns:
        None if neither rounding nor truncating gives the figure.

    Raises:
        ValueError: ``printed`` is not of that form.
    """
    digits, unit = printed[:-1], printed[-1:]
    if unit not in ('M', 'G') or not digits.replace('.', '', 1).isdigit():
        raise ValueError(f"{printed!r} is not a number with M or G behind it")
    figure = Decimal(digits)
    places = len(digits.partition('.')[2])
    tens = not places and digits.endswith('0')
    step = Decimal(10)**(1 if tens else -places)
    exact = Decimal(value) / base**(2 if unit == 'M' else 3) / step
    for how, rounding in (('rounded', ROUND_HALF_UP),
                          ('truncated', ROUND_DOWN)):
        if exact.quantize(Decimal(1), rounding) * step == figure:
            return how
    return None
