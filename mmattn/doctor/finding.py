"""What a check says, and how checks are run."""
from dataclasses import dataclass
from typing import Any, Callable, Iterable, List

FATAL, WARNING, OK = 'fatal', 'warning', 'ok'


@dataclass(frozen=True)
class Finding:
    """One result of one check.

    Args:
        severity: ``'fatal'``: a run ends in an error; ``'warning'``: it goes
            on and gives something other than asked for, or may fail;
            ``'ok'``: information.
        check: What was looked at.
        message: What was found, one sentence.
        fix: What to do about it, one sentence; empty where nothing is.
    """
    severity: str
    check: str
    message: str
    fix: str = ''


def one_line(error: BaseException) -> str:
    """Type and message of an exception, without line breaks."""
    return ' '.join(f'{type(error).__name__}: {error}'.split())


def run_checks(checks: Iterable[Callable[..., List[Finding]]],
               *args: Any) -> List[Finding]:
    """Call each check; an exception of one becomes a finding of its own."""
    findings = []
    for check in checks:
        try:
            findings += check(*args)
        except Exception as error:
            findings.append(
                Finding(
                    WARNING, check.__name__.replace('check_', ''),
                    f'this check broke off: {one_line(error)}',
                    'the other checks are not affected; report it as a bug '
                    'of mmattn'))
    return findings
